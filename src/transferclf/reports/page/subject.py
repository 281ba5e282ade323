"""What a page is about, computed once for all of its sections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import Element

from transferclf.images import ImageSource
from transferclf.reports.evaluation import Evaluation
from transferclf.reports.page.elements import element

if TYPE_CHECKING:
    from transferclf.estimators.classifier import TransferClassifier


@dataclass(frozen=True)
class Subject:
    """A fitted classifier and what it says of some images.

    Attributes
    ----------
    estimator : estimator
        As it was given.
    X : array-like or sequence, n of them
        As it was given.
    evaluation : Evaluation
        What it predicts, and how good that is.
    images : ImageSource or None
        X as images to be shown, if it is that.
    no_images : str
        Why not.
    steps : list of Pipeline
        What X goes through before it gets to the classifier with a network.
    classifier : TransferClassifier or None
        The classifier with a network, if there is one.
    n_images : int
        How many images are shown of each kind, at most.
    audit : bool
        Whether to look at the data themselves.
    """

    estimator: Any
    X: Any
    evaluation: Evaluation
    images: ImageSource | None
    no_images: str
    steps: list[Any]
    classifier: TransferClassifier | None
    n_images: int
    audit: bool

    @property
    def name(self) -> str:
        """Of the estimator's class, with what is inside of it."""
        outer = type(self.estimator).__name__
        inner = outer if self.classifier is None else type(self.classifier).__name__
        return outer if outer == inner else f"{inner} in {outer}"


def note(text: str) -> Element:
    """A remark, such as why a section is empty."""
    return element("p", text, class_="note")


def needs_network(subject: Subject, what: str) -> Element:
    """The remark that an estimator has no network to look into."""
    kind = type(subject.estimator).__name__
    return note(f"Left out: {what} needs a TransferClassifier, and {kind} is or has none.")
