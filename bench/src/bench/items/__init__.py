"""What items cost, through the chain and without it."""
