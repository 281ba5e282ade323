"""Activations: computed once per distinct image, kept, and shared."""

from transferclf.features.store import FeatureStore, shared_store, store_for

__all__ = ["FeatureStore", "shared_store", "store_for"]
