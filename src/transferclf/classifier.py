"""TransferClassifier: says what to do, does little itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from transferclf._base import BackboneEstimator
from transferclf._validation import (
    check_number,
    check_sample_weight,
    class_weights,
    encode_targets,
)
from transferclf.training.linear import LinearHead, fit_linear

if TYPE_CHECKING:
    import keras


class TransferClassifier(ClassifierMixin, BackboneEstimator):
    """Classify images by a pretrained network and a head trained on its features.

    The network is frozen: every distinct image goes through it once per process, and its features
    serve all folds, grid points and clones. The head is softmax regression on standardised
    features, fitted to its optimum by L-BFGS.

    Parameters
    ----------
    backbone : str or keras.Model, default="tiny"
        One of :func:`transferclf.list_backbones`, or a functional model of your own. "tiny" is
        bundled and needs no download.
    weights : {"pretrained", "imagenet"}, path or None, default="pretrained"
        "pretrained" is ImageNet for the networks of `keras.applications` and the bundled file for
        "tiny". None starts from random weights that `random_state` determines.
    image_size : int, (int, int) or None, default=None
        Side, or height and width, in pixels at which the network sees the images; None is the
        backbone's own.
    resize : {"crop", "stretch", "pad"}, default="crop"
        "crop" takes the largest centred part, "stretch" distorts, "pad" adds black borders.
    pooling : {"avg", "max", "flatten"}, default="avg"
        How the last activation maps become features.
    preprocessing : {"auto", "none", "caffe", "tf", "torch"}, default="auto"
        Scaling of the pixels, inside the network; "auto" is what the backbone was trained with.
    l2 : float, default=0.01
        Weight of the squared norm of the head's coefficients, beside the mean cross-entropy.
    class_weight : {"balanced"}, dict or None, default=None
        Factor for the samples of each class; "balanced" makes all classes weigh the same.
    max_iter : int, default=1000
        L-BFGS iterations at most.
    image_shape : (h, w) or (h, w, c) or None, default=None
        What each row of a 2-D X is.
    pixel_range : None, "minmax" or (low, high), default=None
        What black and white are. None decides once, at fit: 0 to 255 for 8-bit, 0 to 65535 for
        16-bit integers, 0 to 1 or 0 to 255 for floats. "minmax" stretches each image.
    cache : {"memory", None}, default="memory"
        Where features are kept: in one bounded store of this process, or nowhere.
    random_state : int, RandomState or None, default=None
        Determines random weights (`weights=None`).
    verbose : int, default=0
        1 shows progress.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels, sorted.
    model_ : keras.Model
        The whole classifier as one flat Keras model from pixels between 0 and 255 to
        probabilities; built when first asked for.
    history_ : dict of str to list of float
        "loss" and "accuracy" on the training images after each iteration.
    n_iter_ : int
        Iterations that were needed.
    pixel_range_ : tuple, "minmax" or None
        The pixel range in use; None where every image's own mode says it.
    n_features_in_ : int
        Length of the rows; only after fitting on rows.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from transferclf import TransferClassifier
    >>> digits = load_digits()
    >>> classifier = TransferClassifier("tiny", pixel_range=(0, 16))
    >>> classifier.fit(digits.images[:100], digits.target[:100]).predict(digits.images[:3])
    array([0, 1, 2])
    """

    head_: LinearHead
    classes_: np.ndarray

    def __init__(
        self,
        backbone: Any = "tiny",
        *,
        weights: Any = "pretrained",
        image_size: Any = None,
        resize: str = "crop",
        pooling: str = "avg",
        preprocessing: str = "auto",
        l2: float = 0.01,
        class_weight: Any = None,
        max_iter: int = 1000,
        image_shape: Any = None,
        pixel_range: Any = None,
        cache: Any = "memory",
        random_state: Any = None,
        verbose: int = 0,
    ):
        self.backbone = backbone
        self.weights = weights
        self.image_size = image_size
        self.resize = resize
        self.pooling = pooling
        self.preprocessing = preprocessing
        self.l2 = l2
        self.class_weight = class_weight
        self.max_iter = max_iter
        self.image_shape = image_shape
        self.pixel_range = pixel_range
        self.cache = cache
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> TransferClassifier:
        """Learn to tell the classes apart.

        Parameters
        ----------
        X : array-like or sequence of images, n of them
            See :func:`transferclf.images.check_images`.
        y : array-like of shape (n,)
            Class labels: strings, integers or booleans.
        sample_weight : array-like of shape (n,) or None, default=None
            Weight of each image; a weight of 2 is the same as the image twice.

        Returns
        -------
        self

        Raises
        ------
        ImageError, InvalidParameterError, NetworkError, WeightsError
            If the images, a parameter, the network or its weights cannot be used.
        ValueError
            If y or `sample_weight` does not fit the images.
        """
        self._check_parameters()
        source = self._fit_source(X)
        self.classes_, labels = encode_targets(y, len(source))
        weights = check_sample_weight(sample_weight, len(source))
        factors = class_weights(self.class_weight, self.classes_, labels)
        self._fit_prefix()
        self.head_ = fit_linear(
            self._features(source),
            labels,
            len(self.classes_),
            l2=self.l2,
            sample_weight=weights,
            class_weight=factors,
            max_iter=self.max_iter,
        )
        self.history_ = self.head_.history
        self.n_iter_ = len(self.history_["loss"])
        self._model: keras.Model | None = None
        if self.verbose:
            print(f"linear head: {self.n_iter_} iterations, loss {self.history_['loss'][-1]:.4f}")
        return self

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
        logits = self._head_on(X, "logits")
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
        return self._head_on(X, "probabilities")

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

    @property
    def model_(self) -> keras.Model:
        """The whole classifier as one flat Keras model, from pixels (0 to 255) to probabilities."""
        check_is_fitted(self)
        if self._model is None:
            self._model = self._assembled_model()
        return self._model

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        # The Keras model is rebuilt from the rest when it is asked for again.
        return state | {"_model": None} if "_model" in state else state

    def _head_on(self, X: Any, method: str) -> np.ndarray:
        features = self._features_of(X)
        return getattr(self.head_, method)(features)

    def _assembled_model(self) -> keras.Model:
        from transferclf.networks.heads import with_linear_head

        head = self.head_
        features = self.prefix_.build()
        return with_linear_head(features, head.mean, head.scale, head.coef, head.intercept)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_number("l2", self.l2, 0)
        check_number("max_iter", self.max_iter, 1, whole=True)
