"""transferclf features: the features of images in a file."""

from __future__ import annotations

from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any

import click
import numpy as np

from transferclf.cli.endings import Refusal
from transferclf.cli.files import checked_output
from transferclf.cli.options import (
    EstimatorCommand,
    folder_options,
    json_option,
    made,
    read_folder,
)
from transferclf.cli.texts import named, progress_on_stderr, show_facts, show_json
from transferclf.exceptions import how_to_install
from transferclf.persistence.archive import replaced

if TYPE_CHECKING:
    from sklearn.utils import Bunch


@click.command("features", cls=EstimatorCommand, estimator="CNNFeatureExtractor")
@click.argument("folder")
@click.option("-o", "--output", required=True, metavar="FILE", help="A file .npz or .parquet.")
@folder_options
@json_option
def command(
    folder: str,
    output: str,
    split: tuple[str, ...],
    classes: str | None,
    recursive: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Write the features of FOLDER/CLASS/IMAGE to a file.

    A file .npz holds the arrays "features" (n, d), "files", "labels" and "names"; a Parquet file
    has the columns "file", "label" and one for each feature. Images that are skipped have NaN.
    """
    place = checked_output(output, [*WRITERS])
    write = WRITERS[place.suffix.lower()]()
    photos = read_folder(folder, split, classes, recursive)
    extractor = made("CNNFeatureExtractor", options)
    with progress_on_stderr():
        features = extractor.fit_transform(photos.data)
    names = extractor.get_feature_names_out()
    with replaced(place) as file:
        write(file, features, photos, names)
    facts = {"file": output, "n_images": len(features), "n_features": features.shape[1]}
    if as_json:
        show_json(facts | {"names": names})
    else:
        show_facts({name: named(value) for name, value in facts.items()})


Write = Callable[[IO[bytes], np.ndarray, "Bunch", np.ndarray], None]


def _npz() -> Write:
    def write(file: IO[bytes], features: np.ndarray, photos: Bunch, names: np.ndarray) -> None:
        # Arrays of texts, and not of objects, are read without pickle.
        files, labels = photos.filenames.astype(str), photos.target
        np.savez(file, features=features, files=files, labels=labels, names=names.astype(str))

    return write


def _parquet() -> Write:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise Refusal(
            "a Parquet file needs pyarrow, which is not installed. " + how_to_install("parquet")
        ) from None

    def write(file: IO[bytes], features: np.ndarray, photos: Bunch, names: np.ndarray) -> None:
        columns = {"file": [*map(named, photos.filenames)], "label": photos.target.tolist()}
        columns |= dict(zip(names.tolist(), features.T, strict=True))
        parquet.write_table(pyarrow.table(columns), file)

    return write


WRITERS: dict[str, Callable[[], Write]] = {".npz": _npz, ".parquet": _parquet}
