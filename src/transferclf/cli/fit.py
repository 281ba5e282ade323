"""transferclf fit: learn the classes of a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import numpy as np

import transferclf
from transferclf.cli.endings import Refusal
from transferclf.cli.files import checked_output
from transferclf.cli.options import (
    EstimatorCommand,
    check_two_classes,
    folder_options,
    json_option,
    made,
    read_folder,
)
from transferclf.cli.texts import progress_on_stderr, show_facts, show_json, show_table

if TYPE_CHECKING:
    from sklearn.utils import Bunch


@click.command("fit", cls=EstimatorCommand, estimator="TransferClassifier")
@click.argument("folder")
@click.option("-o", "--output", required=True, metavar="MODEL", help="The file of the model.")
@folder_options
@click.option(
    "--test-fraction",
    type=float,
    metavar="SHARE",
    help="Hold out this share of each class, such as 0.2, and print the accuracy on it.",
)
@click.option(
    "--include-weights", is_flag=True, help="Save weights that could be loaded by name too."
)
@json_option
def command(
    folder: str,
    output: str,
    split: tuple[str, ...],
    classes: str | None,
    recursive: bool,
    test_fraction: float | None,
    include_weights: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Learn the classes of FOLDER/CLASS/IMAGE, and save the model."""
    place = checked_output(output)
    photos = read_folder(folder, split, classes, recursive)
    check_two_classes(photos.target, folder)
    train, test = _parts(photos, test_fraction)
    estimator = made("TransferClassifier", options)
    with progress_on_stderr():
        estimator.fit(photos.data[train], photos.target[train])
        accuracy = None
        if len(test):
            accuracy = float(estimator.score(photos.data[test], photos.target[test]))
        transferclf.save_model(estimator, place, include_weights=include_weights)
    facts = _facts(estimator, photos.target[train]) | {"accuracy": accuracy, "n_test": len(test)}
    _show({"model": output} | facts, as_json)


def _parts(photos: Bunch, test_fraction: float | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of images to learn from and to measure on."""
    from sklearn.model_selection import train_test_split

    positions = np.arange(len(photos.target))
    if test_fraction is None:
        return positions, positions[:0]
    counts = np.unique(photos.target, return_counts=True)[1]
    n_test = int(np.ceil(test_fraction * len(positions))) if 0 < test_fraction < 1 else 0
    if counts.min() < 2 or not len(counts) <= n_test <= len(positions) - len(counts):
        raise Refusal(
            f"--test-fraction {test_fraction} of {len(positions)} images must leave images of all "
            f"{len(counts)} classes on both sides, and be between 0 and 1."
        )
    train, test = train_test_split(
        positions, test_size=n_test, stratify=photos.target, random_state=0
    )
    return np.sort(train), np.sort(test)


def _facts(estimator: Any, target: np.ndarray) -> dict[str, Any]:
    """Return what was learned."""
    learned = np.delete(target, estimator.skipped_indices_)
    names, counts = np.unique(learned, return_counts=True)
    return {
        "backbone": estimator.prefix_.backbone.name,
        "image_size": list(estimator.prefix_.size),
        "n_images": len(learned),
        "n_skipped": len(estimator.skipped_indices_),
        "classes": dict(zip(names.tolist(), counts.tolist(), strict=True)),
        "l2": estimator.l2_,
    }


def _show(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        show_json(facts)
        return
    height, width = facts["image_size"]
    accuracy, skipped = facts["accuracy"], facts["n_skipped"]
    left_out = f", {skipped} left out" if skipped else ""
    show_facts(
        {
            "model": facts["model"],
            "backbone": f"{facts['backbone']}, {height} x {width} pixels",
            "images": f"{facts['n_images']}{left_out}",
            "accuracy": accuracy and f"{accuracy:.3f} on {facts['n_test']} other images",
            "classes": len(facts["classes"]),
        }
    )
    show_table(("", name, str(count)) for name, count in facts["classes"].items())
