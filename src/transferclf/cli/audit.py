"""transferclf audit: copies, leaks and likely wrong labels in class folders."""

from __future__ import annotations

from typing import Any

import click
import numpy as np

from transferclf.cli.options import (
    EstimatorCommand,
    folder_options,
    json_option,
    made,
    read_folder,
)
from transferclf.cli.texts import progress_on_stderr, show, show_json


@click.command(
    "audit",
    cls=EstimatorCommand,
    estimator="CNNFeatureExtractor",
    without=("layer", "on_error"),
)
@click.argument("folder")
@folder_options
@click.option("--threshold", type=float, help="The cosine from which images are near copies. [0.9]")
@click.option("--n-neighbors", type=int, help="Odd images are far from so many others. [5]")
@json_option
def command(
    folder: str,
    split: tuple[str, ...],
    classes: str | None,
    recursive: bool,
    threshold: float | None,
    n_neighbors: int | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Look for copies, leaks, wrong labels and unreadable images in FOLDER/CLASS/IMAGE.

    With --split train --split test, leaks between these folders are found too.
    """
    from transferclf.reports import audit
    from transferclf.reports.auditing.findings import columns_of
    from transferclf.reports.tables import extra, rows_of

    extra("pandas")
    parts = [
        read_folder(folder, [name] if name else [], classes, recursive) for name in split or [""]
    ]
    splits = [name for name, part in zip(split, parts, strict=False) for _ in part.data] or None
    extractor = made("CNNFeatureExtractor", options)
    given: dict[str, Any] = {"threshold": threshold, "n_neighbors": n_neighbors}
    with progress_on_stderr():
        found = audit(
            np.concatenate([part.data for part in parts]),
            np.concatenate([part.target for part in parts]),
            splits=splits,
            extractor=extractor,
            verbose=extractor.verbose,
            **{name: value for name, value in given.items() if value is not None},
        )
    if not as_json:
        show(str(found))
        return
    tables = {name: rows_of(found[name]) for name in columns_of(found.kind)}
    show_json({name: found[name] for name in ("n_images", "classes", "splits")} | tables)
