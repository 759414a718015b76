"""What a message must be, compiled from the `buf.validate` options of its proto; `validator.py` is where to start."""
