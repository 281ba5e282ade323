"""UnknownRejector: a classifier that says of some images that they are none of its classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.pipeline import Pipeline
from sklearn.utils import Tags, get_tags
from sklearn.utils.validation import check_is_fitted

from transferclf._checks import seed_from
from transferclf.estimators.classifier import TransferClassifier
from transferclf.estimators.in_parts import trains_backbone
from transferclf.estimators.known import (
    check_held_out,
    check_is_constant,
    checked_classifier,
    checked_label,
    known_classes,
)
from transferclf.estimators.reading import (
    head_features,
    scores_and_features,
    sound_head_features,
)
from transferclf.estimators.skipping import Sound, checked_images, read_sound
from transferclf.estimators.strangeness import Normality, held_out_measures, offset_of
from transferclf.estimators.wrapped import n_samples_of, taken, through, unwrapped
from transferclf.exceptions import InvalidParameterError
from transferclf.images.loading import content_digests
from transferclf.objectives import Objective


class UnknownRejector(MetaEstimatorMixin, ClassifierMixin, BaseEstimator):
    """Classify images, and reject those that are none of the classes.

    A classifier has to choose one of its classes for any image, and is often sure of it. This one
    compares the features of an image with those of the known images. If they are stranger than
    those of almost all known images that were held out, `predict` returns `unknown_label`. No image
    goes through the network a second time for it.

    Parameters
    ----------
    estimator : TransferClassifier, or a pipeline or search that ends in one
        The classifier of the known classes. `fit` fits a clone of it. A fitted one is kept as it is
        inside of `sklearn.frozen.FrozenEstimator`.
    coverage : float, default=0.95
        Share of the known images to keep, between 0 and 1. The others are rejected by mistake.
    unknown_label : str, int or None, default=None
        Prediction for rejected images. It must not be one of the classes. None is "unknown" if
        the classes are texts, and else -1.
    n_splits : int, default=5
        Number of parts into which the known images are divided to be held out in turn; see Notes.
    random_state : int, RandomState or None, default=None
        Determines which images are held out together.

    Attributes
    ----------
    estimator_ : estimator
        The fitted classifier.
    classes_ : ndarray of shape (n_classes,)
        The known classes, sorted; `unknown_label_` is not among them.
    unknown_label_ : str or int
        The prediction for rejected images.
    offset_ : float
        The threshold: images with a lower value of `score_samples` are rejected.
    normality_ : Normality
        What the score remembers of the known images.
    held_out_scores_ : ndarray of shape (n_held_out,)
        Values of `score_samples` of the known images that were held out, ascending. The threshold
        is one of them.
    n_features_in_ : int
        Length of the rows; only after fitting on rows.
    feature_names_in_ : ndarray of str objects, shape (`n_features_in_`,)
        Names of their columns; only after fitting on a table whose columns have names.

    See Also
    --------
    transferclf.reports.evaluate_unknowns : Says how well unknown images are told apart.
    transferclf.reports.UnknownDisplay : Shows the scores of known and unknown images.

    Notes
    -----
    The score is the sum of two measures of the features that the head standardises, scaled to unit
    length, after directions in which images of one class differ were made shorter. Closeness is the
    mean of two cosines: to the two nearest known images [1]_, and to the nearest centre of a class,
    less what images of this class typically have.
    Contrast is the largest score of a linear discriminant, less the mean of the scores of all
    classes. Both use the covariance within classes, shrunk to a multiple of the identity [2]_, and
    are in standard deviations of held-out known images. Contrast counts only where it is below its
    mean. In `benchmarks/unknowns.py` this was better on average than each of the scores compared
    with it, such as the relative Mahalanobis distance [3]_, the energy [4]_ and the maximum softmax
    probability. The images of `fit` are remembered, so that their own scores are high; judge a
    rejector by others.

    The threshold has the guarantee of split conformal prediction: a new image of the known classes
    is kept with a probability of at least `coverage`, if it comes from the same source as the
    held-out ones [5]_. With n of these, that takes n >= coverage / (1 - coverage), 19 for 0.95; a
    warning says if there are fewer.

    If the backbone is frozen, the features depend on no label. Then the classifier learns from all
    images, and the threshold comes from `n_splits` folds: the score learns from all but one fold
    and judges that one. If layers of the backbone are trained, the features of the images that
    these learned from are unlike those of others. Then one part of `n_splits` is held out from all
    learning. A frozen classifier whose backbone was trained needs images in `fit` that it has not
    seen. Copies of one image are always held out together. The only image of a class counts as
    known, but says nothing of the threshold, because the score would not know its class.

    If the classifier has `on_error="skip"`, `fit` leaves out images that cannot be used. `predict`
    and `score_samples` raise the error that names them.

    `decision_function` and `predict_proba` are those of the classifier, as scikit-learn's scorers
    expect of a classifier; they do not know of unknown images. In the convention of scikit-learn's
    outlier detectors, `score_samples(X) - offset_` is negative for rejected images.

    References
    ----------
    .. [1] Sun, Ming, Zhu and Li, "Out-of-Distribution Detection with Deep Nearest Neighbors",
       ICML 2022.
    .. [2] Friedman, "Regularized Discriminant Analysis", Journal of the American Statistical
       Association 84 (1989).
    .. [3] Ren, Fort, Liu, Roy, Padhy and Lakshminarayanan, "A Simple Fix to Mahalanobis Distance
       for Improving Near-OOD Detection", ICML workshop on uncertainty, 2021.
    .. [4] Liu, Wang, Owens and Li, "Energy-based Out-of-distribution Detection", NeurIPS 2020.
    .. [5] Angelopoulos and Bates, "Conformal Prediction: A Gentle Introduction", Foundations and
       Trends in Machine Learning 16 (2023).

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from transferclf import TransferClassifier, UnknownRejector
    >>> images, labels = load_digits(return_X_y=True)
    >>> known = labels < 5
    >>> classifier = TransferClassifier(image_size=32, image_shape=(8, 8), pixel_range=(0, 16))
    >>> rejector = UnknownRejector(classifier, coverage=0.9, random_state=0)
    >>> rejector = rejector.fit(images[known][:200], labels[known][:200])
    >>> rejector.predict(images[:5]).tolist()
    [0, 1, 2, 3, 4]
    >>> unknown = rejector.predict(images[~known]) == -1
    >>> bool(unknown.mean() > 0.5)
    True
    """

    def __init__(
        self,
        estimator: BaseEstimator,
        *,
        coverage: float = 0.95,
        unknown_label: str | int | None = None,
        n_splits: int = 5,
        random_state: int | np.random.RandomState | None = None,
    ):
        self.estimator = estimator
        self.coverage = coverage
        self.unknown_label = unknown_label
        self.n_splits = n_splits
        self.random_state = random_state

    # --- fit

    def fit(self, X: object, y: object = None, sample_weight: object = None) -> UnknownRejector:
        """Fit the classifier, and learn which images are unlike those of the known classes.

        Parameters
        ----------
        X : array-like or sequence of images, n of them
            Images of the known classes.
        y : array-like of shape (n,)
            Their labels; one class for each image.
        sample_weight : array-like of shape (n,) or None, default=None
            Passed to `fit` of the classifier. The score counts all images alike.

        Returns
        -------
        self

        Raises
        ------
        InvalidParameterError
            If a parameter is not valid, `estimator` is no TransferClassifier, or `unknown_label` is
            one of the classes.
        sklearn.exceptions.NotFittedError
            If `estimator` is frozen and not fitted.
        ValueError
            If y is not one class for each image, or no class has two different images.

        Warns
        -----
        TransferclfWarning
            If there are too few images for `coverage`.
        """
        classifier, is_frozen = checked_classifier(self)
        objective, targets = known_classes(y, n_samples_of(X), classifier, is_frozen)
        unknown_label = checked_label(self.unknown_label, objective.labels)
        seed = seed_from(self.random_state)
        learned, others = None, None
        if trains_backbone(classifier) and not is_frozen:
            learned, others = self._split(X, targets, classifier, objective, seed)
            targets = targets[learned]
        parts = [_part(values, learned) for values in (X, y, sample_weight)]
        fitted = _fitted(self.estimator, *parts)
        if others is None and not is_frozen:
            check_is_constant(unwrapped(fitted)[1])
        # The classifier has warned of the images that it skipped, unless it is frozen.
        features, sound = _features_to_learn(fitted, parts[0], is_quiet=not is_frozen)
        targets = targets[sound]
        normality = Normality.of(features, targets)
        if others is None:
            held_out = held_out_measures(features, targets, self.n_splits, seed)
        else:
            held_out = normality.measures(_features_to_learn(fitted, _part(X, others))[0])
        check_held_out(held_out, len(features))
        self.estimator_ = fitted
        self.classes_ = objective.labels
        self.unknown_label_ = unknown_label
        self.normality_ = normality.standardised(held_out)
        self.held_out_scores_ = np.sort(self.normality_.scores_of(held_out))
        self.offset_ = offset_of(self.held_out_scores_, self.coverage)
        return self

    def _split(
        self,
        X: object,
        targets: np.ndarray,
        classifier: TransferClassifier,
        objective: Objective,
        seed: int,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the positions of the images to learn from, and of those that are held out."""
        if isinstance(self.estimator, Pipeline):
            raise InvalidParameterError(
                "estimator must be no pipeline where layers of the backbone are trained, since "
                "images are held out before it sees them. Fit the pipeline on other images, and "
                "pass it inside of sklearn.frozen.FrozenEstimator."
            )
        on_error = classifier.on_error
        source = checked_images(X, on_error, classifier.image_shape, classifier.pixel_range)

        def read() -> tuple[np.ndarray, list[bytes]]:
            sound = Sound.of(source, on_error)
            return sound.positions, content_digests(sound.source)

        sound, digests = read_sound(read, [source], on_error)
        fraction = 1 / self.n_splits
        learned, others = objective.validation_split(targets[sound], fraction, seed, digests)
        return sound[learned], sound[others]

    # --- predictions

    def predict(self, X: object) -> np.ndarray:
        """Return the class of each image, or `unknown_label_`.

        Parameters
        ----------
        X : array-like or sequence of images, n of them
            Of any kind, not necessarily that of `fit`.

        Returns
        -------
        ndarray of shape (n,)
            Labels from `classes_`, and `unknown_label_` for rejected images.
        """
        return judged(self, X)[0]

    def score_samples(self, X: object) -> np.ndarray:
        """Return how normal each image is: higher for images like those of the known classes.

        Parameters
        ----------
        X : array-like or sequence of images, n of them
            Of any kind, not necessarily that of `fit`.

        Returns
        -------
        ndarray of shape (n,), float64
            In standard deviations of held-out known images, whose typical score is near 0. Images
            with less than `offset_` are rejected.
        """
        check_is_fitted(self)
        return self.normality_.scores(_features(self.estimator_, X))

    def predict_proba(self, X: object) -> np.ndarray:
        """Return the probabilities of the known classes, as the classifier gives them.

        Parameters
        ----------
        X : array-like or sequence of images, n of them
            Of any kind, not necessarily that of `fit`.

        Returns
        -------
        ndarray of shape (n, n_classes)
            In the order of `classes_`; each row sums to one, for unknown images too.
        """
        check_is_fitted(self)
        return self.estimator_.predict_proba(X)

    def decision_function(self, X: object) -> np.ndarray:
        """Return the scores of the known classes, as the classifier gives them.

        Parameters
        ----------
        X : array-like or sequence of images, n of them
            Of any kind, not necessarily that of `fit`.

        Returns
        -------
        ndarray of shape (n,) for two classes, else (n, n_classes)
            For two classes the score of the second minus that of the first.
        """
        check_is_fitted(self)
        return self.estimator_.decision_function(X)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "offset_")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags = get_tags(self.estimator).input_tags
        return tags

    @property
    def n_features_in_(self) -> int:
        """Length of the rows; AttributeError unless the classifier was fitted on rows."""
        return self.estimator_.n_features_in_

    @property
    def feature_names_in_(self) -> np.ndarray:
        """Names of their columns; AttributeError unless these had names."""
        return self.estimator_.feature_names_in_


def judged(rejector: UnknownRejector, X: object) -> tuple[np.ndarray, np.ndarray]:
    """Return the predictions of a rejector and its scores, by one pass over the images."""
    check_is_fitted(rejector)
    steps, classifier = unwrapped(rejector.estimator_)
    scores, features = scores_and_features(classifier, through(steps, X))
    objective = classifier.head_.suffix.objective
    labels = objective.decide(objective.link(scores))
    normality = rejector.normality_.scores(features)
    is_unknown = normality < rejector.offset_
    return _with_unknown(labels, is_unknown, rejector.unknown_label_), normality


def _fitted(estimator: BaseEstimator, X: object, y: object, sample_weight: object) -> BaseEstimator:
    """Return a fitted clone."""
    if sample_weight is None:
        return clone(estimator).fit(X, y)
    is_pipeline = isinstance(estimator, Pipeline)
    name = f"{estimator.steps[-1][0]}__sample_weight" if is_pipeline else "sample_weight"
    return clone(estimator).fit(X, y, **{name: sample_weight})


def _features(fitted: BaseEstimator, X: object) -> np.ndarray:
    """Return the features that the head of the classifier standardises, shape (n, d)."""
    steps, classifier = unwrapped(fitted)
    return head_features(classifier, through(steps, X))


def _features_to_learn(
    fitted: BaseEstimator, X: object, is_quiet: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return the features of the images that the classifier does not skip, and their positions."""
    steps, classifier = unwrapped(fitted)
    return sound_head_features(classifier, through(steps, X), is_quiet)


def _part(values: Any, positions: np.ndarray | None) -> Any:
    """Return the values at these positions, or all of them."""
    return values if values is None or positions is None else taken(values, positions)


def _with_unknown(labels: np.ndarray, is_unknown: np.ndarray, label: str | int) -> np.ndarray:
    """Return the labels, some of them replaced, in a type that holds both."""
    if labels.dtype == object:
        return np.where(is_unknown, np.array(label, object), labels)
    return np.where(is_unknown, np.asarray(label), labels)
