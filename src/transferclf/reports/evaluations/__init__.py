"""The measures of each kind of target."""
