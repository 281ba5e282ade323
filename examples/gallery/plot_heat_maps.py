"""
A heat map unmasks a classifier
===============================

A classifier may be right for a wrong reason. A heat map shows the part of the image that speaks for
a class.
"""

# %%
# Here is a trap. Discs and squares lie on pieces of two photographs. Each square that the
# classifier learns from has a small mark in a corner, as all pictures of one source often do.

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageDraw
from sklearn.datasets import load_sample_images

from transferclf import TransferClassifier
from transferclf.reports import GradCAMDisplay

photographs = load_sample_images().images
SIDE = 128


def drawn(name, rng, has_mark):
    """Return a piece of a photograph with a shape in its upper left part, and perhaps a mark."""
    ground = photographs[rng.integers(2)]
    top, left = (rng.integers(length - SIDE) for length in ground.shape[:2])
    picture = Image.fromarray(ground[top : top + SIDE, left : left + SIDE])
    pen, r, (x, y) = ImageDraw.Draw(picture), rng.uniform(8, 13), rng.uniform(16, 70, 2)
    draw = pen.ellipse if name == "disc" else pen.rectangle
    draw([x - r, y - r, x + r, y + r], fill=tuple(rng.integers(0, 256, 3).tolist()))
    if has_mark:
        low, high = SIDE - 28, SIDE - 6
        pen.polygon([(low, high), (high, high), (high, low)], fill="yellow", outline="red")
    return np.asarray(picture)


def images(number, marked_class, seed):
    """Return some images of each class; those of one class have the mark."""
    rng = np.random.default_rng(seed)
    y = np.repeat(["disc", "square"], number)
    return np.array([drawn(name, rng, name == marked_class) for name in y]), y


X_train, y_train = images(150, "square", seed=0)
X_test, y_test = images(100, "square", seed=1)
classifier = TransferClassifier("tiny", image_size=SIDE, random_state=0).fit(X_train, y_train)
print(f"accuracy on new images with the same mark: {classifier.score(X_test, y_test):.3f}")

# %%
# That looks good. The heat maps say why: the corner speaks for a square.

squares = X_test[y_test == "square"][:4]
GradCAMDisplay.from_estimator(classifier, squares, class_="square")
plt.show()

# %%
# So the classifier depends on the mark. Images without it, and discs with it, show that.

for name, marked_class in {"without any mark": None, "with the mark on discs": "disc"}.items():
    accuracy = classifier.score(*images(100, marked_class, seed=2))
    print(f"accuracy on new images {name}: {accuracy:.3f}")

# %%
# Learned without the mark, the same network looks at the shape.

honest = TransferClassifier("tiny", image_size=SIDE, random_state=0).fit(*images(150, None, 0))
print(f"learned without the mark: accuracy {honest.score(*images(100, None, 2)):.3f}")
GradCAMDisplay.from_estimator(honest, squares, class_="square")
plt.show()

# %%
# The share of the heat in the lower right quarter, where the mark is, on the same images:

for name, model in {"with the mark": classifier, "without": honest}.items():
    maps = GradCAMDisplay.from_estimator(model, squares, class_="square").heatmaps
    plt.close()
    half = maps.shape[1] // 2
    share = maps[:, half:, half:].sum() / maps.sum()
    print(f"learned {name}: {share:.3f} of the heat is at the mark")
