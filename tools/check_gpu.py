"""Check features, fine-tuning and bfloat16 on the device that Keras' backend sees.

    python tools/check_gpu.py [--backbone NAME] [--images N] [--size PIXELS]

Run it once for each backend, with KERAS_BACKEND=tensorflow, torch or jax. The images are random.
The weights are pretrained if they are there or can be downloaded, else random. Prints a table and
ends with an error if float32 on the device does not agree with float32 on the CPU, or if bfloat16
is not near it.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras

from transferclf import CNNFeatureExtractor, TransferClassifier
from transferclf.engines.keras import KerasEngine
from transferclf.engines.tensorflow import TensorFlowEngine
from transferclf.exceptions import TransferclfError
from transferclf.graphs.folding import fold_batch_norm

# Shares of the largest value, and a cosine.
EXACT, TRAINED, NEAR = 1e-4, 1e-2, 0.99

# With one of these, a backend sees no GPU.
WITHOUT_GPU = {"CUDA_VISIBLE_DEVICES": "-1", "HIP_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu"}


def device():
    """Return the kind and the name of the device on which Keras computes by default."""
    backend = keras.backend.backend()
    if backend == "torch":
        import torch

        if torch.cuda.is_available():
            return "GPU", torch.cuda.get_device_name()
    elif backend == "jax":
        import jax

        first = jax.devices()[0]
        if first.platform != "cpu":
            return first.platform.upper(), first.device_kind
    else:
        import tensorflow as tf

        found = tf.config.list_physical_devices("GPU")
        if found:
            details = tf.config.experimental.get_device_details(found[0])
            return "GPU", details.get("device_name", found[0].name)
    return "CPU", "CPU"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="tiny", help="a backbone that Keras runs")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--size", type=int, default=96, help="height and width in pixels")
    parser.add_argument("--values", help=argparse.SUPPRESS)  # where to write the values of the CPU
    return parser.parse_args()


def random_images(count, size):
    """Return images whose three classes differ in colour, and their labels."""
    labels = np.arange(count) % 3
    images = np.random.default_rng(0).integers(0, 200, (count, size, size, 3), dtype=np.uint8)
    images[np.arange(count), :, :, labels] += 55
    return images, labels


def has_pretrained(backbone, size):
    try:
        CNNFeatureExtractor(backbone, image_size=size).fit(random_images(1, size)[0])
    except (TransferclfError, OSError) as error:
        print(f"no pretrained weights, so that they are random: {error}\n")
        return False
    return True


class Checks:
    """The checks; each returns values for the comparison, and images per second."""

    def __init__(self, options, weights):
        self.options = {"image_size": options.size, "weights": weights, "random_state": 0}
        self.backbone = options.backbone
        self.images, self.labels = random_images(options.images, options.size)
        self.extractor = self.extractor_on("auto").fit(self.images)

    def extractor_on(self, engine):
        """Return an extractor that stores nothing, so that each call computes."""
        return CNNFeatureExtractor(self.backbone, engine=engine, cache=None, **self.options)

    def features(self):
        """Extract by the engine that computes on the device."""
        name = "tensorflow" if keras.backend.backend() == "tensorflow" else "keras"
        extractor = self.extractor_on(name).fit(self.images)
        extractor.transform(self.images[:33])  # compiles both sizes of batches
        return self.timed(extractor.transform, len(self.images))

    def network(self, precision):
        """Run the network alone, in bfloat16 also where this package refuses it as too slow."""
        is_on_tensorflow = keras.backend.backend() == "tensorflow"
        engine = TensorFlowEngine() if is_on_tensorflow else KerasEngine()
        run = engine.compile(fold_batch_norm(self.extractor.prefix_.build()), precision)
        batches = [self.images[n : n + 32] for n in range(0, len(self.images), 32)]
        batches = [batch.astype(np.float32) for batch in batches]
        for batch in {len(batch): batch for batch in batches}.values():
            run(batch)  # compiles
        return self.timed(lambda _: np.concatenate(list(map(run, batches))), len(self.images))

    def fine_tuning(self):
        """Train the last layers for two epochs; the rate counts the images of both."""
        classifier = TransferClassifier(
            self.backbone, trainable_layers=8, fine_tune_epochs=2, cache=None, **self.options
        )
        _, rate = self.timed(lambda X: classifier.fit(X, self.labels), 2 * len(self.images))
        losses = classifier.history_["loss"]
        if losses[-1] >= losses[0]:
            sys.exit(f"fine-tuning does not lower the loss: {losses}")
        return classifier.predict_proba(self.images), rate

    def timed(self, function, count):
        """Return what a function gives for the images, and how many of `count` in a second."""
        start = time.perf_counter()
        values = function(self.images)
        return values, count / (time.perf_counter() - start)


def values_on_cpu(options, weights):
    """Return the features and probabilities of a process that sees no GPU."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "values.npz")
        words = [f"--{name}={getattr(options, name)}" for name in ("backbone", "images", "size")]
        command = [sys.executable, __file__, *words, f"--values={file}"]
        subprocess.run(command, env=os.environ | WITHOUT_GPU, check=True, stdout=subprocess.DEVNULL)
        with np.load(file) as values:
            return dict(values)


def difference(found, expected):
    """Return the largest difference, as a share of the largest value."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def smallest_cosine(found, expected):
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    return float(((found * expected).sum(axis=1) / norms).min())


def main():
    options = arguments()
    weights = "pretrained" if has_pretrained(options.backbone, options.size) else None
    checks = Checks(options, weights)
    if options.values:
        features, tuned = checks.features()[0], checks.fine_tuning()[0]
        np.savez(options.values, features=features, tuned=tuned)
        return
    kind, name = device()
    if kind == "CPU":
        print("No GPU: Keras sees none, so that everything below ran on the CPU.\n")
    expected = values_on_cpu(options, weights)
    features, speed = checks.features()
    full, full_speed = checks.network("float32")
    exact, alone = (difference(found, expected["features"]) for found in (features, full))
    low, low_speed = checks.network("bfloat16")
    cosine = smallest_cosine(low, expected["features"])
    tuned, tuned_speed = checks.fine_tuning()
    trained = difference(tuned, expected["tuned"])
    side = options.size
    print(f"{options.backbone}, {options.images} images of {side} x {side} pixels\n")
    print("| device | backend | what | images/s | compared with float32 on the CPU |")
    print("|---|---|---|---|---|")
    for what, rate, agreement in (
        ("extraction, float32", speed, f"largest difference {exact:.1e}"),
        ("network alone, float32", full_speed, f"largest difference {alone:.1e}"),
        ("network alone, bfloat16", low_speed, f"smallest cosine {cosine:.5f}"),
        ("fine-tuning, 8 layers", tuned_speed, f"largest difference {trained:.1e}"),
    ):
        print(f"| {name} | {keras.backend.backend()} | {what} | {rate:.0f} | {agreement} |")
    if max(exact, alone) > EXACT or trained > TRAINED or cosine < NEAR:
        sys.exit(f"\nexpected at most {EXACT} and {TRAINED}, and a cosine of at least {NEAR}")


if __name__ == "__main__":
    main()
