"""Backbones that are plain functions of arrays, such as features computed by NumPy."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np

from transferclf.backbones.record import Backbone
from transferclf.exceptions import NetworkError

Function = Callable[[np.ndarray], np.ndarray]


class Identity:
    """A text that one registered function has and no other ever had, not even its copies.

    The code of a function may read anything, and may have changed when it is unpickled.
    """

    def __init__(self) -> None:
        self.text = uuid.uuid4().hex

    def __reduce__(self) -> tuple[type[Identity], tuple[()]]:
        return Identity, ()


@dataclass(frozen=True)
class FunctionBackbone(Backbone):
    """A function from pixels (n, h, w, 3) to rows (n, d), tokens (n, t, c) or maps (n, h, w, c).

    Its name and `version` identify it. If `version` is None, `identity` does, which is new for each
    registration and in each process.
    """

    version: str | None = None
    identity: Identity = field(default_factory=Identity, repr=False)

    kind: ClassVar[str] = "function"
    can_be_cut: ClassVar[bool] = False

    def network(self, weights: str | Path | None, size: tuple[int, int], seed: int) -> Function:
        """Return the function, which raises NetworkError if its result has a wrong shape."""

        def checked(images: np.ndarray) -> np.ndarray:
            # A copy, because a function may scale pixels in place.
            result = np.array(self.build()(images.copy()), np.float32)
            if result.ndim not in (2, 3, 4) or len(result) != len(images):
                raise NetworkError(
                    f"the function of backbone {self.name!r} must return rows (n, d) or maps "
                    f"(n, h, w, c), one for each of {len(images)} images. Got {result.shape}."
                )
            return result

        return checked

    def build(self, **arguments: object) -> Function:
        """Return the function itself."""
        assert callable(self.builder)
        return self.builder

    def facts(self) -> list[object]:
        """Return the name, and the version or the identity."""
        is_by_name = self.version is not None
        return [self.name, self.kind, is_by_name, self.version or self.identity.text]

    def weights_digest(self, weights: str | Path | None, size: tuple[int, int], seed: int) -> str:
        """Return the version, or "" if there is none."""
        return self.version or ""
