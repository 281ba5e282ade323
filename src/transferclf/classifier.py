"""TransferClassifier: says what to do, does little itself."""

from __future__ import annotations

from dataclasses import replace
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from transferclf._base import BackboneEstimator
from transferclf._validation import (
    OPTIMIZERS,
    check_choice,
    check_head,
    check_number,
    check_sample_weight,
    check_trainable_layers,
    class_weights,
    encode_targets,
    seed_from,
)
from transferclf.exceptions import InvalidParameterError
from transferclf.images import ImageSource
from transferclf.networks.suffix import Suffix
from transferclf.training.learning import fine_tune, fit_head
from transferclf.training.linear import LinearHead
from transferclf.training.phases import Recipe, TrainedSuffix

if TYPE_CHECKING:
    import keras


class TransferClassifier(ClassifierMixin, BackboneEstimator):
    """Classify images by a pretrained network and a head trained on its features.

    The frozen part of the network is a constant function: every distinct image goes through it
    once, and its activations serve all folds, grid points and clones. By default the head is
    softmax regression on standardised features, fitted to its optimum by L-BFGS; hidden layers
    are trained by a Keras optimizer; and with `trainable_layers` the last layers of the network
    are then trained together with the head.

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
    hidden_units : tuple of int, default=()
        Widths of the head's hidden layers; () is softmax regression.
    activation : str, default="relu"
        Activation of the hidden layers, one of Keras' names.
    dropout : float or sequence of float, default=0.0
        Rate of dropout after each hidden layer, or on the features where there is none; one for
        all or one for each.
    l1 : float, default=0.0
        Weight of the sum of absolute values of the head's kernels, beside the mean cross-entropy.
    l2 : float, default=0.01
        Weight of the sum of their squares.
    optimizer : str, default="auto"
        "lbfgs", or one of Keras' names ("adam", "sgd", "rmsprop", ...). "auto" is L-BFGS where
        it can be, without hidden layers, dropout and `l1`, and Adam elsewhere.
    learning_rate : float, default=0.001
        Step size of a Keras optimizer.
    epochs : int, default=20
        How often a Keras optimizer sees the images while it trains the head.
    batch_size : int, default=32
        How many at a time.
    max_iter : int, default=1000
        L-BFGS iterations at most.
    trainable_layers : int or str, default=0
        What of the backbone is trained after the head: its last n layers, "all", or the layer or
        block of this name ("block5", "conv5_block3") and everything after it. Batch
        normalisation keeps its statistics.
    fine_tune_epochs : int, default=10
        Epochs for head and layers together.
    fine_tune_learning_rate : float, default=1e-05
        Step size for them; Adam where `optimizer` is "auto" or "lbfgs".
    class_weight : {"balanced"}, dict or None, default=None
        Factor for the samples of each class; "balanced" makes all classes weigh the same.
    image_shape : (h, w) or (h, w, c) or None, default=None
        What each row of a 2-D X is.
    pixel_range : None, "minmax" or (low, high), default=None
        What black and white are. None decides once, at fit: 0 to 255 for 8-bit, 0 to 65535 for
        16-bit integers, 0 to 1 or 0 to 255 for floats. "minmax" stretches each image.
    cache : {"memory", None}, path or FeatureStore, default="memory"
        Where activations are kept: in one bounded store of this process; in a folder, for other
        processes and later runs too; in a store of your own; or nowhere.
    engine : {"auto", "tensorflow", "onnxruntime", "openvino", "keras"}, default="auto"
        What runs the frozen part; see :func:`transferclf.networks.inference.compile_forward`.
    precision : {"float32", "bfloat16"}, default="float32"
        Of the frozen part. bfloat16 is faster on some processors and changes features a little.
    random_state : int, RandomState or None, default=None
        Determines random weights (`weights=None`), the initial weights of hidden layers, dropout
        and the order of the images.
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
        "loss" and "accuracy" on the training images after each iteration or epoch, those of
        fine-tuning after those of the head.
    n_iter_ : int
        Iterations and epochs that were needed.
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

    head_: LinearHead | TrainedSuffix
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
        hidden_units: Any = (),
        activation: str = "relu",
        dropout: Any = 0.0,
        l1: float = 0.0,
        l2: float = 0.01,
        optimizer: str = "auto",
        learning_rate: float = 1e-3,
        epochs: int = 20,
        batch_size: int = 32,
        max_iter: int = 1000,
        trainable_layers: Any = 0,
        fine_tune_epochs: int = 10,
        fine_tune_learning_rate: float = 1e-5,
        class_weight: Any = None,
        image_shape: Any = None,
        pixel_range: Any = None,
        cache: Any = "memory",
        engine: str = "auto",
        precision: str = "float32",
        random_state: Any = None,
        verbose: int = 0,
    ):
        self.backbone = backbone
        self.weights = weights
        self.image_size = image_size
        self.resize = resize
        self.pooling = pooling
        self.preprocessing = preprocessing
        self.hidden_units = hidden_units
        self.activation = activation
        self.dropout = dropout
        self.l1 = l1
        self.l2 = l2
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.epochs = epochs
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.trainable_layers = trainable_layers
        self.fine_tune_epochs = fine_tune_epochs
        self.fine_tune_learning_rate = fine_tune_learning_rate
        self.class_weight = class_weight
        self.image_shape = image_shape
        self.pixel_range = pixel_range
        self.cache = cache
        self.engine = engine
        self.precision = precision
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
        if factors is not None:
            weights = weights * factors[labels]
        seed = seed_from(self.random_state)
        self._fit_prefix(seed, trainable_layers=self.trainable_layers)
        self.head_ = self._fitted_head(source, labels, weights, seed)
        self.history_ = self.head_.history
        self.n_iter_ = len(self.history_["loss"])
        self._model: keras.Model | None = None
        return self

    def _fitted_head(
        self, source: ImageSource, labels: np.ndarray, weights: np.ndarray, seed: int
    ) -> LinearHead | TrainedSuffix:
        """Train the head on features, then what is above the cut on the activations there."""
        shape = Suffix(len(self.classes_), self._hidden_units(), self.activation)
        recipe, verbose = self._recipe(seed), int(self.verbose)
        rows = self._features(source)
        features = self._after_cut(source, rows) if self.prefix_.is_cut else rows
        head = fit_head(
            features, labels, weights, shape, recipe, max_iter=self.max_iter, verbose=verbose
        )
        if not self.prefix_.is_cut:
            return head
        recipe = self._fine_tuning(recipe)
        return fine_tune(head, self.prefix_, rows, labels, weights, shape, recipe, verbose=verbose)

    def _recipe(self, seed: int) -> Recipe:
        dropout = np.broadcast_to(self.dropout, max(len(self._hidden_units()), 1))
        return Recipe(
            self._optimizer(),
            float(self.learning_rate),
            int(self.epochs),
            int(self.batch_size),
            float(self.l1),
            float(self.l2),
            tuple(dropout.astype(float).tolist()),
            seed,
        )

    def _fine_tuning(self, recipe: Recipe) -> Recipe:
        return replace(
            recipe,
            optimizer="adam" if recipe.optimizer == "lbfgs" else recipe.optimizer,
            learning_rate=float(self.fine_tune_learning_rate),
            epochs=int(self.fine_tune_epochs),
        )

    def _optimizer(self) -> str:
        if self.optimizer != "auto":
            return self.optimizer
        return "lbfgs" if self._is_softmax_regression() else "adam"

    def _is_softmax_regression(self) -> bool:
        return not self._hidden_units() and self.l1 == 0 and not np.any(self.dropout)

    def _hidden_units(self) -> tuple[int, ...]:
        units = self.hidden_units
        return (int(units),) if isinstance(units, Integral) else tuple(map(int, units))

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
        from transferclf.networks.heads import with_head

        head = self.head_
        options: dict[str, Any] = {}
        if isinstance(head, TrainedSuffix):
            activation, dropout = head.suffix.activation, head.dropout
            options = {"activation": activation, "dropout": dropout, "tuned": head.tuned()}
        features = self.prefix_.whole().build()
        return with_head(features, head.mean, head.scale, head.dense, **options)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_head(self.hidden_units, self.activation, self.dropout)
        for name in ("l1", "l2"):
            check_number(name, getattr(self, name), 0)
        for name in ("learning_rate", "fine_tune_learning_rate"):
            check_number(name, getattr(self, name), 0, above=True)
        for name in ("epochs", "batch_size", "max_iter", "fine_tune_epochs"):
            check_number(name, getattr(self, name), 1, whole=True)
        check_trainable_layers(self.trainable_layers)
        check_choice("optimizer", self.optimizer, OPTIMIZERS)
        if self.optimizer == "lbfgs" and not self._is_softmax_regression():
            raise InvalidParameterError(
                "optimizer='lbfgs' fits softmax regression only: expected hidden_units=(), l1=0 "
                f"and dropout=0. Got hidden_units={self.hidden_units!r}, l1={self.l1!r} and "
                f"dropout={self.dropout!r}; use 'auto' or one of Keras' optimizers."
            )
