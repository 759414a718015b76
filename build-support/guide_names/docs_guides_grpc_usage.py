"""The target is the reader's own."""

target: str
