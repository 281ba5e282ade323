"""Backbones that are plain functions of arrays, such as features computed by NumPy."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from transferclf.backbones.record import Backbone
from transferclf.exceptions import NetworkError


class Identity:
    """A text that one registered function has and no other ever had, not even its copies.

    The code of a function may read anything, and may be another one where it is unpickled.
    """

    def __init__(self) -> None:
        self.text = uuid.uuid4().hex

    def __reduce__(self) -> tuple[Any, ...]:
        return Identity, ()


@dataclass(frozen=True)
class FunctionBackbone(Backbone):
    """A function from pixels (n, h, w, 3) to rows (n, d), tokens (n, t, c) or maps (n, h, w, c).

    Parameters
    ----------
    version : str or None, default=None
        Identifies the function together with the name; None is by `identity`.
    identity : Identity
        New for each registration and in each process.
    """

    version: str | None = None
    identity: Identity = field(default_factory=Identity, repr=False)

    kind: ClassVar[str] = "function"
    can_be_cut: ClassVar[bool] = False

    def network(
        self, weights: str | Path | None, size: tuple[int, int], seed: int
    ) -> Callable[[np.ndarray], np.ndarray]:
        """Return the function, which raises NetworkError where its result has another shape."""

        def checked(images: np.ndarray) -> np.ndarray:
            # A copy, because functions that scale pixels in place would change the caller's.
            result = np.array(self.build()(images.copy()), np.float32)
            if result.ndim not in (2, 3, 4) or len(result) != len(images):
                raise NetworkError(
                    f"the function of backbone {self.name!r} must return rows (n, d) or maps "
                    f"(n, h, w, c), one for each of {len(images)} images. Got {result.shape}."
                )
            return result

        return checked

    def build(self, **arguments: Any) -> Any:
        """Return the function itself."""
        return self.builder

    def facts(self) -> list[Any]:
        """Return the name and the version, or else the identity."""
        is_by_name = self.version is not None
        return [self.name, self.kind, is_by_name, self.version or self.identity.text]

    def weights_digest(self, weights: str | Path | None, size: tuple[int, int], seed: int) -> str:
        """Return the version, or nothing where there is none."""
        return self.version or ""
