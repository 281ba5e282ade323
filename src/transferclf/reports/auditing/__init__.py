"""Faults of a set of images: copies, leaks, doubtful labels, odd ones out."""
