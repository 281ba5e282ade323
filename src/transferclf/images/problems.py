"""Several images at fault make one error that tells about them all."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from transferclf.exceptions import ImageError, ImageReadError, MissingImageError

# How many images of a kind of fault, and how many kinds, the message names.
NAMED = 5
KINDS_NAMED = 20

# Faults that differ only in numbers, quoted texts or representations of objects are of one kind.
_DETAIL = re.compile(r"<[^>]*>|'[^']*'|\"[^\"]*\"|[-+]?\b\d[\d.]*(e[-+]?\d+)?\b")


class Problem(NamedTuple):
    """One image at fault: its position in the caller's X, the error, and the path of its file."""

    position: int
    error: ImageError
    path: str | None = None

    @property
    def place(self) -> str:
        """The position, and the path if there is one."""
        return f"{self.position} ({self.path})" if self.path is not None else str(self.position)


def raise_problems(problems: Sequence[Problem], total: int) -> None:
    """Raise one error about all `problems`, or do nothing when there are none.

    The message has one line for each kind of fault, with the first few images. The attributes
    `indices` and `problems` hold all of them. `total` is the number of images.
    """
    if not problems:
        return
    error = _type_for(problems)("\n".join(_lines(problems, total)))
    error.indices = [problem.position for problem in problems]
    error.problems = [f"image {problem.place}: {problem.error}" for problem in problems]
    raise error


def _type_for(problems: Sequence[Problem]) -> type[ImageError]:
    kinds = {type(problem.error) for problem in problems}
    if all(issubclass(kind, MissingImageError) for kind in kinds):
        return MissingImageError
    return ImageReadError if any(issubclass(kind, ImageReadError) for kind in kinds) else ImageError


def _lines(problems: Sequence[Problem], total: int) -> list[str]:
    groups: dict[str, list[Problem]] = {}
    for problem in problems:
        groups.setdefault(_DETAIL.sub("#", str(problem.error)), []).append(problem)
    shown = list(groups.values())[:KINDS_NAMED]
    lines = [f"{len(problems)} of {total} images cannot be used:", *map(_line, shown)]
    left = len(problems) - sum(map(len, shown))
    if left:
        lines.append(f"  {left} images more: other faults")
    if len(problems) == total:
        return lines
    return [
        *lines,
        "To go on without them, catch this error: its `indices` are their positions "
        "(np.delete(y, error.indices) leaves the labels of the others), and its `problems` say "
        "what is wrong with each.",
    ]


def _line(group: Sequence[Problem]) -> str:
    first = group[0]
    if len(group) == 1:
        return f"  image {first.place}: {first.error}"
    more = ", ..." if len(group) > NAMED else ""
    places = ", ".join(problem.place for problem in group[:NAMED])
    texts = {str(problem.error) for problem in group}
    of_first = f" (this is of image {first.position})" if len(texts) > 1 else ""
    return f"  {len(group)} images: {places}{more}: {first.error}{of_first}"
