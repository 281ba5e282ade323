"""Sections about how it came to be: training, parameters, versions."""

from __future__ import annotations

import importlib.metadata
import inspect
import platform
from typing import Any
from xml.etree.ElementTree import Element

from transferclf.reports.displays.history import PANELS, TrainingHistoryDisplay
from transferclf.reports.names import count_text, short_name
from transferclf.reports.page.elements import element, finished, table
from transferclf.reports.page.measures import number
from transferclf.reports.page.subject import Subject, needs_network, note

PACKAGES = (
    "transferclf", "keras", "tensorflow", "numpy", "scipy", "scikit-learn", "pillow", "matplotlib",
)  # fmt: skip

# Letters of a parameter's value: enough for any but arrays and long lists.
VALUE_WIDTH = 160


def history_section(subject: Subject) -> list[Element]:
    """Loss and accuracy in the course of training."""
    if subject.classifier is None:
        return [needs_network(subject, "the course of training")]
    history = subject.classifier.history_
    if not history.get("loss"):
        return [note("Left out: there was no training.")]
    curves = {
        metric: TrainingHistoryDisplay.from_estimator(subject.classifier, metrics=[metric])
        for metric in PANELS
    }
    rounds = count_text(len(history["loss"]), "iteration or epoch", "iterations and epochs")
    words = [
        f"{name.replace('val_', 'validation ')} from {number(values[0])} to {number(values[-1])}"
        for name, values in history.items()
        if name != "learning_rate" and values
    ]
    text = f"In {rounds}: {', '.join(words)}."
    drawings = [
        finished(display.figure_, f"Course of the {metric} in training. {text}")
        for metric, display in curves.items()
    ]
    return [element("p", text), element("div", *drawings, class_="drawings")]


def classifier_section(subject: Subject) -> list[Element]:
    """Parameters, those first that are not the default."""
    estimator = subject.estimator if subject.classifier is None else subject.classifier
    kind = type(estimator).__name__
    if not hasattr(estimator, "get_params"):
        return [note(f"Left out: {kind} has no parameters that can be read.")]
    values, defaults = estimator.get_params(deep=False), _defaults(type(estimator))
    changed = {name: value for name, value in values.items() if not _is(value, defaults.get(name))}
    others = {name: value for name, value in values.items() if name not in changed}
    parts: list[Element] = []
    if changed:
        parts.append(_parameters(f"Parameters of {kind} that were set", changed))
    else:
        parts.append(note(f"All parameters of {kind} have their defaults."))
    if others:
        summary = element("summary", f"{count_text(len(others), 'parameter')} with defaults")
        parts.append(element("details", summary, _parameters("Defaults", others)))
    return parts


def _defaults(kind: type) -> dict[str, Any]:
    return {
        name: parameter.default for name, parameter in inspect.signature(kind).parameters.items()
    }


def _is(value: Any, default: Any) -> bool:
    """Whether they are alike; arrays and other objects are never the default."""
    return type(value) is type(default) and repr(value) == repr(default)


def _parameters(caption: str, values: dict[str, Any]) -> Element:
    rows = [(name, short_name(repr(value), VALUE_WIDTH)) for name, value in values.items()]
    return table(caption, ["parameter", "value"], rows, class_="words")


def environment_section(subject: Subject) -> list[Element]:
    """What it was computed by."""
    rows = [("Python", platform.python_version()), ("system", platform.system())]
    rows += [(name, version) for name in PACKAGES if (version := _version(name))]
    return [table("Versions of what computed this page", ["package", "version"], rows)]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
