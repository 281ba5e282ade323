"""Reading every image of a folder once, to find those that cannot be used."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from transferclf._checks import check_choice, check_flag
from transferclf.datasets.trees import LabelledImage
from transferclf.exceptions import InvalidParameterError, warn
from transferclf.images.loading import failures
from transferclf.images.problems import Problem, problem_lines, raise_problems
from transferclf.images.source import ImageSource


def check_verification(verify: object, on_error: object) -> None:
    """Raise InvalidParameterError unless images can be verified so."""
    check_flag("verify", verify)
    check_choice("on_error", on_error, ("raise", "skip"))
    if on_error == "skip" and not verify:
        raise InvalidParameterError(
            "on_error='skip' leaves out images that are found by reading all of them: set "
            "verify=True. Got verify=False."
        )


def readable(
    images: Sequence[LabelledImage], on_error: str
) -> tuple[list[LabelledImage], list[LabelledImage]]:
    """Decode all images; return those that can be used, and the others, of which a warning tells.

    An ImageError is raised if there are others and `on_error` is "raise", or a class has no image
    left.
    """
    source = ImageSource([str(image.file) for image in images], faults={})
    problems = source.note(failures(source, np.arange(len(images))))
    # Images that nobody has tried to read are not noted; see UntriedError.
    if on_error == "raise" or len(source.problems()) < len(problems):
        raise_problems(problems, len(images))
    sound = [images[index] for index in source.sound()]
    skipped = [images[problem.position] for problem in problems]
    _check_classes(sound, skipped, problems)
    if problems:
        head = f"{len(problems)} of {len(images)} images cannot be used, and are left out:"
        warn("\n".join([head, *problem_lines(problems)]))
    return sound, skipped


def _check_classes(
    sound: Sequence[LabelledImage], skipped: Sequence[LabelledImage], problems: Sequence[Problem]
) -> None:
    lost = sorted({image.label for image in skipped} - {image.label for image in sound})
    if lost:
        advice = f"Without them, no image is left of these classes: {lost}."
        raise_problems(problems, len(sound) + len(skipped), advice)
