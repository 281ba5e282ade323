"""What runs a network that no longer changes."""
