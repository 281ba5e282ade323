"""Functions that all examples use: options, folders of images and weights, tables, figures."""

import argparse
import os
import sys
from pathlib import Path

import numpy as np

from transferclf import CNNFeatureExtractor, load_image_folder
from transferclf.exceptions import WeightsError

SHARED = Path(__file__).resolve().parents[2] / "shared"

# The bundled network was trained on small images. Larger inputs do not improve its accuracy.
TINY_SIZE = 96


def options(description):
    """Return a parser with the options of all examples."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    default = Path(os.environ.get("TRANSFERCLF_DATA", SHARED / "data"))
    parser.add_argument("--data", type=Path, default=default, help="holds the folders of images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="write the tables to this file too")
    parser.add_argument("--figure", type=Path, help="draw the results into this file")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--full", dest="size", action="store_const", const="full", default="default")
    size.add_argument(
        "--quick", dest="size", action="store_const", const="quick", help="small sizes, for a test"
    )
    return parser


def add_cache(parser, default=None):
    """Add the option `--cache`: a folder that keeps features for the next run."""
    parser.add_argument("--cache", default=default, help="a folder that keeps features")


def images_of(folder, split=None):
    """Return the images of class folders, and the class name of each."""
    for part in np.atleast_1d(split or "."):
        if not (folder / part).is_dir():
            sys.exit(
                f"There is no {folder / part}. Set --data (or TRANSFERCLF_DATA) to the folder that "
                f"contains {folder.name}. The first lines of this example show the folders."
            )
    bunch = load_image_folder(folder, split=split)
    return bunch.data, bunch.target


def some_of_each_class(X, y, number, seed):
    """Return `number` random images of each class; None returns all images."""
    order = np.random.default_rng(seed).permutation(len(y))
    kept = np.sort(np.concatenate([order[y[order] == name][:number] for name in np.unique(y)]))
    return X[kept], y[kept]


def size_for(backbone, image_size):
    """Return the input size for a network, at most `TINY_SIZE` for the bundled one."""
    return min(image_size, TINY_SIZE) if backbone == "tiny" else image_size


def can_be_had(backbone, image_size, X):
    """Return whether the weights of a network are here or can be downloaded."""
    try:
        CNNFeatureExtractor(backbone, image_size=size_for(backbone, image_size)).fit(X[:1])
    except WeightsError as error:
        print(f"note: without {backbone!r}, whose weights cannot be loaded. {error}")
        return False
    return True


def backbone_to_be_had(backbone, image_size, X):
    """Return a network and its input size; the bundled network if weights are missing."""
    if not can_be_had(backbone, image_size, X):
        backbone = "tiny"
    return backbone, size_for(backbone, image_size)


def weights_note(backbone):
    """Return a remark for tables if the weights of a network are not the official ones."""
    home = os.environ.get("KERAS_HOME")
    is_recovered = home is not None and Path(home).resolve() == SHARED / "keras"
    if backbone == "mobilenet_v2" and is_recovered:
        return " (recovered weights, not the official ones)"
    return ""


def table(header, rows):
    """Return a Markdown table; numbers up to one have three digits."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in lines)


def _cell(value):
    if isinstance(value, float | np.floating):
        return f"{value:.3f}" if value <= 1 else f"{value:.0f}"
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def show(text, output):
    """Print a text, and write it to a file if one is given."""
    print(text)
    if output:
        output.write_text(text, encoding="utf-8")


def pyplot():
    """Return matplotlib.pyplot with a backend that only writes files."""
    try:
        import matplotlib as mpl
    except ImportError:
        sys.exit("The figure needs matplotlib: pip install matplotlib")
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    return plt
