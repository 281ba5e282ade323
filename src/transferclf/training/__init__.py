"""Learning the suffix."""
