"""
Images of no known class
========================

A classifier must name one of its classes, whatever it is shown. A rejector may say that it does not
know.
"""

# %%
# The classifier knows the digits from 0 to 7. Two sorts of images are none of them: the digits 8
# and 9, and small pieces of two photographs.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits, load_sample_images
from sklearn.feature_extraction.image import extract_patches_2d

from transferclf import TransferClassifier, UnknownRejector
from transferclf.reports import UnknownDisplay, evaluate_unknowns

digits = load_digits()
order = np.random.default_rng(0).permutation(len(digits.target))
images = (digits.images[order] * 255 / 16).astype(np.uint8)
names = digits.target[order].astype(str)
is_known = digits.target[order] < 8
X_train, y_train = images[is_known][:500], names[is_known][:500]
X_known, y_known = images[is_known][500:700], names[is_known][500:700]
pieces = np.concatenate(
    [
        extract_patches_2d(photograph.mean(axis=2), (8, 8), max_patches=100, random_state=0)
        for photograph in load_sample_images().images
    ]
).astype(np.uint8)
unknown = {"digits 8 and 9": images[~is_known][:200], "pieces of photographs": pieces}

# %%
# ``coverage=0.95`` asks to keep 95 % of new images of the known classes. The rejector finds the
# threshold by known images that it holds out. It needs no unknown images.

classifier = TransferClassifier("tiny", image_size=64, random_state=0)
rejector = UnknownRejector(classifier, coverage=0.95, random_state=0).fit(X_train, y_train)
kept = rejector.predict(X_known) != "unknown"
print(f"known digits that are kept: {kept.mean():.3f}")
right = rejector.predict(X_known)[kept] == y_known[kept]
print(f"of these named right: {right.mean():.3f}")

# %%
# Without the rejector, many of the unknown images are named with confidence.

for name, strange in unknown.items():
    is_sure = rejector.predict_proba(strange).max(axis=1) > 0.9
    rejected = rejector.predict(strange) == "unknown"
    print(f"{name}: {is_sure.mean():.3f} named with more than 90 %, {rejected.mean():.3f} rejected")

# %%
# The higher the score, the more an image looks like the known ones. Unknown images left of the
# line are rejected. Images of a kind that is close to the known ones are harder to tell apart.

figure, axes = plt.subplots(2, figsize=(7, 5), layout="constrained")
for ax, (name, strange) in zip(axes, unknown.items(), strict=True):
    X, y = np.concatenate([X_known, strange]), [*y_known, *["unknown"] * len(strange)]
    UnknownDisplay.from_estimator(rejector, X, y, ax=ax)
    ax.set_title(f"{name}: AUROC {evaluate_unknowns(rejector, X, y).auroc:.3f}")
plt.show()

# %%
# The unknown digits that look most like known ones, with the predicted class:

scores = rejector.score_samples(unknown["digits 8 and 9"])
closest = np.argsort(scores)[::-1][:8]
figure, axes = plt.subplots(1, 8, figsize=(9, 1.6), layout="constrained")
for ax, index in zip(axes, closest, strict=True):
    image = unknown["digits 8 and 9"][index]
    ax.imshow(image, cmap="gray_r")
    ax.set_title(rejector.predict(image[None])[0])
    ax.axis("off")
plt.show()
