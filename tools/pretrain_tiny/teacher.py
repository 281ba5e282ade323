"""Compute the teachers' features of the training images once, before ``pretrain.py``.

This is a separate program because it needs TensorFlow, and the training needs PyTorch.
"""

from __future__ import annotations

import argparse
import os
from functools import partial
from itertools import product
from pathlib import Path

import data


def main() -> None:
    """Write ``teacher_ALPHA_VIEW.npy`` for each teacher and view."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("TRANSFERCLF_DATA", "."))
    parser.add_argument("--keras-home", type=Path, default=os.environ.get("KERAS_HOME"))
    parser.add_argument("--cache", type=Path, required=True, help="folder for the features")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.keras_home is not None:
        os.environ["KERAS_HOME"] = str(args.keras_home)  # Keras reads it at import
    args.cache.mkdir(parents=True, exist_ok=True)
    images, _ = data.load_images(args.data / "tiny_imagenet_64", data.TRAIN_SHARDS)
    for alpha, (number, view) in product(
        data.TEACHERS, enumerate(data.views(len(images), args.seed))
    ):
        path = data.features_path(args.cache, alpha, number)
        data.cached(path, partial(data.teacher_features, images, view, alpha))


if __name__ == "__main__":
    main()
