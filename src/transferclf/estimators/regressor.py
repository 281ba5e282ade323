"""TransferRegressor: images in, numbers out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils import Tags

from transferclf.estimators.documentation import documented
from transferclf.estimators.parameters import RegressorParameters
from transferclf.estimators.transfer import TransferEstimator
from transferclf.objectives import Numbers
from transferclf.objectives.labels import check_apart
from transferclf.objectives.weights import check_sample_weight
from transferclf.training.learning import Learner
from transferclf.training.plan import split


@documented(
    linear="a linear head",
    choice="""by the exact errors of images that are left out (ridge) or by
        cross-validation (L-BFGS); scikit-learn's `Ridge` has alpha = n * l2 on standardised
        features and targets""",
    fits='"ridge" (the closed form), "lbfgs"',
    best="ridge for the squared error and L-BFGS for Huber's loss",
    varied="None, because a\n        change of an image may change its numbers",
)
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
    $parameters
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
    soup_ : float
        Share of the fine-tuned weights in use; 1 where no layers were trained.
    tuning_ : dict or None
        The choice of `trainable_layers="auto"`: "trainable_layers", "fine_tune_learning_rate" (None
        for no layers), the "reason" in words, and "trials", a list of dicts. These have the loss on
        held-out images ("val_loss") and the "cost" as a share of that of training all layers.
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
            If training ends in numbers that are not finite, or fine-tuning in a loss far too high.
            A fitted regressor is as it was; a new one has the result of the last finite epoch, if
            there was one, and after fine-tuning the head before it.

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
            validation = self._validation_images(validation_data, objective)
            chosen = self._plan(parameters, objective, images, validation, previous)
            train, held_out, indices = split(images, chosen.plan, self._seed)
            keep = partial(self._keep, sample_indices_=indices, tuning_=chosen.tuning)
            learner = Learner(
                chosen.plan,
                train,
                self._extractor(),
                validation=validation or held_out,
                holds_out=held_out is not None,
                previous=previous,
                keep=keep,
                verbose=int(parameters.verbose),
            )
            keep(chosen.head or learner.learn(), is_finished=True)
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
