"""
Several labels for an image
===========================

Name all the shapes in a picture, where each picture has none, one or several of them.
"""

# %%
# Each picture has any of four shapes, each with a probability of a half. ``y`` is a set of labels
# for each picture.

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageDraw

from transferclf import TransferClassifier
from transferclf.reports import evaluate

SHAPES = ["circle", "cross", "square", "triangle"]


def drawn(labels, rng, side=96):
    """Return a picture with a shape for each label, in different quarters."""
    picture = Image.new("RGB", (side, side), tuple(rng.integers(0, 256, 3).tolist()))
    pen = ImageDraw.Draw(picture)
    for quarter, name in zip(rng.permutation(4), labels, strict=False):
        half, r = side // 2, rng.uniform(12, 20)
        x, y = half * (quarter % 2) + rng.uniform(r, half - r), half * (quarter // 2) + half / 2
        colour = tuple(rng.integers(0, 256, 3).tolist())
        if name == "circle":
            pen.ellipse([x - r, y - r, x + r, y + r], fill=colour)
        elif name == "square":
            pen.rectangle([x - r, y - r, x + r, y + r], fill=colour)
        elif name == "triangle":
            pen.polygon([(x, y - r), (x - r, y + r), (x + r, y + r)], fill=colour)
        else:
            pen.line([(x - r, y - r), (x + r, y + r)], fill=colour, width=6)
            pen.line([(x + r, y - r), (x - r, y + r)], fill=colour, width=6)
    return np.asarray(picture)


rng = np.random.default_rng(0)
y = [{name for name in SHAPES if rng.random() < 0.5} for _ in range(900)]
X = np.array([drawn(sorted(labels), rng) for labels in y])
X_train, X_test, y_train, y_test = X[:600], X[600:], y[:600], y[600:]

# %%
# Nothing says that there are several labels: sets are enough. The head is then a logistic
# regression for each label, and the probabilities of an image do not sum to one.

classifier = TransferClassifier("tiny", image_size=96, random_state=0).fit(X_train, y_train)
evaluation = evaluate(classifier, X_test, y_test)
print(f"mean average precision {evaluation.mean_average_precision:.3f}")
print(f"pictures with all labels right {evaluation.subset_accuracy:.3f}")

# %%
# Predictions are rows of 0 and 1, with a column for each of ``classes_``.

figure, axes = plt.subplots(2, 4, figsize=(9, 5.6), layout="constrained")
predicted = classifier.predict(X_test)
for ax, image, labels, row in zip(axes.flat, X_test, y_test, predicted, strict=False):
    named = set(classifier.classes_[row == 1])
    ax.imshow(image)
    ax.set_title(", ".join(sorted(named)) or "nothing", fontsize=9)
    wrong = ", ".join(sorted(named ^ labels))
    ax.set_xlabel(f"wrong: {wrong}" if wrong else "all right", fontsize=9)
    ax.set(xticks=[], yticks=[])
plt.show()

# %%
# Each label has its own measures. "All labels right" is strict: four labels that are each right
# nine times in ten are all right in two pictures of three.

per_label = evaluation.per_label
figure, ax = plt.subplots(figsize=(6, 3), layout="constrained")
ax.bar_label(ax.bar(classifier.classes_, per_label["average_precision"]), fmt="%.3f")
ax.set(ylabel="average precision", ylim=(0, 1.1))
plt.show()
