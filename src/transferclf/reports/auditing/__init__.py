"""What is wrong with a set of images: copies, leaks, doubtful labels, odd ones out."""
