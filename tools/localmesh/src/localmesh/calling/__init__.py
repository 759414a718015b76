"""Calls by hand: what a service offers, asked of itself, and messages as JSON."""
