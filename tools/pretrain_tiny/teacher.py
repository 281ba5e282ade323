"""Compute the teacher's features of the training images once, before ``pretrain.py``.

It is a program of its own because it needs TensorFlow, and the training needs PyTorch.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import data


def main() -> None:
    """Write ``boxes_0.npy``, ``teacher_0.npy``, ``boxes_1.npy`` and ``teacher_1.npy``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("TRANSFERCLF_DATA", "."))
    parser.add_argument("--keras-home", type=Path, default=os.environ.get("KERAS_HOME"))
    parser.add_argument("--cache", type=Path, required=True, help="folder for the features")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.keras_home is not None:
        os.environ["KERAS_HOME"] = str(args.keras_home)  # read when Keras is imported
    args.cache.mkdir(parents=True, exist_ok=True)
    images, _ = data.load_images(args.data / "tiny_imagenet_64", data.TRAIN_SHARDS)
    views = [data.whole_boxes(len(images)), data.random_boxes(len(images), args.seed)]
    for view, boxes in enumerate(views):
        data.cached(args.cache / f"boxes_{view}.npy", lambda boxes=boxes: boxes)
        data.cached(
            args.cache / f"teacher_{view}.npy",
            lambda boxes=boxes: data.teacher_features(images, boxes),
        )


if __name__ == "__main__":
    main()
