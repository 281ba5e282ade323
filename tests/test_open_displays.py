"""Test of a user-defined display, which uses only public names."""

import base64
import re

import numpy as np
import pytest
from sklearn.metrics import ConfusionMatrixDisplay

from transferclf import TransferClassifier
from transferclf.reports import report


@pytest.fixture(scope="module")
def fitted():
    images = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(12) % 3
    return TransferClassifier("tiny", image_size=32, l2=0.1).fit(images, labels), images, labels


class MeanColourDisplay:
    """Show the mean brightness of the images of each predicted class."""

    def __init__(self, means):
        self.means = means

    @classmethod
    def from_estimator(cls, estimator, X, y):
        predicted = estimator.predict(X)
        means = {int(label): float(X[predicted == label].mean()) for label in np.unique(predicted)}
        return cls(means).plot()

    def plot(self):
        from matplotlib import pyplot

        self.figure_, self.ax_ = pyplot.subplots()
        self.ax_.bar(list(self.means), list(self.means.values()))
        self.ax_.set_xlabel("brightness of predicted classes")
        return self


@pytest.mark.slow
def test_a_display_is_added_to_the_page(fitted, tmp_path):
    classifier, images, labels = fitted
    drawn = MeanColourDisplay.from_estimator(classifier, images, labels)
    assert drawn.means[0] == pytest.approx(images[classifier.predict(images) == 0].mean())
    path = tmp_path / "page.html"
    displays = {"Mean <colour>": MeanColourDisplay, "Confusion": ConfusionMatrixDisplay}
    report(classifier, images, labels, path, audit=False, n_images=1, displays=displays)
    html = path.read_text("utf-8")
    assert "<h2>Mean &lt;colour&gt;</h2>" in html
    assert '<a href="#display2">Confusion</a>' in html
    section = re.search('<section id="display1">.*?</section>', html, re.DOTALL)[0]
    content = re.search('data:image/svg\\+xml;base64,([^"]*)', section)[1]
    assert "brightness of predicted classes" in base64.b64decode(content).decode()
