"""
Audit a damaged data set
========================

Find copies, leaks and wrong labels before a network learns from them.
"""

# %%
# Here the faults are made on purpose, so that we know the truth. Some labels of digits are
# swapped, and some training images are in the test set too, a little brighter.

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
X[400:420], y[400:420] = X[leaked] + 20, y[leaked]

# %%
# The audit compares features of the frozen network. For the labels it learns a head in folds, and
# asks what the head says of images that it has not seen. ``print`` shows the worst findings of
# each kind, with advice.

extractor = CNNFeatureExtractor("tiny", image_size=64)
found = audit(X, y, splits=splits, extractor=extractor, threshold=0.97)
print(found)

# %%
# ``found.label_errors`` is a table, the most certain errors first. As the faults are known here,
# we can count. The audit reads 20 suspects:

suspects = found.label_errors["index"][:20]
n_right = np.isin(suspects, swapped).sum()
print(f"of the first {len(suspects)} suspects, {n_right} of {len(swapped)} labels were swapped")
leaks = found.leaks[["index", "other_index"]].to_numpy()
made = {(before, after) for after, before in enumerate(leaked.tolist(), start=400)}
n_leaks = len(made & {tuple(sorted(pair)) for pair in leaks.tolist()})
print(f"{len(leaks)} leaks are named; {n_leaks} of the {len(made)} that were made are among them")

# %%
# Look at suspects before you change anything: a label may be right and the digit badly written.

figure, axes = plt.subplots(2, 6, figsize=(9, 3.8), layout="constrained")
for ax, (_, row) in zip(axes.flat, found.label_errors.iterrows(), strict=False):
    ax.imshow(X[row["index"]], cmap="gray_r")
    truth = "swapped" if row["index"] in swapped else "label is right"
    ax.set_title(f"{row['target']}, rather {row['suggested']}\n{truth}", fontsize=9)
for ax in axes.flat:
    ax.axis("off")
plt.show()
