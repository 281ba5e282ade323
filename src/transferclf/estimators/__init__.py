"""The estimators, one file each, and their common bases."""
