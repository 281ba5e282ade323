"""Sections about how the classifier came to be: training, parameters, versions."""

from __future__ import annotations

import importlib.metadata
import inspect
import platform
from typing import Any

from transferclf.reports.displays.history import TrainingHistoryDisplay
from transferclf.reports.names import count_text, number_text, short_name
from transferclf.reports.page.rendering import drawing
from transferclf.reports.page.subject import Content, Subject, note
from transferclf.reports.predictions import objective_of

PACKAGES = (
    "transferclf", "keras", "tensorflow", "numpy", "scipy", "scikit-learn", "pillow", "matplotlib",
)  # fmt: skip

# Letters of a parameter's value: enough for any but arrays and long lists.
VALUE_WIDTH = 160


def history(subject: Subject) -> Content:
    """Loss and accuracy in the course of training."""
    if subject.classifier is None:
        return subject.needs_network("the course of training")
    history = subject.classifier.history_
    if not history.get("loss"):
        return note("Left out: there was no training.")
    rounds = count_text(len(history["loss"]), "iteration or epoch", "iterations and epochs")
    words = [
        f"{name.replace('val_', 'validation ')} "
        f"from {number_text(values[0])} to {number_text(values[-1])}"
        for name, values in history.items()
        if name != "learning_rate" and values
    ]
    text = f"In {rounds}: {', '.join(words)}."
    panels = ("loss", objective_of(subject.classifier).measure)
    curves = {
        metric: TrainingHistoryDisplay.from_estimator(subject.classifier, metrics=[metric])
        for metric in panels
    }
    drawings = [
        drawing(display.figure_, f"Course of the {metric} in training. {text}")
        for metric, display in curves.items()
    ]
    return {"text": text, "drawings": drawings}


def classifier(subject: Subject) -> Content:
    """Parameters, first those that are not the default."""
    estimator = subject.estimator if subject.classifier is None else subject.classifier
    kind = type(estimator)
    if not hasattr(estimator, "get_params"):
        return note(f"Left out: {kind.__name__} has no parameters that can be read.")
    defaults = {
        name: parameter.default for name, parameter in inspect.signature(kind).parameters.items()
    }
    changed: list[tuple[str, str]] = []
    others: list[tuple[str, str]] = []
    for name, value in estimator.get_params(deep=False).items():
        rows = others if _is(value, defaults.get(name)) else changed
        rows.append((name, short_name(repr(value), VALUE_WIDTH)))
    n_defaults = count_text(len(others), "parameter")
    about = {"kind": kind.__name__, "n_defaults": n_defaults}
    return about | {"changed": changed, "defaults": others}


def _is(value: Any, default: Any) -> bool:
    """Whether they are alike; arrays and other objects are never the default."""
    return type(value) is type(default) and repr(value) == repr(default)


def environment(subject: Subject) -> Content:
    """The versions of what computed the page."""
    rows = [("Python", platform.python_version()), ("system", platform.system())]
    rows += [(name, version) for name in PACKAGES if (version := _version(name))]
    return {"rows": rows}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
