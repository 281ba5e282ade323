"""Heads and other trained layers above the cut, and whole models of both parts."""
