"""Engines: they run networks that no longer change."""
