"""The engine of networks that are plain functions of arrays."""

from __future__ import annotations

import numpy as np

from transferclf.engines.engine import Engine, Function


class FunctionEngine(Engine):
    """Calls the function."""

    name = "numpy"
    rank = 0
    networks = ("function",)
    is_for_auto = True
    is_offered = False  # there is no choice to make

    def compile(self, network: Function, precision: str) -> Function:
        """Return the function, with its result as an array."""
        return lambda images: np.asarray(network(images))
