"""The subject of a page, computed once for all of its sections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

from transferclf.estimators.classifier import TransferClassifier
from transferclf.images import ImageSource
from transferclf.reports.displays.pictures import picture as pixels_of
from transferclf.reports.evaluation import Evaluation
from transferclf.reports.page.rendering import Embedded, picture

# The values that a section gives to its template. A "note" replaces the whole section.
Content = Mapping[str, Any]

# Longer side of a picture, in pixels of the file.
SIDE = 192


@dataclass(frozen=True)
class Subject:
    """A fitted classifier with its predictions for some images."""

    estimator: Any
    X: Any
    evaluation: Evaluation
    images: ImageSource | None
    no_images: str
    steps: list[Pipeline]
    classifier: TransferClassifier | None
    n_images: int
    audit: bool

    @property
    def kind(self) -> str:
        """The class of the estimator."""
        return type(self.estimator).__name__

    @property
    def name(self) -> str:
        """The class of the estimator, and of the classifier inside of it."""
        inner = self.kind if self.classifier is None else type(self.classifier).__name__
        return self.kind if self.kind == inner else f"{inner} in {self.kind}"

    def needs_network(self, what: str) -> Content:
        """The note that the estimator has no network to look into."""
        return note(f"Left out: {what} needs a TransferClassifier, and {self.kind} is or has none.")

    def column(self, label: object) -> int:
        """The column of a class in `y_proba`."""
        return int(np.flatnonzero(self.evaluation.classes == label)[0])

    def picture(self, index: int, alt: str) -> Embedded:
        """One of the images for the page."""
        assert self.images is not None
        return picture(pixels_of(self.images, index, SIDE), alt, SIDE)

    def image_name(self, index: int) -> str:
        """The file of an image with the folder that it is in, or its number."""
        assert self.images is not None
        item = self.images.item(index)
        if not isinstance(item, str):
            return f"image {index}"
        # The folder is mostly that of the class; the rest says where someone keeps files.
        return "/".join(item.replace("\\", "/").split("/")[-2:])


def note(text: str) -> Content:
    """A remark in the place of a section."""
    return {"note": text}
