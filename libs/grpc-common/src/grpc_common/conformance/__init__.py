"""A conformance matrix for `grpc.aio` server interceptors: every kind and style of handler times every ending."""
