"""transferclf export: a model for another runtime."""

from __future__ import annotations

import click

import transferclf
from transferclf.cli.files import checked_output, images_of
from transferclf.cli.texts import named, progress_on_stderr, show


@click.command("export")
@click.argument("model")
@click.argument("file")
@click.option(
    "--quantize",
    type=click.Choice(["float16", "int8"]),
    help="Write smaller numbers. int8 needs images.",
)
@click.option("--images", metavar="FOLDER", help="Images by which int8 chooses its scales.")
def command(model: str, file: str, quantize: str | None, images: str | None) -> None:
    """Write MODEL to FILE, whose suffix says the format."""
    place = checked_output(file)
    X = None if images is None else images_of([images])
    estimator = transferclf.load_model(model)
    with progress_on_stderr():
        transferclf.export(estimator, place, quantize=quantize, X=X)
    show(f"written to {named(file)}")
