"""transferclf search: settings compared by cross-validation."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import click

from transferclf.cli.endings import Refusal
from transferclf.cli.options import (
    EstimatorCommand,
    check_two_classes,
    folder_options,
    json_option,
    made,
    options_of,
    read_folder,
)
from transferclf.cli.texts import progress_on_stderr, show_json, show_table
from transferclf.cli.values import Given, ParameterType

ESTIMATOR = "TransferClassifier"


@click.command("search", cls=EstimatorCommand, estimator=ESTIMATOR)
@click.argument("folder")
@click.option(
    "--grid",
    multiple=True,
    required=True,
    metavar="NAME=VALUE,VALUE",
    help="Values of a parameter; may be repeated. All combinations are compared.",
)
@click.option("--directory", required=True, help="The folder of the results; made if missing.")
@click.option("--cv", type=click.IntRange(2), default=5, show_default=True, help="Folds.")
@click.option("--scoring", multiple=True, help="A scorer of scikit-learn; may be repeated.")
@click.option("--keep-models", is_flag=True, help="Fit each to all images, and save it too.")
@folder_options
@json_option
def command(
    folder: str,
    grid: tuple[str, ...],
    directory: str,
    cv: int,
    scoring: tuple[str, ...],
    keep_models: bool,
    split: tuple[str, ...],
    classes: str | None,
    recursive: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Compare the settings of a grid by cross-validation on FOLDER/CLASS/IMAGE.

    Each fold is kept in --directory when it ends. The same command goes on after an interruption.
    """
    from transferclf.reports import run_experiments
    from transferclf.reports.tables import extra, rows_of

    extra("pandas")
    settings = settings_of(grid)
    photos = read_folder(folder, split, classes, recursive)
    check_two_classes(photos.target, folder)
    least = min(Counter(photos.target.tolist()).values())
    if least < cv:
        raise Refusal(
            f"--cv {cv}: the smallest class has {least} images. Expected one for each fold."
        )
    verbose = made(ESTIMATOR, options).verbose
    quiet = {"verbose": Given(0)}
    estimators = {
        name: made(ESTIMATOR, options | given | quiet) for name, given in settings.items()
    }
    with progress_on_stderr():
        table = run_experiments(
            estimators,
            photos.data,
            photos.target,
            cv=cv,
            directory=directory,
            scoring=[*scoring] or None,
            keep_models=keep_models,
            verbose=verbose,
        )
    rows = rows_of(table)
    if all(row["error"] for row in rows):
        raise Refusal(f"all runs failed. {rows[0]['name']}: {rows[0]['error']}")
    if as_json:
        show_json(rows)
        return
    mean, std = table.columns[1:3]
    header = ["name", mean, std, "seconds", "error"]
    show_table([header, *([row[name] for name in header] for row in rows)])


def settings_of(grid: Sequence[str]) -> dict[str, dict[str, Given | bool]]:
    """Return the parameters of each combination, by the name of its run."""
    axes = [_axis(text) for text in grid]
    names = [name for name, _ in axes]
    if len({*names}) < len(names):
        raise Refusal(f"--grid names a parameter twice: {', '.join(names)}")
    found = {}
    for values in itertools.product(*(values for _, values in axes)):
        name = " ".join(f"{name}={text}" for name, (text, _) in zip(names, values, strict=True))
        found[name] = {name: value for name, (_, value) in zip(names, values, strict=True)}
    return found


def _axis(text: str) -> tuple[str, list[tuple[str, Given | bool]]]:
    """Return the name of a parameter, and its values with their texts."""
    name, sign, values = text.partition("=")
    name, known = name.strip().replace("-", "_"), options_of(ESTIMATOR)
    if name not in known or not sign or not values:
        raise Refusal(
            f"--grid {text}: expected NAME=VALUE,VALUE with the name of a parameter: "
            f"{', '.join(known)}"
        )
    texts = [value.strip() for value in values.split(",")]
    return name, [(value, _value(known[name], value)) for value in texts]


def _value(option: click.Option, text: str) -> Given | bool:
    try:
        if isinstance(option.type, ParameterType):
            return Given(option.type.parsed(text))
        return bool(option.type.convert(text, option, None))
    except (ValueError, click.BadParameter) as error:
        raise Refusal(f"--grid {option.name}: {error}") from None
