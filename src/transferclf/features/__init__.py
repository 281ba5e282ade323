"""Activations: computed once per distinct image, kept, and shared."""

from transferclf.features.extraction import extract, extract_from_cut
from transferclf.features.store import FeatureStore, shared_store, store_for

__all__ = ["FeatureStore", "extract", "extract_from_cut", "shared_store", "store_for"]
