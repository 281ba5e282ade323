"""Named runs that are never done twice, and which of their differences hold up."""
