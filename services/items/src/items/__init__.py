"""The items service: the stock of a shop."""
