"""Attributes of the kinds of animals in the folder `caltech_animals35`, as labels of photos."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

NAMES = ("quadruped", "flies", "in water", "hard shell", "fur", "feathers", "predator", "spotted")

# Which of NAMES each kind has, as it is seen in most photographs.
OF_KIND = {
    "Leopards": {"quadruped", "fur", "predator", "spotted"},
    "ant": {"hard shell"},
    "bass": {"in water", "predator"},
    "beaver": {"quadruped", "in water", "fur"},
    "butterfly": {"flies", "spotted"},
    "cougar_body": {"quadruped", "fur", "predator"},
    "crab": {"in water", "hard shell"},
    "crayfish": {"in water", "hard shell"},
    "crocodile": {"quadruped", "in water", "predator"},
    "dalmatian": {"quadruped", "fur", "spotted"},
    "dolphin": {"in water", "predator"},
    "dragonfly": {"flies", "predator"},
    "elephant": {"quadruped"},
    "emu": {"feathers"},
    "flamingo": {"flies", "in water", "feathers"},
    "gerenuk": {"quadruped", "fur"},
    "hawksbill": {"in water", "hard shell", "spotted"},
    "hedgehog": {"quadruped"},
    "ibis": {"flies", "feathers"},
    "kangaroo": {"fur"},
    "llama": {"quadruped", "fur"},
    "lobster": {"in water", "hard shell"},
    "nautilus": {"in water", "hard shell", "predator"},
    "octopus": {"in water", "predator"},
    "okapi": {"quadruped", "fur"},
    "panda": {"quadruped", "fur"},
    "pigeon": {"flies", "feathers"},
    "platypus": {"quadruped", "in water", "fur"},
    "rhino": {"quadruped"},
    "rooster": {"feathers"},
    "scorpion": {"hard shell", "predator"},
    "sea_horse": {"in water"},
    "starfish": {"in water"},
    "tick": {"hard shell"},
    "wild_cat": {"quadruped", "fur", "predator"},
}


def attributes_of(kinds: Iterable[str]) -> np.ndarray:
    """Return a table of 0 and 1: a row for each of the kinds, and a column for each of NAMES."""
    return np.array([[name in OF_KIND[kind] for name in NAMES] for kind in kinds], dtype=int)
