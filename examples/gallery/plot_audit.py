"""
Audit a damaged data set
========================

Find copies, leaks and wrong labels before a network learns from them.
"""

# %%
# Here the faults are made on purpose, so that we know the truth. Some labels of digits are
# swapped. Some training images are in the test set too: half of them as they are, half brighter.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from transferclf import CNNFeatureExtractor
from transferclf.reports import audit

digits = load_digits()
rng = np.random.default_rng(0)
X = (digits.images[:600] * 14).astype(np.uint8)
y = digits.target[:600].astype(str)
splits = np.array(["train"] * 400 + ["test"] * 200)
swapped = rng.choice(400, 20, replace=False)
y[swapped] = (digits.target[swapped] + rng.integers(1, 10, 20)) % 10
leaked = rng.choice(np.setdiff1d(np.arange(400), swapped), 20, replace=False)
X[400:420], y[400:420] = X[leaked], y[leaked]
X[410:420] += 20

# %%
# The audit compares features of the frozen network. For the labels it learns a head in folds, and
# asks what the head says of images that it has not seen. ``print`` shows the worst findings of
# each kind, with advice.

extractor = CNNFeatureExtractor("tiny", image_size=64, cache="memory")
found = audit(X, y, splits=splits, extractor=extractor, threshold=0.97)
print(found)

# %%
# ``found.label_errors`` is a table, the most certain errors first. As the faults are known here,
# we can count the right ones among the first suspects:

suspects = found.label_errors["index"][:20]
n_right = np.isin(suspects, swapped).sum()
print(f"of the first {len(suspects)} suspects, {n_right} of {len(swapped)} labels were swapped")

# %%
# Digits are so alike that at the usual ``threshold`` of 0.9 pairs are named that are no copies. At
# 0.97 there are fewer, and some of the brighter copies are missed too.

wide = audit(X, y, splits=splits, extractor=extractor)
print(f"leaks that are named at 0.9: {len(wide.leaks)}")
named = {tuple(pair) for pair in found.leaks[["index", "other_index"]].to_numpy().tolist()}
made = list(zip(leaked.tolist(), range(400, 420), strict=True))
print(f"leaks that are named at 0.97: {len(named)}")
print(f"of 10 that are the same image: {len(named & set(made[:10]))} are among these")
print(f"of 10 brighter ones: {len(named & set(made[10:]))} are among these")

# %%
# Look at suspects before you change anything: a label may be right and the digit badly written.

figure, axes = plt.subplots(2, 6, figsize=(9, 3.8), layout="constrained")
for ax, (_, row) in zip(axes.flat, found.label_errors.iterrows(), strict=False):
    ax.imshow(X[row["index"]], cmap="gray_r")
    truth = "swapped" if row["index"] in swapped else "label is right"
    ax.set_title(f"{row['label']}, rather {row['suggested']}\n{truth}", fontsize=9)
for ax in axes.flat:
    ax.axis("off")
plt.show()
