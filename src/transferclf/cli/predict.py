"""transferclf predict: the classes of images."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click
import numpy as np

import transferclf
from transferclf.cli.endings import text_of
from transferclf.cli.files import images_of
from transferclf.cli.options import json_option, quiet_option, with_progress
from transferclf.cli.texts import progress_on_stderr, show_csv, show_json, show_table
from transferclf.exceptions import ImageError, warn


@click.command("predict")
@click.argument("model")
@click.argument("images", nargs=-1, required=True)
@click.option("--top", type=click.IntRange(1), default=1, help="How many classes for each image.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV: a header, a line for each image.")
@json_option
@click.option(
    "--on-error",
    type=click.Choice(["raise", "skip"]),
    default="raise",
    show_default=True,
    help='"skip" leaves out images that cannot be used.',
)
@quiet_option
def command(
    model: str,
    images: tuple[str, ...],
    top: int,
    as_csv: bool,
    as_json: bool,
    on_error: str,
    verbose: int,
) -> None:
    """Name the classes of IMAGES, which are files, folders or URLs.

    By default there is a line for each image: the file, its class and the probability.
    """
    if as_csv and as_json:
        raise click.UsageError("--csv and --json exclude each other.")
    files = images_of(images)
    estimator = with_progress(transferclf.load_model(model), verbose)
    with progress_on_stderr():
        columns = _columns(estimator, files, top, skip=on_error == "skip")
    rows: Iterable[tuple] = zip(*columns.values(), strict=True)
    if as_json:
        show_json([dict(zip(columns, row, strict=True)) for row in rows])
    elif as_csv:
        show_csv([*columns], rows)
    else:
        show_table(rows)


def _columns(estimator: Any, files: list[str], top: int, skip: bool) -> dict[str, list]:
    """Return the columns of predictions, without images that are skipped."""
    from transferclf.reports.prediction_tables import prediction_columns

    while True:
        try:
            found = prediction_columns(estimator, files, top_k=top)
            return {name: np.asarray(column).tolist() for name, column in found.items()}
        except ImageError as error:
            faulty = {*error.indices}
            if not skip or not faulty or len(faulty) == len(files):
                raise
            warn(f"left out of {len(files)} images: {text_of(error)}")
            files = [file for place, file in enumerate(files) if place not in faulty]
