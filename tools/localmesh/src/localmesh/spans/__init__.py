"""The spans of the mesh, kept in memory so that one can look at a call's whole way."""
