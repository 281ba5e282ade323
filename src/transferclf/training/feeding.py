"""The rows for each call of a compiled function of training, held as a tensor or read from a file.

A thread reads the rows of the next call while the compiled function trains on those of the last.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from transferclf.features.row_file import RowFile, Rows

if TYPE_CHECKING:
    from keras import KerasTensor as Tensor

# Rows, encoded targets and weights.
Data: TypeAlias = "tuple[Tensor | RowFile, Tensor | np.ndarray, Tensor | np.ndarray]"

# Bytes of rows from a file that one call may take. There are up to three times as many in memory:
# those that are trained on, those that are read, and a copy while they become a tensor.
READ_AT_ONCE = 2**25


def data_of(rows: Rows, targets: np.ndarray, weights: np.ndarray) -> Data:
    """Return tensors of rows, targets and weights, or arrays of the last two for rows in a file."""
    from keras import ops

    from transferclf.engines.backend import tensor_of

    if isinstance(rows, RowFile):
        return rows, targets, weights.astype(np.float32)
    if rows.dtype != np.uint8:
        rows = rows.astype(np.float32, copy=False)
    return (
        tensor_of(rows),
        ops.convert_to_tensor(targets),
        ops.convert_to_tensor(weights, "float32"),
    )


def batches_per_call(data: Data, batch_size: int, most: int) -> int:
    """Return how many batches one call takes: at most `most`, and of a file not too many bytes."""
    rows = data[0]
    if not isinstance(rows, RowFile):
        return most
    return max(1, min(most, READ_AT_ONCE // max(1, batch_size * rows.row_bytes)))


def fed(
    data: Data, orders: Sequence[np.ndarray]
) -> Generator[tuple[Tensor, Tensor, Tensor, np.ndarray], None, None]:
    """Yield rows, targets and weights for each call, and the numbers of the rows that it takes.

    `orders` are the numbers of the rows among all. From a file come only the rows of the call.
    """
    rows, targets, weights = data
    if not isinstance(rows, RowFile):
        for order in orders:
            yield rows, targets, weights, order
        return
    for order, read in zip(orders, _read_ahead(rows, orders), strict=True):
        numbers = np.arange(len(order), dtype=np.int32)
        yield *data_of(read, targets[order], weights[order]), numbers


def _read_ahead(rows: RowFile, orders: Sequence[np.ndarray]) -> Generator[np.ndarray, None, None]:
    """Yield the rows of each order, while a thread reads those of the next."""
    # At the end, or after an error, the thread is waited for: then the file may be closed.
    with ThreadPoolExecutor(1, thread_name_prefix="transferclf-rows") as pool:
        coming = pool.submit(rows.__getitem__, orders[0]) if orders else None
        for following in [*orders[1:], None]:
            if coming is None:
                return
            read = coming.result()
            coming = None if following is None else pool.submit(rows.__getitem__, following)
            yield read
