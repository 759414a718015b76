"""What every Meshwork service is built on; import from the modules, so that a tool pays only for what it uses."""
