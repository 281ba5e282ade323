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
from transferclf.estimators.documentation import documented
from transferclf.estimators.in_parts import has_partial_fit, warn_of_first_images
from transferclf.estimators.parameters import ClassifierParameters
from transferclf.estimators.planning import check_memory, partial_plan
from transferclf.estimators.skipping import Sound, fit_to_sound, to_score
from transferclf.estimators.transfer import TransferEstimator
from transferclf.exceptions import warn
from transferclf.images.problems import raise_problems
from transferclf.objectives import Objective, announced, objective_for
from transferclf.objectives.labels import check_apart
from transferclf.objectives.weights import check_sample_weight
from transferclf.training.learning import Learner

if TYPE_CHECKING:
    from collections.abc import Mapping

_NO_LABEL = (
    "`predict` has no label for them, and on_error='skip' cannot leave out rows of a result: leave "
    "them out of X (`indices` of this error are their positions), or call `predict_proba`, which "
    "gives them rows of NaN."
)


@documented(
    linear="softmax regression",
    choice="by cross-validation",
    fits='"lbfgs"',
    best="L-BFGS",
    varied='"light" where layers of a\n        pretrained backbone are trained, and else None',
)
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
    $parameters
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
        With several labels, "binary_accuracy" is the share of right labels.
    phases_ : list of dict
        The parts of `history_`: "part" is "head", "fine-tuning" or "network" (from nothing), "unit"
        is "iteration" or "epoch", "length" their number. "kept" is the number after which the
        weights in use were reached; fewer if early stopping ("stopped_early") restored earlier.
    n_iter_, n_head_iter_, l2_ : int, int, float
        Iterations and epochs that were needed; those before fine-tuning; the penalty in use.
    soup_ : float
        Share of the fine-tuned weights in use; 1 where no layers were trained.
    tuning_ : dict or None
        The choice of `trainable_layers="auto"`: "trainable_layers", "fine_tune_learning_rate" (None
        for no layers), "is_mean" (whether the weights are the mean of two trainings), the "reason"
        in words, and "trials", a list of dicts. These have the loss on held-out images ("val_loss")
        and the "cost" as a share of that of training all layers.
    sample_indices_ : ndarray of int
        The images that were learned from, repeated where classes were oversampled.
    augmentation_ : Augmentation or None
        How they were varied.
    skipped_indices_ : ndarray of int
        Positions in X of the images that could not be used, ascending; with `on_error="raise"`
        there are none.
    engine_ : str
        The engine that runs the frozen part, never "auto"; "keras" for networks from nothing.
    pixel_range_ : tuple, "minmax" or None
        The pixel range in use; None where every image's own mode says it.
    n_features_in_ : int
        Length of the rows; only after fitting on rows.
    feature_names_in_ : ndarray of str objects, shape (`n_features_in_`,)
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
            Images to measure after each epoch, and for early stopping, instead of a part of X.

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
            If training ends in numbers that are not finite, or fine-tuning in a loss far too high.
            A fitted classifier is as it was; a new one has the result of the last finite epoch, if
            there was one, and after fine-tuning the head before it.

        Warns
        -----
        TransferclfWarning
            If parameters have no effect; if y is one-hot, or all images have one of the labels; if
            images are left out; if trials of `trainable_layers="auto"` diverge.
        """
        with self._as_before_if_it_fails():
            parameters = ClassifierParameters.of(self)
            check_apart(X, y)
            source = self._fit_source(X)
            others, y_others = self._validation_source(validation_data)
            labels = (parameters, y, sample_weight, y_others, self._next_seed())
            fit_to_sound(self, partial(self._fit_sound, *labels), source, others)
        return self

    def _fit_sound(
        self,
        parameters: ClassifierParameters,
        y: object,
        sample_weight: object,
        y_validation: object,
        seed: int,
        sound: Sound,
        sound_validation: Sound | None = None,
    ) -> None:
        """Learn from the images that are not skipped; y and weights are those of all images."""
        source, weights = sound.source, check_sample_weight(sample_weight, len(sound.given))
        objective, targets = sound.encoded(lambda y, n, _: objective_for(y, n), y, weights)
        objective, images = self._weighted(
            source, targets, objective, sound.part(weights), parameters.class_weight
        )
        previous, network = self._previous(objective), getattr(self, "prefix_", None)
        self.__dict__.update(objective.attributes())
        self._fit_network(parameters, seed, parameters.trainable_layers)
        self._remark_on(source)
        previous = self._if_same_network(previous, network)
        validation = self._validation_images(sound_validation, y_validation, objective)
        self._learn(parameters, objective, images, validation, previous, sound)

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
            source = self._fit_source(X) if is_first else self._source_of(X, self.on_error)
            objective = announced(classes, None if is_first else self.head_.suffix.objective, y)
            seed = seed_from(parameters.random_state) if is_first else None
            labels = (parameters, objective, y, sample_weight, seed)
            fit_to_sound(self, partial(self._partial_fit_sound, *labels), source)
        return self

    def _partial_fit_sound(
        self,
        parameters: ClassifierParameters,
        objective: Objective,
        y: object,
        sample_weight: object,
        seed: int | None,
        sound: Sound,
    ) -> None:
        """Learn from the images that are not skipped; the first call has a seed."""
        source, previous = sound.source, None if seed is not None else self.head_
        if seed is not None:
            self.__dict__.update(objective.attributes())
            self._fit_network(parameters, seed, is_partial=True)
            check_memory(parameters, self.prefix_, objective.n_outputs)
            self._remark_on(source)
        targets = objective.encode_known(y, len(sound.given))[sound.positions]
        weights = sound.part(check_sample_weight(sample_weight, len(sound.given)))
        objective, images = self._weighted(
            source, targets, objective, weights, parameters.class_weight
        )
        if seed is not None:
            warn_of_first_images(images, objective)
        plan = partial_plan(parameters, self.prefix_, objective, self._seed, previous)
        verbose = int(parameters.verbose)
        learner = Learner(plan, images, self._extractor(), previous=previous, verbose=verbose)
        # One epoch is all or nothing: if it is interrupted, the classifier is as it was.
        self._keep(learner.learn(), is_partial=True, skipped_indices_=sound.skipped)

    def decision_function(self, X: object) -> np.ndarray:
        """Return the scores before the softmax, or the log-odds of each of several labels.

        Parameters
        ----------
        X : array-like or sequence of images, n of them
            Of any kind, not necessarily that of `fit`.

        Returns
        -------
        ndarray of shape (n,) for two exclusive classes, else (n, n_classes)
            For two classes the score of the second minus that of the first. With
            `on_error="skip"`, images that cannot be used have NaN.
        """
        return self._rows_of(
            X, lambda source: self.head_.suffix.objective.decision(self._scores(source))
        )

    def predict_proba(self, X: object) -> np.ndarray:
        """Return the probabilities of the classes.

        Parameters
        ----------
        X : array-like or sequence of images, n of them
            Of any kind, not necessarily that of `fit`.

        Returns
        -------
        ndarray of shape (n, n_classes)
            In the order of `classes_`. Each row sums to one, except for several labels. With
            `on_error="skip"`, images that cannot be used have rows of NaN.
        """
        return self._rows_of(X, self._linked)

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

        Raises
        ------
        ImageError
            If images cannot be used, also with `on_error="skip"`: no label can be NaN.
        """
        if self.on_error == "skip":
            source = self._source_of(X, "skip")
            probabilities = self.predict_proba(source)
            raise_problems(source.problems(), len(source), advice=_NO_LABEL)
        else:
            probabilities = self.predict_proba(X)
        return self.head_.suffix.objective.decide(probabilities)

    def score(self, X: object, y: object, sample_weight: object = None) -> float:
        """Return the share of the images that are predicted right, in all of their labels.

        Parameters
        ----------
        X, y, sample_weight
            As for :meth:`fit`. Images of classes that it did not see count as wrong. With
            `on_error="skip"`, images that cannot be used are left out.

        Returns
        -------
        float
            From 0 to 1, weighted by `sample_weight`.

        Warns
        -----
        TransferclfWarning
            If y has labels that are not in `classes_`, but look like one that is: "Cat", "cat". Or
            if images are left out.
        """
        predicted, (y, weights) = to_score(self, X, y, sample_weight)
        objective = self.head_.suffix.objective
        if remark := objective.remark_on(y):
            warn(remark)
        truth = objective.comparable(y)
        return float(accuracy_score(truth, predicted, sample_weight=weights))
