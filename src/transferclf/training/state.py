"""All that training changes, read and set in one call.

A trained network is dozens of variables, and each call of TensorFlow from Python takes as long as
some steps of training a head: one compiled function reads them all, and another sets them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


class State:
    """The values of some variables.

    Parameters
    ----------
    variables : sequence of keras.Variable
        Weights, what an optimizer remembers, states of random generators.
    n_weights : int
        How many of them are weights, which must stay finite.
    """

    def __init__(self, variables: Sequence[Any], n_weights: int):
        import keras
        from keras import ops

        from transferclf.engines.backend import compiled

        def read() -> list[Any]:
            numbers = [v for v in variables[:n_weights] if "float" in str(v.dtype)]
            finite = [ops.all(ops.isfinite(variable)) for variable in numbers]
            return [ops.all(ops.stack(finite)), *(ops.copy(v) for v in variables)]

        def write(*values: Any) -> Any:
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)
            return ops.zeros(())

        self._read = compiled(read)
        self._write = compiled(write, *(keras.KerasTensor(v.shape, v.dtype) for v in variables))

    def read(self) -> tuple[list[Any], bool]:
        """Tensors of all values, and whether all the weights are finite."""
        is_finite, *values = self._read()
        return values, bool(is_finite)

    def write(self, values: Sequence[Any]) -> None:
        """Set all values: tensors or arrays."""
        self._write(*values)


def as_arrays(values: Sequence[Any]) -> list[np.ndarray]:
    """Copies of tensors or variables as arrays."""
    import keras

    arrays = [keras.ops.convert_to_numpy(value) for value in values]
    # Some backends give a copy, others a view of what training goes on to change.
    return [array if array.flags.owndata else array.copy() for array in arrays]
