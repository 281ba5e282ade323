"""
How sure is sure enough
=======================

Check that probabilities can be trusted, and move the threshold where one error costs more than the
other.
"""

# %%
# Is it an eight? The digits are noisy, so that the answer is seldom certain. One image in ten is
# an eight.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.calibration import CalibrationDisplay
from sklearn.datasets import load_digits
from sklearn.metrics import confusion_matrix, make_scorer
from sklearn.model_selection import TunedThresholdClassifierCV, train_test_split

from transferclf import TransferClassifier

digits = load_digits()
rng = np.random.default_rng(0)
noisy = (digits.images + rng.normal(0, 5, digits.images.shape)).clip(0, 16)
y = (digits.target == 8).astype(int)
X_train, X_test, y_train, y_test = train_test_split(
    noisy, y, train_size=800, stratify=y, random_state=0
)
classifier = TransferClassifier(
    "tiny", image_size=64, pixel_range=(0, 16), cache="memory", random_state=0
).fit(X_train, y_train)

# %%
# If probabilities are calibrated, half of the images with a probability of 0.5 are eights, and
# the points are near the diagonal. Where they are below it, the classifier is too sure of an
# eight. Few images are at the right, so the points there are uncertain themselves.

CalibrationDisplay.from_estimator(classifier, X_test, y_test, n_bins=5)
plt.show()


# %%
# A missed eight shall cost ten times as much as a false alarm. The threshold of 0.5 is then
# wrong. scikit-learn finds a better one in cross-validation. The folds use stored features.


def gain(y_true, y_pred):
    """Return minus the cost of all errors."""
    (_, false_alarms), (missed, _) = confusion_matrix(y_true, y_pred)
    return -(10 * missed + false_alarms)


tuned = TunedThresholdClassifierCV(classifier, scoring=make_scorer(gain), cv=5, random_state=0)
tuned.fit(X_train, y_train)
for name, model in {"0.5": classifier, "tuned": tuned}.items():
    (_, false_alarms), (missed, _) = confusion_matrix(y_test, model.predict(X_test))
    cost = 10 * missed + false_alarms
    print(f"threshold {name}: {missed} missed, {false_alarms} false alarms, cost {cost}")

# %%
# If the probabilities are calibrated, the best threshold is 1 / (1 + 10): from there on a missed
# eight is the larger risk. The tuned one was found on the training images. The curve is the cost
# on new images.

probability = classifier.predict_proba(X_test)[:, 1]
thresholds = np.linspace(0.005, 0.7, 100)
figure, ax = plt.subplots(figsize=(6.5, 3.5), layout="constrained")
ax.plot(thresholds, [-gain(y_test, probability >= threshold) for threshold in thresholds])
marks = {"usual": 0.5, "calibrated": 1 / 11, "tuned": tuned.best_threshold_}
for (name, threshold), colour in zip(marks.items(), ["gray", "#d55e00", "#009e73"], strict=True):
    ax.axvline(threshold, color=colour, linestyle="--", label=f"{name}: {threshold:.3f}")
ax.set(xlabel="threshold", ylabel="cost of the test images", ylim=(0, None))
ax.legend()
plt.show()
