"""transferclf evaluate: measure a model on class folders."""

from __future__ import annotations

import click

import transferclf
from transferclf.cli.files import checked_output
from transferclf.cli.options import (
    folder_options,
    json_option,
    quiet_option,
    read_folder,
    with_progress,
)
from transferclf.cli.texts import progress_on_stderr, show, show_json


@click.command("evaluate")
@click.argument("model")
@click.argument("folder")
@folder_options
@click.option("--html", metavar="FILE", help="Write a page with drawings and images too.")
@json_option
@quiet_option
def command(
    model: str,
    folder: str,
    split: tuple[str, ...],
    classes: str | None,
    recursive: bool,
    html: str | None,
    as_json: bool,
    verbose: int,
) -> None:
    """Measure MODEL on the images of FOLDER/CLASS/IMAGE."""
    from transferclf.reports import evaluate, report

    page = None if html is None else checked_output(html, (".html", ".htm"))
    photos = read_folder(folder, split, classes, recursive)
    estimator = with_progress(transferclf.load_model(model), verbose)
    with progress_on_stderr():
        evaluation = evaluate(estimator, photos.data, photos.target)
        if page is not None:
            report(estimator, photos.data, photos.target, page, audit=False)
    if as_json:
        show_json(evaluation.to_dict())
    else:
        show(str(evaluation))
