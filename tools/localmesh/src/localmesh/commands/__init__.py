"""The commands of `./mesh`, one each."""
