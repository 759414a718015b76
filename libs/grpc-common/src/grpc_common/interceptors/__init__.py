"""The interceptors, one per file; `grpc_common.default_chain` says their order."""
