"""TransferRegressor: images in, numbers out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils import Tags

from transferclf.estimators.parameters import RegressorParameters
from transferclf.estimators.transfer import TransferEstimator
from transferclf.objectives import Numbers
from transferclf.objectives.labels import check_apart
from transferclf.objectives.weights import check_sample_weight
from transferclf.training.learning import Learner


@dataclass(eq=False, repr=False, kw_only=True)
class TransferRegressor(RegressorMixin, TransferEstimator):
    """Predict one or several numbers for each image by a pretrained network and a head.

    The network, its cut and its stored activations are those of TransferClassifier. By default the
    head is ridge regression in closed form on standardised features; hidden layers are trained by
    a Keras optimizer; and with `trainable_layers` the last layers of the network are then trained
    together with the head. Targets are standardised by the weighted mean and deviation of the
    training targets inside, and predictions are in the units of y.

    Parameters
    ----------
    backbone : str, ConvNet or keras.Model, default="tiny"
        One of :func:`transferclf.list_backbones`; a :class:`transferclf.ConvNet`, to be trained
        from nothing; or a functional model of your own. "tiny" is bundled, needs no download.
    weights : {"pretrained", "imagenet"}, path or None, default="pretrained"
        "pretrained" is ImageNet for the networks of `keras.applications` and the bundled file for
        "tiny". None starts from random weights that `random_state` determines.
    image_size : int, (int, int) or None, default=None
        Side, or height and width, in pixels at which the network sees the images; None is the
        backbone's own, 64 for a ConvNet.
    resize : {"auto", "crop", "stretch", "pad"}, default="auto"
        "crop" takes the largest centred part, "stretch" distorts, "pad" adds black borders; "auto"
        is that of the backbone's training.
    pooling : {"auto", "avg", "max", "flatten", "cls", "cls+avg"}, default="auto"
        How maps or tokens become features: mean, maximum or all values, the class token, or this
        and the mean. "auto" is what the network's own library does, "avg" for maps.
    preprocessing : str or Preprocessing, default="auto"
        Scaling of the pixels, inside the network; "auto" is that of the backbone's training.
        Others are "none", "rescale" (to 0 to 1), "caffe", "tf", "torch" or a record. "standardize"
        and "zca" (whitening) are fitted to the training images, for random weights.
    image_shape : (h, w), (h, w, c), "infer" or None, default=None
        Shape of the image in each row of a 2-D X; "infer" is explained in
        :class:`transferclf.CNNFeatureExtractor`.
    pixel_range : None, "minmax" or (low, high), default=None
        Numbers of black and white. None decides once, at fit: 0 to 255 for 8-bit, 0 to 65535 for
        16-bit integers, 0 to 1 or 0 to 255 for floats. "minmax" stretches each image.
    cache : {"memory", None}, path or FeatureStore, default="memory"
        Where activations are kept: in one bounded store of this process; in a folder, for other
        processes and later runs too; in a store of your own; or nowhere.
    engine : {"auto", "tensorflow", "onnxruntime", "openvino", "torch", "keras"}, default="auto"
        Engine that runs the frozen part; see :func:`transferclf.engines.forward.compile_forward`.
    precision : {"float32", "bfloat16"}, default="float32"
        Of the frozen part. bfloat16 is faster on some processors and changes features a little.
    random_state : int, RandomState or None, default=None
        Determines random weights (`weights=None`, hidden layers), dropout and order of images.
    verbose : int, default=0
        1 shows progress.
    zca_epsilon : float, default=0.01
        Added by whitening to the variances of pixels on the scale 0 to 1.
    hidden_units : tuple of int, default=()
        Widths of the head's hidden layers; () is a linear head.
    activation : str, default="relu"
        Activation of the hidden layers, one of Keras' names.
    batch_norm : {None, "before", "after"}, default=None
        Batch normalisation in the hidden layers, before or after the activation.
    dropout : float or sequence of float, default=0.0
        Rate after each hidden layer, one for all or for each; without these, on the features.
    head : callable, keras.Layer, keras.Sequential or None, default=None
        Your own layers in the place of the hidden ones, from a Keras tensor of the backbone's last
        activations, mostly a map (n, h, w, c), to features (n, d). A function makes new layers in
        each fit; a layer or model is copied.
    l1 : float, default=0.0
        Weight of the sum of absolute values of the head's kernels, beside the mean loss.
    l2 : float or "auto", default="auto"
        Weight of the sum of their squares. "auto" chooses it for linear heads, by the exact errors
        of images that are left out (ridge) or by cross-validation (L-BFGS), and is 0.01 for other
        heads and 0 for networks from nothing. scikit-learn's `Ridge` has alpha = n * l2, on
        standardised features and targets.
    optimizer : str or keras.optimizers.Optimizer, default="auto"
        "ridge" (the closed form), "lbfgs", one of Keras' names ("adam", "sgd", ...) or an
        optimizer, which is copied. "auto" is ridge for the squared error and L-BFGS for Huber's
        loss where these can be, without hidden layers, dropout and `l1`, and Adam elsewhere.
    learning_rate : float or None, default=None
        Step size of a Keras optimizer; None is its own.
    lr_schedule : {None, "plateau", "cosine", "exponential"} or Keras schedule, default=None
        "plateau" makes it a fifth where the (validation) loss no longer falls; "cosine" takes it
        to nothing and "exponential" to a hundredth until the end of each phase.
    epochs : int, default=20
        How often a Keras optimizer sees the images while it trains the head.
    batch_size : int, default=32
        How many at a time.
    max_iter : int, default=1000
        L-BFGS iterations at most.
    early_stopping : bool, default=False
        Whether Keras' optimizers stop where the loss on validation images has not fallen for
        `patience` epochs, and the weights of the best epoch come back.
    validation_fraction : float, default=0.1
        How much of the training images is held out for that, unless `fit` is given others.
    patience : int, default=5
        In epochs.
    callbacks : sequence of keras.callbacks.Callback or None, default=None
        Called at the epochs of each phase of a Keras optimizer. The objects themselves are called;
        clones have copies. `fit` raises their errors. They see the model of the trained part.
    warm_start : bool, default=False
        Whether `fit` goes on from the result of the last one, also of an interrupted one.
    trainable_layers : int or str, default=0
        The layers of the backbone to train after the head: the last n, "all", or the layer or
        block of this name ("block5", "conv5_block3") and everything after it. Batch
        normalisation keeps its statistics.
    fine_tune_epochs : int, default=10
        Epochs for head and layers together.
    fine_tune_learning_rate : float, default=1e-05
        Step size for them; Adam where `optimizer` is "auto", "ridge" or "lbfgs".
    layer_decay : float or None, default=None
        Factor on the steps of each trained layer, once for each layer it is below the head.
    augmentation : {None, "light", "medium", "strong"} or Augmentation, default=None
        How training images are varied: afresh in each epoch where all layers are trained, else in
        fixed views whose activations are stored too.
    test_time_augmentation : {None, "views", "crops", "both"}, default=None
        Whether predictions are means over an image's views, its two extreme crops, or both.
    loss : {"squared_error", "huber"}, default="squared_error"
        Loss of standardised targets, summed over the outputs. "huber" is Keras' with delta=1:
        half the squared error up to one deviation of the target and the absolute error beyond,
        which outliers pull at less.

    Attributes
    ----------
    n_outputs_ : int
        How many numbers each image has.
    output_names_ : ndarray of shape (n_outputs_,)
        Their names, if y was a data frame or a named series, else 0, 1, ...
    model_ : keras.Model
        The whole regressor as one flat Keras model from pixels between 0 and 255 to numbers in the
        units of y, shape (n, n_outputs_); built when first asked for.
    history_ : dict of str to list of float
        "loss" on training images after each iteration or epoch, of standardised targets and with
        penalties; "mae", the mean absolute error in the units of y, averaged over the outputs;
        "val_loss" and "val_mae" on validation images; "learning_rate" of Keras' optimizers. Ridge
        has one iteration.
    phases_ : list of dict
        The parts of `history_` in order, as of TransferClassifier.
    n_iter_, n_head_iter_ : int
        Iterations and epochs that were needed; those before fine-tuning.
    l2_ : float
        The penalty in use.
    sample_indices_ : ndarray of int
        The images that were learned from.
    augmentation_ : Augmentation or None
        How they were varied.
    engine_ : str
        The engine that runs the frozen part, never "auto"; "keras" for networks from nothing.
    pixel_range_ : tuple, "minmax" or None
        The pixel range in use; None where every image's own mode says it.
    n_features_in_ : int
        Length of the rows; only after fitting on rows.
    feature_names_in_ : ndarray of str objects, shape (n_features_in_,)
        Names of their columns; only after fitting on a table whose columns have names.

    See Also
    --------
    TransferClassifier : The same for classes, with notes on callbacks.

    Examples
    --------
    >>> import numpy as np
    >>> from transferclf import TransferRegressor
    >>> rng = np.random.default_rng(0)
    >>> grays = rng.integers(40, 200, 30)
    >>> images = np.stack([rng.normal(gray, 20, (32, 32)).clip(0, 255) for gray in grays])
    >>> regressor = TransferRegressor("tiny", pixel_range=(0, 255), image_size=32)
    >>> regressor.fit(images[:20], grays[:20]).predict(images[20:]).shape
    (10,)
    >>> bool(regressor.score(images[20:], grays[20:]) > 0.9)
    True
    """

    _record: ClassVar[type[RegressorParameters]] = RegressorParameters

    loss: str = "squared_error"

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(
        self,
        X: object,
        y: object = None,
        sample_weight: object = None,
        *,
        validation_data: object = None,
    ) -> TransferRegressor:
        """Learn to predict the numbers.

        If it is interrupted, the regressor has the result of the last epoch, or is as it was.

        Parameters
        ----------
        X : array-like or sequence of images, n of them
            See :func:`transferclf.images.check_images`.
        y : array-like of shape (n,) or (n, n_outputs)
            Finite numbers; the columns of a data frame name the outputs.
        sample_weight : array-like of shape (n,) or None, default=None
            Weight of each image; a weight of 2 is the same as the image twice.
        validation_data : (X, y) or None, default=None
            Images that are measured after each epoch, and decide early stopping; no part of X is
            then held out.

        Returns
        -------
        self

        Raises
        ------
        ImageError, InvalidParameterError, NetworkError, WeightsError
            If the images, a parameter, the network or its weights cannot be used.
        ValueError
            If y, `sample_weight` or `validation_data` does not fit the images, or y has values
            that are missing, infinite or no numbers.
        DivergenceError
            If training ends in numbers that are not finite. If the regressor was fitted before, it
            is as it was; a new one has the result of the last finite epoch, if there was one.

        Warns
        -----
        TransferclfWarning
            If y is constant, which is then predicted, or parameters were set that have no effect.
        """
        with self._as_before_if_it_fails():
            parameters = RegressorParameters.of(self)
            check_apart(X, y)
            source = self._fit_source(X)
            objective, targets = Numbers.encode(
                y,
                len(source),
                loss=parameters.loss,
                sample_weight=check_sample_weight(sample_weight, len(source)),
                known=self._known(),
            )
            _, images = self._weighted(source, targets, objective, sample_weight)
            previous, network = self._previous(objective), getattr(self, "prefix_", None)
            self.__dict__.update(objective.attributes())
            self._fit_network(parameters, self._next_seed(), parameters.trainable_layers)
            self._remark_on(source)
            previous = self._if_same_network(previous, network)
            plan = self._plan(parameters, objective, has_validation=validation_data is not None)
            validation = self._validation_images(validation_data, objective)
            train, held_out, indices = self._split(images, plan)
            keep = partial(self._keep, sample_indices_=indices)
            learner = Learner(
                plan,
                train,
                self._extractor(),
                validation=validation or held_out,
                previous=previous,
                keep=keep,
                verbose=int(parameters.verbose),
            )
            keep(learner.learn(), is_finished=True)
        return self

    def _known(self) -> Numbers | None:
        """Return the objective whose mean and deviation `warm_start` goes on with."""
        known = self.head_.suffix.objective if hasattr(self, "head_") else None
        return known if self.warm_start and isinstance(known, Numbers) else None

    def predict(self, X: object) -> np.ndarray:
        """Return the predicted numbers.

        Parameters
        ----------
        X : array-like or sequence of images, n of them
            Of any kind, not necessarily that of `fit`.

        Returns
        -------
        ndarray of shape (n,) or (n, n_outputs)
            Of the shape that y had in `fit`, and in its units, float64.
        """
        source = self._source_of(X)
        objective = self.head_.suffix.objective
        return objective.decide(objective.link(self._scores(source)))
