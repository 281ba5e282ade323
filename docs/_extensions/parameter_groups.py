"""Sphinx extension: sort the parameters of estimators by group, and say when to change each.

`reference/parameters.toml` has the groups. The rest is from the docstrings.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

FILE = Path(__file__).resolve().parents[1] / "reference/parameters.toml"
ESTIMATORS = ("CNNFeatureExtractor", "TransferClassifier", "TransferRegressor")
ITEM = re.compile(r"    \*\*(\w+)\*\* : ")


def groups() -> dict[str, dict[str, str]]:
    """Return a dict of each group: when to change a parameter, by its name."""
    with FILE.open("rb") as file:
        return tomllib.load(file)


def grouped(lines: list[str], of: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return a docstring as numpydoc writes it, with a list of parameters for each group."""
    begin = lines.index(":Parameters:")
    end = next(
        (n for n in range(begin + 1, len(lines)) if lines[n] and not lines[n].startswith(" ")),
        len(lines),
    )
    items = parameters(lines[begin + 1 : end])
    sorted_lines = []
    for title, reasons in of.items():
        names = [name for name in reasons if name in items]
        if not names:
            continue
        sorted_lines += [".. rubric:: " + title, "", ":Parameters:", ""]
        for name in names:
            sorted_lines += [
                *items.pop(name),
                "",
                f"        *When to change it:* {reasons[name]}",
                "",
            ]
    if items:
        raise ValueError(f"{FILE.name} has no group for {', '.join(items)}")
    return [*lines[:begin], *sorted_lines, *lines[end:]]


def parameters(lines: list[str]) -> dict[str, list[str]]:
    """Return the lines of each parameter by its name."""
    items: dict[str, list[str]] = {}
    for line in lines:
        if match := ITEM.match(line):
            items[match[1]] = []
        if items:
            items[[*items][-1]].append(line)
    return {name: "\n".join(each).rstrip().split("\n") for name, each in items.items()}


def is_estimator(what: str, name: str) -> bool:
    return what == "class" and name.rpartition(".")[2] in ESTIMATORS


def sort(app, what, name, thing, options, lines):
    if is_estimator(what, name):
        lines[:] = grouped(lines, groups())


def shorten(app, what, name, thing, options, signature, returned):
    """Return the first parameter only: the groups below have all of them, with their defaults."""
    if is_estimator(what, name):
        first, *_ = signature.strip("()").split(", ")
        return f"({first}, *, ...)", returned
    return None


def setup(app):
    # numpydoc comes first.
    app.connect("autodoc-process-docstring", sort, priority=900)
    app.connect("autodoc-process-signature", shorten, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
