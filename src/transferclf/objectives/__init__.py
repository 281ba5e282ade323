"""Kinds of targets, and everything in training and prediction that depends on them."""

from transferclf.objectives.base import Objective
from transferclf.objectives.classes import Classes
from transferclf.objectives.multilabel import MultiLabel
from transferclf.objectives.numbers import Numbers
from transferclf.objectives.registry import (
    announced,
    kinds,
    objective_for,
    register_objective,
    restored_objective,
)

__all__ = [
    "Classes",
    "MultiLabel",
    "Numbers",
    "Objective",
    "announced",
    "kinds",
    "objective_for",
    "register_objective",
    "restored_objective",
]
