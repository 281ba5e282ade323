"""Activations: computed once per distinct image, kept, and shared."""

from transferclf.features.extraction import extract
from transferclf.features.store import FeatureStore, shared_store

__all__ = ["FeatureStore", "extract", "shared_store"]
