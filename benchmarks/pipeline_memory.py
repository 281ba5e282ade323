"""A search over a pipeline: scikit-learn's `memory`, and the stores of this package.

The pipeline is MobileNetV2 with random weights, then a ridge classifier. The search has 12
settings, 5 folds and 400 images of 96 × 96 pixels. scikit-learn keeps the features of each fold's
training images, and computes those of its test images again for every setting. Each measurement is
in a new process, after importing Keras; it includes building networks.
"""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np
from measuring import Options, start, timing_table, timings, usage_in_child, usage_of
from pictures import labelled_images

SIDE, N_CLASSES = 96, 5


def main(options: Options) -> None:
    n_images = 40 if options.quick else 400
    timed = timings(
        {
            name: usage_in_child(search, n_images=n_images, memory=memory, cache=cache)
            for name, memory, cache in (
                ('cache="memory"', False, "memory"),
                ("cache=PATH", False, "path"),
                ("Pipeline(memory=PATH), cache=None", True, None),
            )
        },
        options.rounds,
    )
    print(timing_table(timed))


def search(n_images: int, memory: bool, cache: str | None) -> dict[str, Any]:
    """Measure the search in a new process, with its own folder for stored features."""
    import keras  # noqa: F401
    from sklearn.linear_model import RidgeClassifier
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import Pipeline

    from transferclf import CNNFeatureExtractor

    X, y = labelled_images(n_images, SIDE, N_CLASSES)
    with tempfile.TemporaryDirectory() as folder:
        extractor = CNNFeatureExtractor(
            "mobilenet_v2",
            weights=None,
            random_state=0,
            image_size=SIDE,
            cache=folder if cache == "path" else cache,
        )
        steps = [("features", extractor), ("classifier", RidgeClassifier())]
        pipeline = Pipeline(steps, memory=folder if memory else None)
        grid = {"classifier__alpha": np.logspace(-3, 8, 12)}
        found = GridSearchCV(pipeline, grid, cv=5, refit=False, error_score="raise")
        return {"usage": usage_of(lambda: found.fit(X, y))}


if __name__ == "__main__":
    start(main, [search])
