"""
Fine-tuning that pays
=====================

Train the layers of the network too, where images are unlike the photographs of its training.
"""

# %%
# The script draws cells with one, two or three lobes of a nucleus. Their colours, sizes and
# places say nothing about the class.

import time

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageDraw

from transferclf import TransferClassifier
from transferclf.reports import TrainingHistoryDisplay

LOBES = {"one": 1, "two": 2, "three": 3}


def cell(name, rng, side=48):
    """Return a picture of a cell whose nucleus has some lobes that touch each other."""
    number, start = LOBES[name], rng.uniform(0, 2 * np.pi)
    plasma, body, nucleus = (
        tuple(rng.integers(low, high, 3).tolist())
        for low, high in [(200, 240), (150, 230), (60, 140)]
    )
    picture = Image.new("RGB", (side, side), plasma)
    pen, (x, y) = ImageDraw.Draw(picture), rng.uniform(0.4, 0.6, 2) * side
    size = rng.uniform(0.28, 0.36) * side
    pen.ellipse([x - size, y - size, x + size, y + size], fill=body)
    r = rng.uniform(0.5, 0.65) * size / np.sqrt(number)
    away = {1: 0, 2: 0.9, 3: 1.15}[number] * r
    for turn in start + 2 * np.pi * np.arange(number) / number:
        a, b = x + away * np.cos(turn), y + away * np.sin(turn)
        pen.ellipse([a - r, b - r, a + r, b + r], fill=nucleus)
    noisy = np.asarray(picture) + rng.normal(0, 15, (side, side, 3))
    return noisy.clip(0, 255).astype(np.uint8)


rng = np.random.default_rng(0)
y_train, y_test = np.repeat(list(LOBES), 150), np.repeat(list(LOBES), 100)
X_train, X_test = (np.array([cell(name, rng) for name in y]) for y in (y_train, y_test))

figure, axes = plt.subplots(1, 6, figsize=(9, 1.8), layout="constrained")
for ax, index in zip(axes, range(0, len(y_test), 50), strict=True):
    ax.imshow(X_test[index])
    ax.set_title(y_test[index])
    ax.axis("off")
plt.show()

# %%
# By default only the head is trained. ``trainable_layers="all"`` trains the head first, and then
# all layers together, on images that are varied at random.

runs, accuracies = {}, {}
for name, layers in {"head only": 0, "all layers": "all"}.items():
    start = time.process_time()
    runs[name] = TransferClassifier(
        "tiny", image_size=48, trainable_layers=layers, cache="memory", random_state=0
    ).fit(X_train, y_train)
    seconds = time.process_time() - start
    accuracies[name] = runs[name].score(X_test, y_test)
    print(f"{name}: accuracy {accuracies[name]:.3f} in {seconds:.1f} CPU seconds")

# %%
# The history has first the iterations of the head, then the epochs of all layers. Dashed lines
# show images that are held out of training. By these, fine-tuning decides how far to go from the
# head alone, so it can say beforehand whether it pays.

TrainingHistoryDisplay.from_estimator(runs["all layers"], name="all layers")
plt.show()

# %%
# The errors on new images, by true and predicted class:

from sklearn.metrics import ConfusionMatrixDisplay

figure, axes = plt.subplots(1, 2, figsize=(8, 3.8), layout="constrained")
for ax, (name, run) in zip(axes, runs.items(), strict=True):
    ConfusionMatrixDisplay.from_estimator(
        run, X_test, y_test, ax=ax, cmap="cividis", colorbar=False, labels=list(LOBES)
    )
    ax.set_title(f"{name}: {accuracies[name]:.3f}")
plt.show()

# %%
# On photographs the head alone is often as good, at a fraction of the time. If you do not know,
# ``trainable_layers="auto"`` tries both on held-out images and says in ``tuning_`` what it chose.
