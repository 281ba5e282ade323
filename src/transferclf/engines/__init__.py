"""Engines run frozen networks."""
