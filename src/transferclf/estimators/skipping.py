"""Going on without images that cannot be used: on_error="skip".

Images may prove to be at fault late: the header of a damaged file is often fine. All reading notes
what it finds in the faults of the ImageSource. What was read is then done again without these
images, so that the result is the same as if they had never been in X. Activations that were stored
meanwhile are not computed again. Without faults, nothing is read for this twice.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from sklearn.utils import check_consistent_length

from transferclf._checks import check_choice
from transferclf.estimators.wrapped import taken
from transferclf.exceptions import ImageError, warn
from transferclf.images import ImageSource, check_images
from transferclf.images.checking import ImageShape
from transferclf.images.inputs import look_over
from transferclf.images.pixels import PixelRange
from transferclf.images.problems import problem_lines, raise_problems
from transferclf.objectives import Objective

OnError = Literal["raise", "skip"]
ON_ERROR = ("raise", "skip")

T = TypeVar("T")
AnyObjective = TypeVar("AnyObjective", bound=Objective)

# Returns the objective and the encoded targets of y, given the number and weights of the images.
Encode = Callable[[object, int, np.ndarray], tuple[AnyObjective, np.ndarray]]


def checked_images(
    X: object, on_error: object, image_shape: ImageShape, pixel_range: PixelRange
) -> ImageSource:
    """Return the images in X. Those at fault are an error, or are noted if they are skipped."""
    check_choice("on_error", on_error, ON_ERROR)
    check = look_over if on_error == "skip" else check_images
    return check(X, image_shape=image_shape, pixel_range=pixel_range)


def read_sound(read: Callable[[], T], sources: Sequence[ImageSource], on_error: object) -> T:
    """Return what `read` returns; call it again as long as it finds more images at fault.

    `read` leaves out the images of `sources` whose faults are known.
    """
    while True:
        n_known = sum(len(source.faults or ()) for source in sources)
        try:
            return read()
        except ImageError:
            n_faults = sum(len(source.faults or ()) for source in sources)
            if on_error != "skip" or n_faults == n_known:
                raise


@dataclass(frozen=True)
class Sound:
    """The images that are not skipped: `positions` are theirs among the given, int, ascending."""

    given: ImageSource
    positions: np.ndarray

    @classmethod
    def of(cls, given: ImageSource, on_error: object, *, at_least: int = 1) -> Sound:
        """Return the images that are not to be skipped; ImageError if these are too few."""
        sound = given.sound() if on_error == "skip" else np.arange(len(given))
        if len(sound) < at_least:
            raise_problems(given.problems(), len(given))
        return cls(given, sound)

    @property
    def source(self) -> ImageSource:
        """These images."""
        return self.given if self.are_all else self.given[self.positions]

    @property
    def are_all(self) -> bool:
        """Whether no image is left out."""
        return len(self.positions) == len(self.given)

    @property
    def skipped(self) -> np.ndarray:
        """The positions of the other images, ascending."""
        return np.setdiff1d(np.arange(len(self.given)), self.positions)

    def part(self, values: Any) -> Any:
        """Return the values of these images, given those of all images; None stays None."""
        if self.are_all or values is None:
            return values
        check_consistent_length(self.given, values)
        return taken(values, self.positions)

    def encoded(
        self, encode: Encode[AnyObjective], y: object, weights: np.ndarray
    ) -> tuple[AnyObjective, np.ndarray]:
        """Return the objective and the encoded targets of these images.

        y and `weights` are those of all images. ImageError is raised if classes have no image left.
        """
        if self.are_all:
            return encode(y, len(self.given), weights)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # those of the second time count
            every, _ = encode(y, len(self.given), weights)
        rest = self.part(y), len(self.positions), self.part(weights)
        try:
            objective, targets = encode(*rest)
        except ValueError as error:
            self._refuse(f"The others are not enough: {error}")
            raise
        if not objective.is_same(every):
            left = objective.output_names().tolist()
            lost = [name for name in every.output_names().tolist() if name not in left]
            self._refuse(f"Without them, no image is left of these {every.outputs}: {lost}.")
        return objective, targets

    def _refuse(self, reason: str) -> None:
        raise_problems(self.given.problems(), len(self.given), advice=reason)


def fit_to_sound(
    estimator: Any,
    fit: Callable[..., None],
    source: ImageSource,
    validation: ImageSource | None = None,
) -> None:
    """Call `fit` with the images that are not to be skipped, and those for validation if given.

    Each call finds the estimator as it was before the first. One warning names the skipped images.
    """
    before = dict(estimator.__dict__)
    sources = [source] if validation is None else [source, validation]

    def attempt() -> list[Sound]:
        estimator.__dict__ = dict(before)
        sound = [Sound.of(each, estimator.on_error) for each in sources]
        fit(*sound)
        return sound

    sound = read_sound(attempt, sources, estimator.on_error)
    advice = "`skipped_indices_` has the positions of those in X."
    warn_of_skipped(*zip(("X", "validation_data"), sound, strict=False), advice=advice)


def warn_of_skipped(*sources: tuple[str, Sound], advice: str = "") -> None:
    """Give one warning that names the skipped images of all these sources.

    Each comes with its name, such as "X".
    """
    lines = []
    for name, sound in sources:
        if not sound.are_all:
            problems, total = sound.given.problems(), len(sound.given)
            lines.append(f"{len(problems)} of {total} images of {name} are left out:")
            lines += problem_lines(problems)
    if lines:
        warn("\n".join([*lines, advice] if advice else lines))


def rows_of_all(
    estimator: Any, function: Callable[[ImageSource], np.ndarray], X: object
) -> np.ndarray:
    """Return what a function gives for each image in X, and NaN for those that are skipped.

    A warning names these, unless they are noted in X.
    """
    rows, sound = rows_of_sound(estimator, function, X)
    if sound.are_all:
        return rows
    warn_of_nan(X, sound)
    dtype = np.result_type(rows.dtype, np.float16)
    result = np.full((len(sound.given), *rows.shape[1:]), np.nan, dtype)
    result[sound.positions] = rows
    return result


def warn_of_nan(X: object, sound: Sound) -> None:
    """Give one warning that names the images in X that are skipped, unless they are noted in X."""
    if not sound.are_all and not is_noted(X):
        problems = sound.given.problems()
        head = f"{len(problems)} of {len(sound.given)} images cannot be used, and get NaN:"
        warn("\n".join([head, *problem_lines(problems)]))


def is_noted(X: object) -> bool:
    """Whether X is an ImageSource in which an estimator notes the images at fault."""
    return isinstance(X, ImageSource) and X.faults is not None


def rows_of_sound(
    estimator: Any, function: Callable[[ImageSource], np.ndarray], X: object
) -> tuple[np.ndarray, Sound]:
    """Return what a function gives for each image in X that is not skipped, and these images."""
    return of_sound(estimator, lambda sound: function(sound.source), X)


def of_sound(estimator: Any, function: Callable[[Sound], T], X: object) -> tuple[T, Sound]:
    """Return what a function gives for the images in X that are not skipped, and these images."""
    on_error = estimator.on_error
    source = estimator._source_of(X, on_error)

    def read() -> tuple[T, Sound]:
        sound = Sound.of(source, on_error, at_least=0)
        return function(sound), sound

    return read_sound(read, [source], on_error)


def to_score(estimator: Any, X: object, *values: object) -> tuple[np.ndarray, Sequence[Any]]:
    """Return the predictions of the images that are not skipped, and the values of these images."""
    if estimator.on_error != "skip":
        return estimator.predict(X), values
    source = estimator._source_of(X, "skip")

    def read() -> tuple[np.ndarray, Sound]:
        sound = Sound.of(source, "skip")
        predicted = estimator.predict(sound.source)
        # Those of images whose faults were found meanwhile are NaN.
        rest = Sound.of(source, "skip")
        return predicted[np.isin(sound.positions, rest.positions)], rest

    predicted, sound = read_sound(read, [source], "skip")
    warn_of_skipped(("X", sound))
    return predicted, [sound.part(each) for each in values]
