"""TransferClassifier: images in, classes or sets of labels out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils import Tags
from sklearn.utils.metaestimators import available_if

from transferclf._checks import seed_from
from transferclf.estimators.parameters import ClassifierParameters
from transferclf.estimators.planning import check_memory, partial_plan
from transferclf.estimators.transfer import TransferEstimator, has_partial_fit, warn_of_first_images
from transferclf.exceptions import warn
from transferclf.objectives import announced, objective_for
from transferclf.objectives.labels import check_apart
from transferclf.training.learning import Learner

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(eq=False, repr=False, kw_only=True)
class TransferClassifier(ClassifierMixin, TransferEstimator):
    """Classify images by a pretrained network and a head trained on its features.

    The frozen part of the network is a constant function: every distinct image goes through it
    once, and its activations serve all folds, grid points and clones. By default the head is
    softmax regression on standardised features, fitted to its optimum by L-BFGS, or a logistic
    regression for each label where images have several. Hidden layers are trained by a Keras
    optimizer, and with `trainable_layers` the last layers of the network together with the head.

    Parameters
    ----------
    backbone : str, ConvNet or keras.Model, default="tiny"
        One of :func:`transferclf.list_backbones`; a :class:`transferclf.ConvNet`, to be trained
        from nothing; or a functional model of your own. "tiny" is bundled.
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
        Widths of the head's hidden layers; () is softmax regression.
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
        Weight of the sum of their squares. "auto" chooses it by cross-validation on the training
        images for heads without layers, and is 0.01 for other heads, 0 for networks from nothing.
    optimizer : str or keras.optimizers.Optimizer, default="auto"
        "lbfgs", one of Keras' names ("adam", "sgd", ...) or an optimizer, which is copied. "auto"
        is L-BFGS where it can be, without hidden layers, dropout and `l1`, and Adam elsewhere.
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
        Step size for them; Adam where `optimizer` is "auto" or "lbfgs".
    layer_decay : float or None, default=None
        Factor on the steps of each trained layer, once for each layer it is below the head.
    augmentation : {None, "light", "medium", "strong"} or Augmentation, default=None
        How training images are varied: afresh in each epoch where all layers are trained, else in
        fixed views whose activations are stored too.
    test_time_augmentation : {None, "views", "crops", "both"}, default=None
        Whether predictions are means over an image's views, its two extreme crops, or both.
    oversample : bool, default=False
        Whether images of smaller classes repeat up to the largest one; refused for several labels.
    class_weight : {"balanced"}, dict or None, default=None
        Factor for the samples of each class, or with each label. "balanced" makes all classes weigh
        the same, or, for each label alone, the images with it and those without it.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels, sorted; those of the columns of y in their order.
    model_ : keras.Model
        The whole classifier as one flat Keras model, from pixels (0 to 255) to probabilities. Its
        `save` and `export` (SavedModel, ONNX, LiteRT) work as they are.
    history_ : dict of str to list of float
        "loss" and "accuracy" on training images after each iteration or epoch, fine-tuning last;
        "val_loss" and "val_accuracy" on validation images; "learning_rate" of Keras' optimizers.
        With several labels, "binary_accuracy" is the share of labels that are right.
    phases_ : list of dict
        The parts of `history_`: "part" is "head", "fine-tuning" or "network" (from nothing), "unit"
        is "iteration" or "epoch", "length" their number. "kept" is the number after which the
        weights in use were reached; fewer if early stopping ("stopped_early") restored earlier.
    n_iter_, n_head_iter_ : int
        Iterations and epochs that were needed; those before fine-tuning.
    l2_ : float
        The penalty in use.
    sample_indices_ : ndarray of int
        The images that were learned from, repeated where classes were oversampled.
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

    Notes
    -----
    Callbacks see training begin and end in each phase, of the head and of fine-tuning; L-BFGS has
    no epochs. The `history` of a `keras.callbacks.History` goes on over phases and fits, `epoch`
    is of the last phase. Callbacks that save the network are refused: it is trained in part.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from transferclf import TransferClassifier
    >>> digits = load_digits()
    >>> classifier = TransferClassifier("tiny", pixel_range=(0, 16))
    >>> classifier.fit(digits.images[:100], digits.target[:100]).predict(digits.images[:3])
    array([0, 1, 2])
    """

    _record: ClassVar[type[ClassifierParameters]] = ClassifierParameters
    oversample: bool = False
    class_weight: str | Mapping | None = None

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def fit(
        self,
        X: object,
        y: object = None,
        sample_weight: object = None,
        *,
        validation_data: object = None,
    ) -> TransferClassifier:
        """Learn to tell the classes apart. If interrupted, keep the last epoch, or what was before.

        Parameters
        ----------
        X : array-like or sequence of images, n of them
            See :func:`transferclf.images.check_images`.
        y : array-like of shape (n,) or (n, n_labels), or n sets of labels
            Class labels: strings, integers or booleans. Or several labels for each image: a table
            of 0 and 1 (array, sparse matrix, or data frame whose columns are their names), or sets
            or lists of labels, also empty ones.
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
            If y, `sample_weight` or `validation_data` does not fit, or no image has some label.
        DivergenceError
            If training ends in numbers that are not finite. A fitted classifier is as it was; a new
            one has the result of the last finite epoch, if there was one.

        Warns
        -----
        TransferclfWarning
            If parameters have no effect; if y is one-hot, or all images have one of the labels.
        """
        with self._as_before_if_it_fails():
            parameters = ClassifierParameters.of(self)
            check_apart(X, y)
            source = self._fit_source(X)
            objective, targets = objective_for(y, len(source))
            weights = (sample_weight, parameters.class_weight)
            objective, images = self._weighted(source, targets, objective, *weights)
            previous, network = self._previous(objective), getattr(self, "prefix_", None)
            self.__dict__.update(objective.attributes())
            self._fit_network(parameters, self._next_seed(), parameters.trainable_layers)
            self._remark_on(source)
            previous = self._if_same_network(previous, network)
            plan = self._plan(parameters, objective, has_validation=validation_data is not None)
            validation = self._validation_images(validation_data, objective)
            train, held_out, indices = self._split(images, plan, parameters.oversample)
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

    @available_if(has_partial_fit)
    def partial_fit(
        self, X: object, y: object, classes: object = None, sample_weight: object = None
    ) -> TransferClassifier:
        """Train the head on some more images: one epoch by a Keras optimizer.

        Features are standardised by the mean and deviation of all images so far. When these change,
        the first layer of the head is changed so that scores stay as they are; under a `head` of
        your own, which cannot be changed so, those of the first images stay. `epochs`,
        `lr_schedule` and `early_stopping` do not count here. A call that fails changes nothing.

        Parameters
        ----------
        X, y, sample_weight
            As for :meth:`fit`.
        classes : array-like of shape (n_classes,) or None, default=None
            All classes or labels that there will be; needed in the first call.

        Returns
        -------
        self

        Raises
        ------
        AttributeError
            If the head cannot be trained so: `optimizer="lbfgs"`, `class_weight="balanced"`, or
            layers of the backbone. Its cause names the change to make.
        ValueError
            If the classes are not known, or y has others.
        DivergenceError
            If training ends in numbers that are not finite.

        Warns
        -----
        TransferclfWarning
            If the first call gets few images or images of one class.
        """
        with self._as_before_if_it_fails():
            parameters = ClassifierParameters.of(self)
            check_apart(X, y)
            is_first = not hasattr(self, "head_")
            source = self._fit_source(X) if is_first else self._source_of(X)
            objective = announced(classes, None if is_first else self.head_.suffix.objective, y)
            if is_first:
                self.__dict__.update(objective.attributes())
                self._fit_network(parameters, seed_from(parameters.random_state), 0)
                check_memory(parameters, self.prefix_, objective.n_outputs)
                self._remark_on(source)
            targets = objective.encode_known(y, len(source))
            weights = (sample_weight, parameters.class_weight)
            objective, images = self._weighted(source, targets, objective, *weights)
            if is_first:
                warn_of_first_images(images, objective)
            previous = None if is_first else self.head_
            plan = partial_plan(parameters, self.prefix_, objective, self._seed, previous)
            verbose = int(parameters.verbose)
            learner = Learner(plan, images, self._extractor(), previous=previous, verbose=verbose)
            # One epoch is all or nothing: if it is interrupted, the classifier is as it was.
            self._keep(learner.learn(), is_partial=True)
        return self

    def decision_function(self, X: object) -> np.ndarray:
        """Return the scores before the softmax, or the log-odds of each of several labels.

        Parameters
        ----------
        X : array-like or sequence of images, n of them
            Of any kind, not necessarily that of `fit`.

        Returns
        -------
        ndarray of shape (n,) for two exclusive classes, else (n, n_classes)
            For two classes the score of the second minus that of the first.
        """
        source = self._source_of(X)
        return self.head_.suffix.objective.decision(self._scores(source))

    def predict_proba(self, X: object) -> np.ndarray:
        """Return the probabilities of the classes.

        Parameters
        ----------
        X : array-like or sequence of images, n of them
            Of any kind, not necessarily that of `fit`.

        Returns
        -------
        ndarray of shape (n, n_classes)
            In the order of `classes_`. Each row sums to one, except for several labels.
        """
        source = self._source_of(X)
        return self.head_.suffix.objective.link(self._scores(source))

    def predict(self, X: object) -> np.ndarray:
        """Return the most probable class, or all labels above one half, of each image.

        Parameters
        ----------
        X : array-like or sequence of images, n of them
            Of any kind, not necessarily that of `fit`.

        Returns
        -------
        ndarray of shape (n,) or (n, n_labels)
            Labels from `classes_`; with several labels a table of 0 and 1.
        """
        probabilities = self.predict_proba(X)
        return self.head_.suffix.objective.decide(probabilities)

    def score(self, X: object, y: object, sample_weight: object = None) -> float:
        """Return the share of the images that are predicted right, in all of their labels.

        Parameters
        ----------
        X, y, sample_weight
            As for :meth:`fit`. Images of classes that it did not see count as wrong.

        Returns
        -------
        float
            From 0 to 1, weighted by `sample_weight`.

        Warns
        -----
        TransferclfWarning
            If y has labels that are not in `classes_`, but look like one that is: "Cat", "cat".
        """
        predicted, objective = self.predict(X), self.head_.suffix.objective
        if remark := objective.remark_on(y):
            warn(remark)
        return float(
            accuracy_score(objective.comparable(y), predicted, sample_weight=sample_weight)
        )
