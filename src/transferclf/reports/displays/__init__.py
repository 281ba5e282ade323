"""Displays in the pattern of scikit-learn; matplotlib is imported when something is drawn."""
