"""transferclf info: what a saved model is. No network is built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np

import transferclf
from transferclf.cli.options import json_option
from transferclf.cli.texts import named, show_facts, show_json, show_table


@click.command("info")
@click.argument("model")
@json_option
def command(model: str, as_json: bool) -> None:
    """Show the classes, the backbone and the parameters of MODEL."""
    facts = _facts(Path(model))
    if as_json:
        show_json(facts)
        return
    height, width = facts["image_size"]
    versions, parameters = facts["versions"].items(), facts["parameters"].items()
    lines = {
        "model": named(facts["model"]),
        "kind": facts["kind"],
        "backbone": f"{named(facts['backbone'])}, {height} x {width} pixels",
        "versions": named(", ".join(f"{name} {version}" for name, version in versions)),
        "parameters": named(", ".join(f"{name}={value}" for name, value in parameters)),
        "l2": facts["l2"],
        "classes": len(facts["classes"] or ()),
    }
    show_facts(lines)
    show_table(("", name) for name in facts["classes"] or ())


def _facts(place: Path) -> dict[str, Any]:
    from transferclf.persistence.models import saved_versions

    estimator = transferclf.load_model(place)
    # An UnknownRejector has the classifier inside.
    inner: Any = getattr(estimator, "estimator_", estimator)
    classes = getattr(inner, "classes_", getattr(inner, "output_names_", None))
    return {
        "model": str(place),
        "kind": type(estimator).__name__,
        "backbone": inner.prefix_.backbone.name,
        "image_size": list(inner.prefix_.size),
        "classes": None if classes is None else np.asarray(classes).tolist(),
        "l2": getattr(inner, "l2_", None),
        "parameters": _changed(inner),
        "versions": saved_versions(place),
    }


def _changed(estimator: Any) -> dict[str, str]:
    """Return the parameters that are not the defaults."""
    defaults = type(estimator)().get_params(deep=False)
    given = estimator.get_params(deep=False)
    return {
        name: str(value) for name, value in given.items() if repr(value) != repr(defaults[name])
    }
