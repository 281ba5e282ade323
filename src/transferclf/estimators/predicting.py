"""What a fitted classifier says of images: scores, probabilities and labels."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import log_softmax, logsumexp, softmax
from sklearn.base import ClassifierMixin

from transferclf.augmentation.views import EXTREME_CROPS, View
from transferclf.estimators.learning import ClassifierLearning
from transferclf.estimators.recipes import check_test_time
from transferclf.estimators.targets import look_alike_remark
from transferclf.exceptions import TransferclfWarning
from transferclf.features.frozen import Prefix
from transferclf.images import ImageSource
from transferclf.training.phases import TrainedSuffix
from transferclf.training.plan import views_of


class ClassifierPredictions(ClassifierMixin, ClassifierLearning):
    """What is behind the predictions."""

    def decision_function(self, X: Any) -> np.ndarray:
        """Scores before the softmax.

        Parameters
        ----------
        X : array-like or sequence of images, n of them
            Of any kind, not necessarily that of `fit`.

        Returns
        -------
        ndarray of shape (n,) for two classes, else (n, n_classes)
            For two classes the score of the second minus that of the first.
        """
        logits = self._logits(self._source_of(X))
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of the classes.

        Parameters
        ----------
        X : array-like or sequence of images, n of them
            Of any kind, not necessarily that of `fit`.

        Returns
        -------
        ndarray of shape (n, n_classes)
            In the order of `classes_`; each row sums to one.
        """
        return softmax(self._logits(self._source_of(X)).astype(float), axis=1)

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each image.

        Parameters
        ----------
        X : array-like or sequence of images, n of them
            Of any kind, not necessarily that of `fit`.

        Returns
        -------
        ndarray of shape (n,)
            Labels from `classes_`.
        """
        best = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the share of the images that are predicted right.

        Parameters
        ----------
        X, y, sample_weight
            As for :meth:`fit`. Images of classes that it did not see count as wrong.

        Returns
        -------
        float

        Warns
        -----
        TransferclfWarning
            If y has labels that are not in `classes_`, but look like one that is: "Cat", "cat".
        """
        accuracy = super().score(X, y, sample_weight=sample_weight)
        if remark := look_alike_remark(y, self.classes_):
            warnings.warn(remark, TransferclfWarning, stacklevel=2)
        return accuracy

    def _logits(self, source: ImageSource) -> np.ndarray:
        """Class scores of shape (n, n_classes); of means over several looks, their logarithms."""
        check_test_time(self.test_time_augmentation, self.augmentation_)
        looks = [self._seen(source, *look) for look in self._looks()]
        if len(looks) == 1:
            return looks[0]
        logs = [log_softmax(look.astype(float), axis=1) for look in looks]
        return logsumexp(logs, axis=0) - np.log(len(logs))

    def _looks(self) -> list[tuple[Any, View | None]]:
        """How each image is resized and varied, for each look at it."""
        wanted = self.test_time_augmentation
        looks: list[tuple[Any, View | None]] = []
        if wanted != "crops":
            looks.append((self.resize_, None))
        if wanted in ("views", "both") and self.augmentation_ is not None:
            looks += [(self.resize_, view) for view in views_of(self.augmentation_)]
        if wanted in ("crops", "both"):
            looks += [(crop, None) for crop in EXTREME_CROPS]
        return looks

    def _seen(self, source: ImageSource, resize: Any, view: View | None) -> np.ndarray:
        return self._applied(self.head_.logits, source, resize, view)

    def _head_features(self, source: ImageSource) -> np.ndarray:
        """What the head sees, before it standardises it: (n, d)."""
        return self._applied(self.head_.features, source, self.resize_)

    def _applied(
        self,
        function: Callable[[np.ndarray], np.ndarray],
        source: ImageSource,
        resize: Any,
        view: View | None = None,
    ) -> np.ndarray:
        """A function of the rows below the head; of pixels, batch by batch."""
        read, prefix = self._extractor(resize), self._below_head()
        if not prefix.is_empty:
            return function(read.rows(source, prefix, view))
        batches = read.batches(source, prefix.size, view)
        return np.concatenate([function(pixels) for pixels in batches])

    def _below_head(self) -> Prefix:
        """What gives the rows: the prefix, or all of the network before it is fine-tuned."""
        head = self.head_
        is_at_cut = isinstance(head, TrainedSuffix) and head.suffix.prefix is not None
        # Training that was interrupted in its first phase has left a head on frozen features.
        return self.prefix_ if is_at_cut or not self.prefix_.is_cut else self.prefix_.whole()
