"""What the mesh is to do, said once and in no proxy's words: Envoy's configuration is one rendering of it."""
