"""The demo: what the mesh can do, shown with a shop's catalogue."""
