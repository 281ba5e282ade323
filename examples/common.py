"""What the examples share: options, where images and weights are, tables and figures."""

import argparse
import os
import sys
from pathlib import Path

import numpy as np

from transferclf import CNNFeatureExtractor, load_image_folder
from transferclf.exceptions import WeightsError

SHARED = Path(__file__).resolve().parents[2] / "shared"

# Above this, the bundled network, which learned from small images, is no better.
TINY_SIZE = 96


def options(description):
    """A parser with the options of all examples."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    default = Path(os.environ.get("TRANSFERCLF_DATA", SHARED / "data"))
    parser.add_argument("--data", type=Path, default=default, help="holds the folders of images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="write the tables to this file too")
    parser.add_argument("--figure", type=Path, help="draw the results into this file")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--full", dest="size", action="store_const", const="full", default="default")
    size.add_argument(
        "--quick", dest="size", action="store_const", const="quick", help="to see that it runs"
    )
    return parser


def add_cache(parser, default=None):
    """The option of a folder that keeps features for the next run; else they are in memory."""
    parser.add_argument("--cache", default=default, help="a folder that keeps features")


def images_of(folder, split=None):
    """The images of class folders, and the name of the class of each."""
    for part in np.atleast_1d(split or "."):
        if not (folder / part).is_dir():
            sys.exit(
                f"There is no {folder / part}: give --data (or set TRANSFERCLF_DATA to) the folder "
                f"that holds {folder.name}; the first lines of this example say how."
            )
    bunch = load_image_folder(folder, split=split)
    return bunch.data, bunch.target


def some_of_each_class(X, y, number, seed):
    """So many images of each class, or all of them."""
    order = np.random.default_rng(seed).permutation(len(y))
    kept = np.sort(np.concatenate([order[y[order] == name][:number] for name in np.unique(y)]))
    return X[kept], y[kept]


def size_for(backbone, image_size):
    """The input size for a network of this name."""
    return min(image_size, TINY_SIZE) if backbone == "tiny" else image_size


def can_be_had(backbone, image_size, X):
    """Whether the weights of a network are here or can be downloaded."""
    try:
        CNNFeatureExtractor(backbone, image_size=size_for(backbone, image_size)).fit(X[:1])
    except WeightsError as error:
        print(f"note: without {backbone!r}. {error}")
        return False
    return True


def backbone_to_be_had(backbone, image_size, X):
    """The network, or the bundled one where its weights cannot be had; and its input size."""
    if not can_be_had(backbone, image_size, X):
        backbone = "tiny"
    return backbone, size_for(backbone, image_size)


def weights_note(backbone):
    """What must be said of the weights of a network."""
    home = os.environ.get("KERAS_HOME")
    is_recovered = home is not None and Path(home).resolve() == SHARED / "keras"
    if backbone == "mobilenet_v2" and is_recovered:
        return " (recovered weights, not the official ones)"
    return ""


def table(header, rows):
    """A Markdown table; numbers below one with three digits."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in lines)


def _cell(value):
    if isinstance(value, float | np.floating):
        return f"{value:.3f}" if value <= 1 else f"{value:.0f}"
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def show(text, output):
    """Print it, and write it to a file if there is one."""
    print(text)
    if output:
        output.write_text(text, encoding="utf-8")


def pyplot():
    """matplotlib.pyplot, drawing into files only."""
    try:
        import matplotlib as mpl
    except ImportError:
        sys.exit("The figure needs matplotlib: pip install matplotlib")
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    return plt
