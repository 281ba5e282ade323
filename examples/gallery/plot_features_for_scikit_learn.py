"""
Features for scikit-learn's classifiers
=======================================

Put any classifier of scikit-learn behind a pretrained network, or several of them together.
"""

# %%
# ``CNNFeatureExtractor`` is a transformer. In a pipeline, the next step gets features
# instead of images. A store keeps them, so that all pipelines share one pass over the images.
#
# The images are handwritten digits, pasted somewhere in a picture in some size and colour.

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier, StackingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from transferclf import CNNFeatureExtractor, FeatureStore


def pasted(digit, rng, side=64):
    """Return a picture with a digit of some size and colour somewhere."""
    size = int(rng.integers(40, 60))
    ink = Image.new("L", (side, side))
    place = tuple(rng.integers(0, side - size + 1, 2).tolist())
    ink.paste(Image.fromarray((digit * 15).astype(np.uint8)).resize((size, size)), place)
    share = np.asarray(ink)[:, :, None] / 240
    paper, colour = rng.integers(150, 256, 3), rng.integers(0, 100, 3)
    return (paper + (colour - paper) * share).astype(np.uint8)


digits = load_digits()
rng = np.random.default_rng(0)
X = np.array([pasted(digit, rng) for digit in digits.images[:900]])
y = digits.target[:900]
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=300, random_state=0)
store = FeatureStore()
extractor = CNNFeatureExtractor("tiny", image_size=64, cache=store)

classifiers = {
    "nearest neighbours": KNeighborsClassifier(5),
    "random forest": RandomForestClassifier(random_state=0),
    "linear discriminant": LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"),
    "support vectors": make_pipeline(StandardScaler(), SVC(C=10)),
}
pipelines = {name: make_pipeline(extractor, last) for name, last in classifiers.items()}

# %%
# A stack learns from the predictions of the others. It fits each of them on five folds and on all
# images.

pipelines["stack"] = StackingClassifier(
    [(name, pipelines[name]) for name in classifiers], LogisticRegression(max_iter=1000), cv=5
)

# %%
# The same classifiers on every fourth grey pixel show what the network adds.

by_features, by_pixels = {}, {}
pixels_train, pixels_test = (
    images[:, ::4, ::4].mean(axis=3).reshape(len(images), -1) for images in (X_train, X_test)
)
for name, pipeline in pipelines.items():
    by_features[name] = pipeline.fit(X_train, y_train).score(X_test, y_test)
    print(f"{name}: accuracy {by_features[name]:.3f} on features", end="")
    if name in classifiers:
        last = classifiers[name].fit(pixels_train, y_train)
        by_pixels[name] = last.score(pixels_test, y_test)
        print(f", {by_pixels[name]:.3f} on pixels", end="")
    print(f"; images through the network until now: {store.info().misses}")

figure, ax = plt.subplots(figsize=(7, 3.5), layout="constrained")
ax.plot(list(by_features.values()), list(by_features), "o", label="features")
ax.plot(list(by_pixels.values()), list(by_pixels), "s", label="pixels")
ax.set(xlabel=f"accuracy on {len(y_test)} test images")
ax.grid(alpha=0.3)
ax.legend()
plt.show()

# %%
# Classifiers that weigh the features gain most. Nearest neighbours weigh all features alike, also
# those that say nothing about digits.
