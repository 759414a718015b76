"""grpc.health.v1, driven by checks of what a service depends on."""
