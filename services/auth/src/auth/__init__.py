"""The auth service: who somebody is, and the tokens that prove it."""
