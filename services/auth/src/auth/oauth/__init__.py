"""OAuth 2.0 over HTTP: what stock clients speak."""
