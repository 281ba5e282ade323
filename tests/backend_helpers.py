"""Values that every backend of Keras must give, and the same values by TensorFlow.

    python backend_helpers.py FOLDER

reads the images and the saved models of a folder, and writes their values to values.npz.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from image_helpers import striped_images

from transferclf import Augmentation, CNNFeatureExtractor, TransferClassifier, load_model
from transferclf.augmentation.views import View

N, SIDE = 24, 32
TURNED = Augmentation(rotation=30, shift=0.1, zoom=0.1, brightness=0.2, hue=20, noise=3, views=1)


def drawn_images():
    """Return images of three classes, and their labels."""
    return striped_images(N, np.random.default_rng(0)), np.arange(N) % 3


def tuned(images, labels, trainable_layers):
    """Return a classifier with fine-tuned layers of the bundled network."""
    classifier = TransferClassifier(
        "tiny",
        image_size=SIDE,
        trainable_layers=trainable_layers,
        fine_tune_epochs=2,
        fine_tune_learning_rate=1e-4,
        batch_size=8,
        random_state=0,
    )
    return classifier.fit(images, labels)


def digest_of_random_weights():
    """Return the digest under which features of a network with random weights are stored."""
    extractor = CNNFeatureExtractor("tiny", weights=None, image_size=SIDE, random_state=0)
    return extractor.fit(drawn_images()[0]).prefix_.digest


def values(folder):
    """Return what should not depend on the backend, by name."""
    from transferclf.reports import GradCAMDisplay

    images, labels = drawn_images()
    extractor = CNNFeatureExtractor("tiny", image_size=SIDE, cache=None)
    found = {
        "features": extractor.fit_transform(images),
        "view": View(TURNED, 1).of(images[:2], [b"1" * 32, b"2" * 32]),
        "last layers": tuned(images, labels, "top").predict_proba(images),
    }
    for path in sorted(Path(folder).glob("*.model")):
        loaded = load_model(path)
        found[f"loaded {path.stem}"] = loaded.predict_proba(images)
        if path.stem != "linear":
            display = GradCAMDisplay.from_estimator(loaded, images[:3], class_=1)
            found[f"heat {path.stem}"] = display.heatmaps
    return found | {"digest": np.array(digest_of_random_weights())}


def values_by_tensorflow(folder):
    """Return the values that a process with Keras on TensorFlow computes."""
    finished = subprocess.run(
        [sys.executable, __file__, str(folder)],
        env=os.environ | {"KERAS_BACKEND": "tensorflow", "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr
    with np.load(Path(folder, "values.npz")) as file:
        return dict(file)


if __name__ == "__main__":
    np.savez(Path(sys.argv[1], "values.npz"), **values(sys.argv[1]))
