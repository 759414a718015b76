"""The real parts the services stand on."""
