"""
A rare class
============

Accuracy hides that a rare class is missed. See it by class, and make each class count the same.
"""

# %%
# Eights are rare here, as most things are that people look for. The images are noisy, so that there
# is something to confuse. Each class has the same number of test images.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from transferclf import TransferClassifier
from transferclf.reports import ClassBalanceDisplay, evaluate

digits = load_digits()
rng = np.random.default_rng(0)
noisy = (digits.images + rng.normal(0, 4, digits.images.shape)).clip(0, 16)
train, test = [], []
for digit, n_train in {1: 110, 8: 10, 9: 110}.items():
    places = rng.permutation(np.flatnonzero(digits.target == digit))
    train.extend(places[:n_train])
    test.extend(places[110:170])
names = digits.target.astype(str)
X_train, y_train, X_test, y_test = noisy[train], names[train], noisy[test], names[test]
ClassBalanceDisplay.from_targets({"train": y_train, "test": y_test})
plt.show()

# %%
# ``class_weight="balanced"`` makes the images of a rare class weigh more, ``oversample=True``
# repeats them. For the default head, which is trained to its optimum, both mean nearly the same.
# Repeated images are stored, so they do not go through the network again.

common = {"image_size": 64, "pixel_range": (0, 16), "cache": "memory", "random_state": 0}
classifiers = {
    "as it is": TransferClassifier("tiny", **common),
    "class_weight": TransferClassifier("tiny", class_weight="balanced", **common),
    "oversample": TransferClassifier("tiny", oversample=True, **common),
}
found = {
    name: evaluate(classifier.fit(X_train, y_train), X_test, y_test)
    for name, classifier in classifiers.items()
}
for name, evaluation in found.items():
    print(f"{name}: balanced accuracy {evaluation.balanced_accuracy:.3f}")

# %%
# The balanced accuracy is the mean of the recalls of all classes. The recall of the eights is the
# share of eights that are found. The others may lose what the rare class gains.

figure, ax = plt.subplots(figsize=(7, 3.5), layout="constrained")
classes = found["as it is"].classes
places = np.arange(len(classes))
for shift, (name, evaluation) in enumerate(found.items()):
    recall = evaluation.per_class["recall"]
    bars = ax.bar(places + 0.27 * (shift - 1), recall, width=0.25, label=name)
    ax.bar_label(bars, fmt="%.2f")
    print(f"{name}: recall of the eights {recall[list(classes).index('8')]:.3f}")
ax.set_xticks(places, classes)
ax.set(ylabel="recall", ylim=(0, 1.1))
ax.legend(loc="upper center")
plt.show()

# %%
# Weights make up for numbers, not for variety. Ten images show few of the ways to write an eight;
# more images of the rare class are better than any weight.
