"""Several images at fault make one error that names them all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from transferclf.exceptions import ImageError, ImageReadError, MissingImageError


class Problem(NamedTuple):
    """One image and what is wrong with it."""

    name: str
    error: ImageError


def raise_problems(problems: Sequence[Problem], total: int) -> None:
    """Raise one error that lists all `problems`, or do nothing when there are none.

    Raises
    ------
    MissingImageError
        If all of them are missing files.
    ImageReadError
        If any of them could not be read.
    ImageError
        Otherwise.
    """
    if not problems:
        return
    kinds = [type(problem.error) for problem in problems]
    lines = [f"  {problem.name}: {problem.error}" for problem in problems]
    message = f"{len(problems)} of {total} images cannot be used:\n" + "\n".join(lines)
    if all(issubclass(kind, MissingImageError) for kind in kinds):
        raise MissingImageError(message)
    if any(issubclass(kind, ImageReadError) for kind in kinds):
        raise ImageReadError(message)
    raise ImageError(message)
