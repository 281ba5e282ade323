"""
One pass over the images, and a grid search
===========================================

A search fits a classifier many times. With a store, each image still goes through the network once.
"""

# %%
# The backbone is frozen: whatever the penalty or the fold, it computes the same features of an
# image. So the features are worth keeping. ``cache="memory"`` keeps them in a store of this
# process. Here the store is made by hand, because it counts: ``misses`` are the images that it
# did not have.

import time

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, train_test_split

from transferclf import FeatureStore, TransferClassifier

digits = load_digits()
X, X_new, y, y_new = train_test_split(
    digits.images, digits.target, train_size=600, test_size=200, random_state=0
)
store = FeatureStore()
classifier = TransferClassifier("tiny", image_size=96, pixel_range=(0, 16), cache=store)

# %%
# Four penalties of the head in three folds are twelve fits. A last one learns from all images.

grid = {"l2": [1e-5, 1e-3, 1e-1, 10]}
search = GridSearchCV(classifier, grid, cv=3)
start = time.process_time()
search.fit(X, y)
seconds_with_store = time.process_time() - start
print(f"13 fits: {store.info().misses} images went through the network")
for l2, accuracy in zip(grid["l2"], search.cv_results_["mean_test_score"], strict=True):
    print(f"l2={l2:g}: accuracy {accuracy:.3f}")

# %%
# Without a store, each fit and each score computes the features of its images again. One fold
# shows the cost: it fits on two thirds of the images, and scores on the others.

alone = TransferClassifier("tiny", image_size=96, pixel_range=(0, 16), l2=1e-3, cache=None)
start = time.process_time()
alone.fit(X[:400], y[:400]).score(X[400:], y[400:])
seconds_of_one_fold = time.process_time() - start
print(f"the whole search: {seconds_with_store:.1f} CPU seconds with the store")
print(f"one of its 13 fits without a store: {seconds_of_one_fold:.1f} CPU seconds")

# %%
# The left bars are counted, the right bars are measured. The cost without a store is that of the
# one fold, times thirteen.

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
ways = ["with a store", "without"]
left.bar_label(left.bar(ways, [store.info().misses, 13 * len(X)], color=["#0072b2", "#d55e00"]))
left.set(ylabel="images through the network")
seconds = [seconds_with_store, 13 * seconds_of_one_fold]
right.bar_label(right.bar(ways, seconds, color=["#0072b2", "#d55e00"]), fmt="%.1f")
right.set(ylabel="CPU seconds")
for axes in (left, right):
    axes.margins(y=0.15)
plt.show()

# %%
# New images are new to the store too. After their first prediction they are known to all clones.

print(f"accuracy on {len(X_new)} new images: {search.score(X_new, y_new):.3f}")
print(f"images through the network until now: {store.info().misses}")
search.score(X_new, y_new)
print(f"after the same images once more: {store.info().misses}")
