"""The subject of a page, computed once for all of its sections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sklearn.pipeline import Pipeline

from transferclf.estimators.transfer import TransferEstimator
from transferclf.images import ImageSource
from transferclf.reports.displays.figures import picture as pixels_of
from transferclf.reports.evaluations.numbers import RegressionEvaluation
from transferclf.reports.page.rendering import Embedded, picture

# The values that a section gives to its template. A "note" replaces the whole section.
Content = Mapping[str, object]

SIDE = 192  # longer side of a picture, in pixels of the file


@dataclass(frozen=True)
class Subject:
    """A fitted estimator with its predictions for some images."""

    estimator: object
    X: object
    evaluation: Any  # of the kind of target
    images: ImageSource | None
    no_images: str
    steps: list[Pipeline]
    classifier: TransferEstimator | None
    n_images: int
    audit: bool

    @property
    def kind(self) -> str:
        """The class of the estimator."""
        return type(self.estimator).__name__

    @property
    def name(self) -> str:
        """The class of the estimator, and that of the estimator inside of it."""
        inner = self.kind if self.classifier is None else type(self.classifier).__name__
        return self.kind if self.kind == inner else f"{inner} in {self.kind}"

    def needs_network(self, what: str) -> Content:
        """Return the note that the estimator has no network."""
        is_of_numbers = isinstance(self.evaluation, RegressionEvaluation)
        needed = "TransferRegressor" if is_of_numbers else "TransferClassifier"
        return note(f"Left out: {what} needs a {needed}, and {self.kind} is or has none.")

    def picture(self, index: int, alt: str) -> Embedded:
        """Return one of the images for the page."""
        assert self.images is not None
        return picture(pixels_of(self.images, index, SIDE), alt, SIDE)

    def image_name(self, index: int) -> str:
        """Return the file of an image with its folder, or its number."""
        assert self.images is not None
        name = self.images.name(index)
        if name is None:
            return f"image {index}"
        # The folder often names the class. The rest of the path may be private.
        return "/".join(name.replace("\\", "/").split("/")[-2:])


def note(text: str) -> Content:
    """Return a remark in the place of a section."""
    return {"note": text}
