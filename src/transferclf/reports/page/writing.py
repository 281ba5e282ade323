"""report: all there is to see of a fitted classifier on one page that needs nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from transferclf._checks import check_flag, check_number
from transferclf.exceptions import ImageError, InvalidParameterError
from transferclf.persistence.archive import replaced
from transferclf.reports.displays.figures import pyplot
from transferclf.reports.displays.pictures import pictures_of
from transferclf.reports.evaluation import evaluate
from transferclf.reports.names import count_text, short_name
from transferclf.reports.page.audited import audit_section
from transferclf.reports.page.elements import element, page
from transferclf.reports.page.images import (
    embedding_section,
    gradcam_section,
    pictures_section,
)
from transferclf.reports.page.measures import (
    balance_section,
    calibration_section,
    confusion_section,
    per_class_section,
    summary_section,
)
from transferclf.reports.page.setting import (
    classifier_section,
    environment_section,
    history_section,
)
from transferclf.reports.page.subject import Subject
from transferclf.reports.predictions import transfer_classifier

TITLE_WIDTH = 120

# What the page has, in this order: an id, a heading, and what makes what is below it.
SECTIONS: tuple[tuple[str, str, Callable[[Subject], list[Element]]], ...] = (
    ("summary", "Summary", summary_section),
    ("classes", "Class by class", per_class_section),
    ("confusion", "What is taken for what", confusion_section),
    ("errors", "Images to look at", pictures_section),
    ("gradcam", "Where the network looks", gradcam_section),
    ("calibration", "How far to trust the probabilities", calibration_section),
    ("history", "Training", history_section),
    ("embedding", "How the network sees the images", embedding_section),
    ("balance", "Images of each class", balance_section),
    ("audit", "The data themselves", audit_section),
    ("classifier", "Parameters", classifier_section),
    ("environment", "Versions", environment_section),
)


def report(
    estimator: Any,
    X: Any,
    y: Any,
    path: str | os.PathLike[str],
    *,
    title: str | None = None,
    n_images: int = 12,
    audit: bool = True,
) -> None:
    """Write a page about a fitted classifier: how good it is, where it errs, and on what data.

    One HTML file that opens without a network, has no script, and fetches nothing. Names of
    classes and files are shown as text, whatever they are. The images are predicted once.

    Parameters
    ----------
    estimator : estimator
        A fitted classifier. Training, embedding, heat maps and the look at the data need a
        TransferClassifier, also in a pipeline or a search; for others the page says so.
    X : array-like or sequence of images, n of them
        Whatever the estimator takes; best images that it was not fitted to.
    y : array-like of shape (n,)
        The true labels.
    path : str or path-like
        The file; its folder must be there. It takes the place of one that is there when it is
        complete.
    title : str or None, default=None
        Heading of the page; None is made of the estimator's name.
    n_images : int, default=12
        How many images are shown of each kind, at most.
    audit : bool, default=True
        Whether to look for copies and likely wrong labels among the images, which takes a while
        for many images.

    Raises
    ------
    InvalidParameterError
        If the estimator is no classifier, or a parameter has a value that it cannot have.
    sklearn.exceptions.NotFittedError
        If it is not fitted.
    ValueError
        If y has not one known label per image.
    ImageError
        If images cannot be read.
    OSError
        If there is no such folder, or the file cannot be written.
    ImportError
        If matplotlib is not installed.

    See Also
    --------
    transferclf.reports.evaluate : The numbers alone.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn.datasets import load_digits
    >>> from transferclf import TransferClassifier
    >>> from transferclf.reports import report
    >>> digits = load_digits()
    >>> classifier = TransferClassifier("tiny", pixel_range=(0, 16))
    >>> classifier = classifier.fit(digits.images[:100], digits.target[:100])
    >>> path = Path(tempfile.mkdtemp(), "digits.html")
    >>> report(classifier, digits.images[100:150], digits.target[100:150], path)
    >>> path.read_text().startswith("<!DOCTYPE html>")
    True
    """
    place = _checked_place(path)
    _check_options(title, n_images, audit)
    pyplot()  # of which the lack is better told before long work than after it
    subject = _subject(estimator, X, y, n_images, audit)
    heading = short_name(title or f"Report on {subject.name}", TITLE_WIDTH)
    sections = [
        element("section", element("h2", heading), *contents(subject), id=name)
        for name, heading, contents in SECTIONS
    ]
    content = page(heading, [_subtitle(subject)], sections)
    with replaced(place) as file:
        file.write(content)


def _checked_place(path: Any) -> Path:
    place = Path(path)
    if place.is_dir():
        raise IsADirectoryError(f"path must be a file. Got the folder {place} instead.")
    if not place.parent.is_dir():
        raise FileNotFoundError(f"path must be in a folder that is there. {place.parent} is not.")
    return place


def _check_options(title: Any, n_images: Any, audit: Any) -> None:
    if title is not None and not isinstance(title, str):
        raise InvalidParameterError(f"title must be a text or None. Got {title!r} instead.")
    check_flag("audit", audit)
    check_number("n_images", n_images, 1, whole=True)


def _subject(estimator: Any, X: Any, y: Any, n_images: int, audit: bool) -> Subject:
    evaluation = evaluate(estimator, X, y)
    images, no_images = None, ""
    steps: list[Any] = []
    classifier = None
    try:
        images = pictures_of(estimator, X)
    except ImageError:
        no_images = "X is no images, so that none can be shown."
    with suppress(InvalidParameterError):
        steps, classifier = transfer_classifier(estimator)
    return Subject(estimator, X, evaluation, images, no_images, steps, classifier, n_images, audit)


def _subtitle(subject: Subject) -> str:
    evaluation, now = subject.evaluation, datetime.now().astimezone()
    n_classes = count_text(len(evaluation.classes), "class", "classes")
    images = count_text(evaluation.n_samples, "image")
    return f"{images}, {n_classes}. Written on {now.day} {now:%B %Y at %H:%M}."
