"""Named runs that are kept and not repeated, and tests of their differences."""
