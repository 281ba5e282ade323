"""One error for all images at fault."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from transferclf.exceptions import ImageError, ImageReadError, MissingImageError

# How many images of one kind of fault, and how many kinds, the message names.
NAMED = 5
KINDS_NAMED = 20

_TO_GO_ON = (
    "To go on without them, catch this error: its `indices` are their positions "
    "(np.delete(y, error.indices) leaves the labels of the others), and its `problems` say what is "
    "wrong with each. Estimators with on_error='skip' leave such images out."
)

# Faults that differ only in numbers, quoted texts or representations of objects are one kind.
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


def raise_problems(problems: Sequence[Problem], total: int, advice: str | None = None) -> None:
    """Raise one error about all `problems`, if there are any, among `total` images.

    The message has one line for each kind of fault, with the first few images, and ends in
    `advice`; None says how to go on without these images. The attributes `indices` and `problems`
    hold all of them.
    """
    if not problems:
        return
    kinds = {type(problem.error) for problem in problems}
    kind = ImageError
    if all(issubclass(each, MissingImageError) for each in kinds):
        kind = MissingImageError
    elif any(issubclass(each, ImageReadError) for each in kinds):
        kind = ImageReadError
    if advice is None:
        advice = _TO_GO_ON if len(problems) < total else ""
    lines = [f"{len(problems)} of {total} images cannot be used:", *problem_lines(problems)]
    error = kind("\n".join([*lines, advice] if advice else lines))
    error.indices = [problem.position for problem in problems]
    error.problems = [f"image {problem.place}: {problem.error}" for problem in problems]
    raise error


def problem_lines(problems: Sequence[Problem]) -> list[str]:
    """Return one line for each kind of fault, with the first few images."""
    groups: dict[str, list[Problem]] = {}
    for problem in problems:
        groups.setdefault(_DETAIL.sub("#", str(problem.error)), []).append(problem)
    shown = list(groups.values())[:KINDS_NAMED]
    lines = []
    for first, *others in shown:
        if not others:
            lines.append(f"  image {first.place}: {first.error}")
            continue
        places = ", ".join(problem.place for problem in [first, *others][:NAMED])
        more = ", ..." if len(others) >= NAMED else ""
        is_one_text = all(str(other.error) == str(first.error) for other in others)
        of_first = "" if is_one_text else f" (this is of image {first.position})"
        lines.append(f"  {1 + len(others)} images: {places}{more}: {first.error}{of_first}")
    left = len(problems) - sum(map(len, shown))
    if left:
        lines.append(f"  {left} images more: other faults")
    return lines
