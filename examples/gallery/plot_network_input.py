"""
What the network sees
=====================

A network needs a square. Choose whether a wide photograph is cropped, stretched or padded.
"""

# %%
# The default, ``resize="crop"``, keeps the centre. The frame in each photograph shows what is
# left, and the title says how much that is.

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageDraw
from sklearn.datasets import load_sample_images

from transferclf import CNNFeatureExtractor, TransferClassifier
from transferclf.reports import NetworkInputDisplay

china, flower = load_sample_images().images
photographs = [china, china[:, 30:230]]
for resize in ("crop", "stretch", "pad"):
    extractor = CNNFeatureExtractor("tiny", image_size=96, resize=resize).fit(photographs)
    display = NetworkInputDisplay.from_estimator(extractor, photographs)
    display.figure_.suptitle(f'resize="{resize}"')
    plt.show()

# %%
# The best choice depends on where objects are. Here is a disc or a square on a wide piece of a
# photograph, anywhere from the left to the right edge.


def drawn(name, rng, height=60, width=150):
    """Return a wide picture with a bright shape somewhere."""
    ground = (china, flower)[rng.integers(2)]
    top, left = rng.integers(ground.shape[0] - height), rng.integers(ground.shape[1] - width)
    picture = Image.fromarray(ground[top : top + height, left : left + width])
    r = rng.uniform(10, 20)
    x, y = rng.uniform(r, width - r), rng.uniform(r, height - r)
    pen, box = ImageDraw.Draw(picture), [x - r, y - r, x + r, y + r]
    draw = pen.ellipse if name == "disc" else pen.rectangle
    draw(box, fill=tuple(rng.integers(128, 256, 3).tolist()))
    return np.asarray(picture)


rng = np.random.default_rng(0)
y = np.repeat(["disc", "square"], 300)
X = np.array([drawn(name, rng) for name in y])
is_train = np.arange(len(y)) % 2 == 0

# %%
# Cropped images have often lost the shape. Then no training helps. ``fit`` warns of such images.

import warnings

accuracies = {}
for resize in ("crop", "stretch", "pad"):
    classifier = TransferClassifier("tiny", image_size=96, resize=resize, random_state=0)
    with warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("always")
        classifier.fit(X[is_train], y[is_train])
    accuracies[resize] = classifier.score(X[~is_train], y[~is_train])
    print(f'resize="{resize}": accuracy {accuracies[resize]:.3f}')
    for remark in remarks:
        print(f"    the warning: {remark.message}")

figure, ax = plt.subplots(figsize=(5, 3), layout="constrained")
ax.bar_label(ax.bar(list(accuracies), list(accuracies.values())), fmt="%.3f")
ax.axhline(0.5, color="gray", linestyle="--", label="chance")
ax.set(ylabel="accuracy", ylim=(0, 1.1))
ax.legend(loc="lower right")
plt.show()
