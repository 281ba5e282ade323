"""One HTML file about a classifier."""
