"""Events written in the transaction of what they tell of, and told to others afterwards: none lost, in order."""
