"""Fitted estimators as files that hold no code: JSON and numbers, rebuilt from our own registry."""

from transferclf.persistence.models import load_model, save_model

__all__ = ["load_model", "save_model"]
