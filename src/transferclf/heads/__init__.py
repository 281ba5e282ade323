"""What is trained above the cut, and whole models of both parts."""
