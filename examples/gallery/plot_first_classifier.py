"""
A first classifier
==================

Learn scikit-learn's handwritten digits with the bundled network, and look at the predictions.
"""

# %%
# The digits are gray images of 8 x 8 pixels, whose numbers go from 0 to 16. ``pixel_range`` says
# which numbers are black and white. Files need no such setting.

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from transferclf import TransferClassifier, top_k

digits = load_digits()
names = digits.target_names.astype(str)[digits.target]
X_train, X_test, y_train, y_test = train_test_split(
    digits.images, names, train_size=500, test_size=200, stratify=names, random_state=0
)
classifier = TransferClassifier("tiny", image_size=64, pixel_range=(0, 16), random_state=0)
classifier.fit(X_train, y_train)
print(f"accuracy on {len(y_test)} new images: {classifier.score(X_test, y_test):.3f}")

# %%
# The two most probable classes of three images, with their probabilities:

labels, probabilities = top_k(classifier, X_test[:3], k=2)
for likely, shares in zip(labels, probabilities, strict=True):
    print(", ".join(f"{name} {share:.3f}" for name, share in zip(likely, shares, strict=True)))

# %%
# A confusion matrix of scikit-learn shows which digits are taken for others.

import matplotlib.pyplot as plt
from sklearn.metrics import ConfusionMatrixDisplay

ConfusionMatrixDisplay.from_estimator(classifier, X_test, y_test, cmap="cividis", colorbar=False)
plt.show()

# %%
# The images whose prediction was worst, with the true and the predicted class:

from transferclf.reports import ImageGridDisplay

ImageGridDisplay.from_estimator(
    classifier, X_test, y_test, kind="worst", images=(X_test * 15).astype("uint8")
)
plt.show()
