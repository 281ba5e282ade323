"""
Features on a plane
===================

See what a network that has learned from photographs makes of other images, untrained.
"""

# %%
# The script draws four sorts of figures. Places, sizes and colours are random, so two discs
# have hardly a pixel in common.

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageDraw
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier

from transferclf import CNNFeatureExtractor
from transferclf.reports import EmbeddingDisplay


def drawn(name, rng, side=64):
    """Return a picture of a dark figure on light paper."""
    paper, ink = (tuple(rng.integers(*limits, 3).tolist()) for limits in [(150, 256), (0, 100)])
    picture = Image.new("RGB", (side, side), paper)
    pen, r = ImageDraw.Draw(picture), rng.uniform(14, 24)
    x, y = rng.uniform(r, side - r, 2)
    box = [x - r, y - r, x + r, y + r]
    if name == "disc":
        pen.ellipse(box, fill=ink)
    elif name == "rings":
        for width in (1, 0.6, 0.2):
            around = [x - width * r, y - width * r, x + width * r, y + width * r]
            pen.ellipse(around, outline=ink, width=3)
    elif name == "cross":
        pen.line(box, fill=ink, width=6)
        pen.line([x - r, y + r, x + r, y - r], fill=ink, width=6)
    else:
        for height in np.linspace(-r, r, 5):
            pen.line([x - r, y + height, x + r, y + height], fill=ink, width=3)
    return np.asarray(picture)


rng = np.random.default_rng(0)
y = np.repeat(["cross", "disc", "lines", "rings"], 75)
X = np.array([drawn(name, rng) for name in y])

# %%
# t-SNE puts images side by side whose features are alike. On the left the features are the
# pixels, on the right those of the bundled network.

features = CNNFeatureExtractor("tiny", image_size=64).fit_transform(X)
pixels = X.reshape(len(X), -1) / 255

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.5), layout="constrained")
EmbeddingDisplay.from_features(pixels, y, ax=left, legend=False)
EmbeddingDisplay.from_features(features, y, ax=right)
left.set_title("pixels")
right.set_title("features")
plt.show()

# %%
# A picture is not a measure. The five nearest neighbours of an image name its class:

neighbours = KNeighborsClassifier(5)
for name, values in {"pixels": pixels, "features": features}.items():
    accuracy = cross_val_score(neighbours, values, y, cv=5).mean()
    print(f"five nearest neighbours by {name}: accuracy {accuracy:.3f}")
print("a guess: accuracy 0.250")

# %%
# Thumbnails show what neighbours have in common. In such a plot, only the neighbours of a point
# mean something. Distances between groups and sizes of groups mean nothing.

EmbeddingDisplay.from_features(features, y, images=X, thumbnails=True)
plt.show()
