"""TransferRegressor: images in, numbers out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils import Tags

from transferclf.estimators.documentation import documented
from transferclf.estimators.parameters import RegressorParameters
from transferclf.estimators.skipping import Sound, fit_to_sound, to_score
from transferclf.estimators.transfer import TransferEstimator
from transferclf.objectives import Numbers
from transferclf.objectives.labels import check_apart
from transferclf.objectives.weights import check_sample_weight


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
    output_names_ : ndarray of shape (`n_outputs_`,)
        Their names, if y was a data frame or a named series, else 0, 1, ...
    model_ : keras.Model
        The whole regressor as one flat Keras model from pixels between 0 and 255 to numbers in the
        units of y, shape (n, `n_outputs_`); built when first asked for.
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
        for no layers), "is_mean" (whether the weights are the mean of two trainings), the "reason"
        in words, and "trials", a list of dicts. These have the loss on held-out images ("val_loss")
        and the "cost" as a share of that of training all layers.
    sample_indices_ : ndarray of int
        The images that were learned from.
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
            If y is constant, which is then predicted, parameters were set that have no effect,
            images are left out, or trials of `trainable_layers="auto"` diverge.
        """
        with self._as_before_if_it_fails():
            parameters = RegressorParameters.of(self)
            check_apart(X, y)
            source = self._fit_source(X)
            others, y_others = self._validation_source(validation_data)
            numbers = (parameters, y, sample_weight, y_others, self._next_seed())
            fit_to_sound(self, partial(self._fit_sound, *numbers), source, others)
        return self

    def _fit_sound(
        self,
        parameters: RegressorParameters,
        y: object,
        sample_weight: object,
        y_validation: object,
        seed: int,
        sound: Sound,
        sound_validation: Sound | None = None,
    ) -> None:
        """Learn from the images that are not skipped; y and weights are those of all images."""
        source, weights = sound.source, check_sample_weight(sample_weight, len(sound.given))
        encode = partial(self._encoded, parameters.loss)
        objective, targets = sound.encoded(encode, y, weights)
        _, images = self._weighted(source, targets, objective, sound.part(weights))
        previous, network = self._previous(objective), getattr(self, "prefix_", None)
        self.__dict__.update(objective.attributes())
        self._fit_network(parameters, seed, parameters.trainable_layers)
        self._remark_on(source)
        previous = self._if_same_network(previous, network)
        validation = self._validation_images(sound_validation, y_validation, objective)
        self._learn(parameters, objective, images, validation, previous, sound)

    def _encoded(
        self, loss: str, y: object, n_samples: int, weights: np.ndarray
    ) -> tuple[Numbers, np.ndarray]:
        """Check y, and return the objective and the standardised targets."""
        known = self._known()
        return Numbers.encode(y, n_samples, loss=loss, sample_weight=weights, known=known)

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
            Of the shape that y had in `fit`, and in its units, float64. With `on_error="skip"`,
            images that cannot be used have NaN.
        """
        linked = self._rows_of(X, self._linked)
        return self.head_.suffix.objective.decide(linked)

    def score(self, X: object, y: object, sample_weight: object = None) -> float:
        """Return the coefficient of determination (R²), averaged over the outputs.

        Parameters
        ----------
        X, y, sample_weight
            As for :meth:`fit`. With `on_error="skip"`, images that cannot be used are left out.

        Returns
        -------
        float
            At most 1, weighted by `sample_weight`.

        Raises
        ------
        ImageError
            If images cannot be used: any of them, or all of them with `on_error="skip"`.
        """
        predicted, (y, weights) = to_score(self, X, y, sample_weight)
        return float(r2_score(y, predicted, sample_weight=weights))
