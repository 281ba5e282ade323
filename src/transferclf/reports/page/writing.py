"""report: one page about a fitted estimator that needs nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from sklearn.pipeline import Pipeline

from transferclf._checks import check_flag, check_number
from transferclf.exceptions import ImageError, InvalidParameterError
from transferclf.persistence.archive import replaced
from transferclf.reports.displays.figures import pictures_of
from transferclf.reports.evaluation import evaluate
from transferclf.reports.evaluations.classes import Evaluation
from transferclf.reports.evaluations.multilabel import MultilabelEvaluation
from transferclf.reports.evaluations.numbers import RegressionEvaluation
from transferclf.reports.names import count_text, short_name
from transferclf.reports.page import images, multilabel, numbers, regression
from transferclf.reports.page.rendering import drawing, rendered
from transferclf.reports.page.subject import Content, Subject
from transferclf.reports.predictions import transfer_estimator
from transferclf.reports.tables import extra
from transferclf.reports.unknowns import check_is_no_rejector

TITLE_WIDTH = 120


# Id, heading, template and the function that returns the values for the template.
Section = tuple[str, str, str, Callable[[Subject], Content]]

# The last sections of every page.
LAST: tuple[Section, ...] = (
    ("audit", "The data themselves", "audit.html", images.audit_findings),
    ("classifier", "Parameters", "parameters.html", numbers.classifier),
    ("environment", "Versions", "versions.html", numbers.environment),
)

# The sections in the order of the page, for each kind of target.
SECTIONS: dict[type, tuple[Section, ...]] = {
    Evaluation: (
        ("summary", "Summary", "summary.html", numbers.summary),
        ("classes", "Class by class", "classes.html", numbers.per_class),
        ("confusion", "What is taken for what", "confusion.html", numbers.confusion),
        ("errors", "Images to look at", "errors.html", images.pictures),
        ("gradcam", "Where the network looks", "gradcam.html", images.gradcam),
        ("calibration", "How far to trust the probabilities", "drawings.html", numbers.calibration),
        ("history", "Training", "drawings.html", numbers.history),
        ("embedding", "How the network sees the images", "drawings.html", images.embedding),
        ("balance", "Images of each class", "balance.html", numbers.balance),
        *LAST,
    ),
    MultilabelEvaluation: (
        ("summary", "Summary", "summary.html", multilabel.summary),
        ("labels", "Label by label", "labels.html", multilabel.per_label),
        ("errors", "Images to look at", "label_errors.html", multilabel.pictures),
        ("gradcam", "Where the network looks", "gradcam.html", multilabel.gradcam),
        ("history", "Training", "drawings.html", numbers.history),
        ("embedding", "How the network sees the images", "drawings.html", multilabel.embedding),
        *LAST,
    ),
    RegressionEvaluation: (
        ("summary", "Summary", "summary.html", regression.summary),
        ("outputs", "Output by output", "outputs.html", regression.per_output),
        ("residuals", "True and predicted numbers", "drawings.html", regression.errors),
        ("errors", "Images to look at", "number_errors.html", regression.pictures),
        ("gradcam", "Where the network looks", "gradcam.html", regression.gradcam),
        ("history", "Training", "drawings.html", numbers.history),
        ("embedding", "How the network sees the images", "drawings.html", regression.embedding),
        *LAST,
    ),
}


def report(
    estimator: object,
    X: object,
    y: Any,
    path: str | os.PathLike[str],
    *,
    title: str | None = None,
    n_images: int = 12,
    audit: bool = True,
    displays: Mapping[str, Any] | None = None,
) -> None:
    """Write a page about a fitted estimator: how good it is, where it errs, and on what data.

    The page is one HTML file that opens without a network, has no script, and fetches nothing.
    Names of classes and files are always shown as text. The images are predicted once.

    Parameters
    ----------
    estimator : estimator
        A fitted classifier, of one or of several labels, or a fitted regressor. Training, embedding
        and heat maps need a TransferClassifier or TransferRegressor, also in a pipeline or a
        search; for others the page says so.
    X : array-like or sequence of images, n of them
        Whatever the estimator takes, best images that it was not fitted to.
    y : array-like of shape (n,), or of one row for each image
        The true labels or numbers, as for :func:`evaluate`.
    path : str or path-like
        The file, in a folder that exists. An old file is replaced when the page is complete.
    title : str or None, default=None
        Heading of the page; None makes one from the estimator's name.
    n_images : int, default=12
        How many images are shown of each kind, at most.
    audit : bool, default=True
        Whether to look for copies and likely wrong labels, which takes a while for many images.
    displays : dict of str to display class, or None, default=None
        Further sections, by their headings. Each class has ``from_estimator(estimator, X, y)``,
        as the displays of this package and of scikit-learn, and leaves its drawing in `figure_`.

    Raises
    ------
    InvalidParameterError
        If the estimator is neither classifier nor regressor, or an UnknownRejector, or a parameter
        is not as above.
    sklearn.exceptions.NotFittedError
        If it is not fitted.
    ValueError
        If y has not one known target per image.
    ImageError
        If images cannot be read.
    OSError
        If there is no such folder, or the file cannot be written.
    ImportError
        If matplotlib, Jinja2 or pandas is not installed: all are in the extra `reports`.

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
    place = Path(path)
    if place.is_dir():
        raise IsADirectoryError(f"path must be a file. Got the folder {place} instead.")
    if not place.parent.is_dir():
        raise FileNotFoundError(f"path must be in a folder that is there. {place.parent} is not.")
    _check_options(title, n_images, audit, displays)
    for library in ("matplotlib", "jinja2", "pandas"):
        extra(library)  # fail early if one is missing
    subject = _subject(estimator, X, y, n_images, audit)
    heading = short_name(title or f"Report on {subject.name}", TITLE_WIDTH)
    added = [_added_section(*item, y) for item in enumerate((displays or {}).items(), 1)]
    sections = [
        {"id": id_, "heading": name, "template": template, "content": contents(subject)}
        for id_, name, template, contents in (*SECTIONS[type(subject.evaluation)], *added)
    ]
    now = datetime.now().astimezone()
    size = f"{count_text(subject.evaluation.n_samples, 'image')}, {_outputs(subject)}"
    subtitle = f"{size}. Written on {now.day} {now:%B %Y at %H:%M}."
    content = rendered("page.html", title=heading, subtitle=subtitle, sections=sections)
    with replaced(place) as file:
        file.write(content.encode())


def _outputs(subject: Subject) -> str:
    """Return how many classes, labels or outputs there are."""
    evaluation = subject.evaluation
    if isinstance(evaluation, RegressionEvaluation):
        return count_text(len(evaluation.outputs), "output")
    if isinstance(evaluation, MultilabelEvaluation):
        return count_text(len(evaluation.classes), "label")
    return count_text(len(evaluation.classes), "class", "classes")


def _added_section(number: int, added: tuple[str, Any], y: object) -> Section:
    """Return the section of a display that the caller added."""
    heading, display = added
    name = short_name(heading, TITLE_WIDTH)

    def contents(subject: Subject) -> Content:
        drawn = display.from_estimator(subject.estimator, subject.X, y)
        return {"text": "", "drawings": [drawing(drawn.figure_, f"Display of {name}")]}

    return f"display{number}", name, "drawings.html", contents


def _check_options(title: object, n_images: int, audit: bool, displays: object) -> None:
    if title is not None and not isinstance(title, str):
        raise InvalidParameterError(f"title must be a text or None. Got {title!r} instead.")
    check_flag("audit", audit)
    check_number("n_images", n_images, 1, whole=True)
    if displays is None:
        return
    classes = displays.values() if isinstance(displays, Mapping) else [None]
    if not all(hasattr(one, "from_estimator") for one in classes):
        raise InvalidParameterError(
            "displays must be None or a dict from headings to classes with from_estimator. "
            f"Got {displays!r:.200} instead."
        )


def _subject(estimator: object, X: object, y: object, n_images: int, audit: bool) -> Subject:
    check_is_no_rejector(estimator, "report")
    evaluation = evaluate(estimator, X, y)
    shown, no_images = None, ""
    steps: list[Pipeline] = []
    classifier = None
    try:
        shown = pictures_of(estimator, X)
    except ImageError:
        no_images = "X is no images, so that none can be shown."
    with suppress(InvalidParameterError):
        steps, classifier = transfer_estimator(estimator)
    about = (evaluation, shown, no_images, steps, classifier)
    return Subject(estimator, X, *about, n_images=n_images, audit=audit)
