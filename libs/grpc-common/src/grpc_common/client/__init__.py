"""Calling other services: channels, deadlines, retries, breakers, hedging and typed errors."""
