"""The linear head by L-BFGS: softmax regression on standardised features.

It minimises the objective of a Keras `Dense` softmax layer with an L2 kernel regulariser,

    sum_i w_i * cross_entropy_i / sum_i w_i  +  l2 * ||W||^2,

which is convex, so that both reach the same optimum; L-BFGS gets there in a few dozen passes.
Features are standardised by the training images' mean and deviation first, so that one `l2`
suits every backbone.

Source: Liu and Nocedal, "On the limited memory BFGS method for large scale optimization",
Mathematical Programming 45 (1989), as implemented in SciPy.
"""

from __future__ import annotations

import functools
import hashlib
import threading
import warnings
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.linalg import eigh
from scipy.optimize import minimize
from scipy.special import softmax
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import ThreadpoolController

from transferclf.heads.history import History, Phase, Phases
from transferclf.heads.scaling import Moments

# Below this many multiplications a pass, BLAS threads cost more than they save: many small
# products, each of which waits for the slowest thread.
SMALL_PROBLEM = 2**30

# Fewer samples than this are rotated into as many axes; with more that takes longer than it saves.
MAX_ROTATED = 1024

# Rotated features kept for the next fit to the same samples; at most 16 MB each, mostly far less.
FOLDS_KEPT = 10

# Standardised features are held in double precision up to this size, in single beyond it.
MAX_DOUBLE_BYTES = 2**30

# Rows that are scored at a time.
BLOCK = 32

# Steps that L-BFGS remembers: twice SciPy's default halves the iterations of hard problems.
CORRECTIONS = 20

# L-BFGS stops where no partial derivative of the objective is larger.
GRADIENT_TOLERANCE = 1e-5


@dataclass(frozen=True)
class LinearHead:
    """A fitted linear head.

    Attributes
    ----------
    mean, scale : ndarray of shape (d,)
        What features are standardised by.
    coef : ndarray of shape (d, n_classes)
        Weights of the standardised features.
    intercept : ndarray of shape (n_classes,)
        Their biases.
    history : dict of str to list of float
        "loss" (the objective) and "accuracy" (weighted, on the training data) after each
        iteration; with validation data also "val_loss" and "val_accuracy".
    l2 : float
        The penalty it was fitted with.
    moments : Moments or None
        Of the features, where `partial_fit` can go on from them.
    """

    mean: np.ndarray
    scale: np.ndarray
    coef: np.ndarray
    intercept: np.ndarray
    history: History = field(default_factory=dict, compare=False)
    l2: float = 0.0
    moments: Moments | None = field(default=None, compare=False, repr=False)

    @property
    def phases(self) -> Phases:
        """What the history is made of: iterations of L-BFGS."""
        n_iter = len(self.history.get("loss", ()))
        return (Phase("head", "iteration", n_iter, n_iter),)

    @property
    def weights(self) -> list[np.ndarray]:
        """Kernel and bias of the dense layer that this head is."""
        return [self.coef, self.intercept]

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Scores of shape (n, n_classes), whose softmax is the probabilities."""
        # BLAS may sum in another order for another number of rows; blocks are all of one.
        n_blocks = -(-len(features) // BLOCK)
        dtype = np.result_type(features, self.mean, self.scale)
        blocks = np.zeros((n_blocks, BLOCK, len(self.coef)), dtype)
        standardised = blocks.reshape(-1, len(self.coef))[: len(features)]
        np.subtract(features, self.mean, out=standardised)
        standardised /= self.scale
        scores = (blocks @ self.coef).reshape(-1, len(self.intercept))
        return scores[: len(features)] + self.intercept

    def features(self, rows: np.ndarray) -> np.ndarray:
        """What the head sees of these rows, before it standardises them: the rows."""
        return rows

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Probabilities of shape (n, n_classes); each row sums to one."""
        return softmax(self.logits(features), axis=1)


def fit_linear(
    features: np.ndarray,
    labels: np.ndarray,
    n_classes: int,
    *,
    l2: float,
    sample_weight: np.ndarray,
    max_iter: int = 1000,
    validation: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
) -> LinearHead:
    """Fit a linear head to its optimum.

    Parameters
    ----------
    features : ndarray of shape (n, d)
        Training features.
    labels : ndarray of int, shape (n,)
        Class indices from 0 to `n_classes` - 1.
    n_classes : int
        Number of classes.
    l2 : float
        Weight of the squared norm of the coefficients in the objective.
    sample_weight : ndarray of shape (n,)
        Weight of each sample, also in the mean and deviation of the features; a weight of 2 is
        the same as the sample twice.
    max_iter : int, default=1000
        L-BFGS iterations at most.
    validation : (features, labels, weights) or None, default=None
        Data to watch, of the same kinds as the training data: nothing is fitted to them, but the
        history also has the objective and the weighted accuracy on them after each iteration.

    Returns
    -------
    LinearHead

    Warns
    -----
    sklearn.exceptions.ConvergenceWarning
        If `max_iter` iterations were not enough.

    Examples
    --------
    >>> import numpy as np
    >>> x, y = np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([0, 0, 1, 1])
    >>> head = fit_linear(x, y, 2, l2=0.01, sample_weight=np.ones(4))
    >>> head.probabilities(x).argmax(axis=1)
    array([0, 0, 1, 1])
    """
    with few_threads(features.size * n_classes):
        axes = _known_axes(features, sample_weight)
        problem = SoftmaxProblem(axes.rows, labels, n_classes, l2, sample_weight)
        if validation is not None:
            watched, *its_labels_and_weights = validation
            rows = axes.rows_of(watched, features)
            problem.watch(rows, *its_labels_and_weights)
        coef, intercept = problem.split(_minimum(problem, max_iter))
        coef = axes.back(coef, features)
        mean, scale = axes.moments.mean, axes.scale
        return LinearHead(mean, scale, coef, intercept, problem.history, l2, axes.moments)


@dataclass(frozen=True)
class _Axes:
    """Standardised features in the axes that they are fitted in.

    Attributes
    ----------
    moments : Moments
        Of the features.
    scale : ndarray of shape (d,)
        What they are divided by.
    rows : ndarray of shape (n, r)
        The features in these axes.
    by_samples : ndarray of shape (n, r) or None
        The axes as combinations of the standardised samples; None are the features' own.
    """

    moments: Moments
    scale: np.ndarray
    rows: np.ndarray
    by_samples: np.ndarray | None = None

    def standardised(self, features: np.ndarray) -> np.ndarray:
        """These or other features in units of their deviation from the mean."""
        return (features - self.moments.mean) / self.scale

    def back(self, coef: np.ndarray, features: np.ndarray) -> np.ndarray:
        """Coefficients of the standardised features, from those of the axes."""
        if self.by_samples is None:
            return coef
        return self.standardised(features).T @ (self.by_samples @ coef)

    def rows_of(self, others: np.ndarray, features: np.ndarray) -> np.ndarray:
        """Other samples' features in these axes, which are those of `features`."""
        standardised = self.standardised(others).astype(self.rows.dtype, copy=False)
        if self.by_samples is None:
            return standardised
        return standardised @ self.standardised(features).T @ self.by_samples


_axes: OrderedDict[bytes, _Axes] = OrderedDict()
_axes_lock = threading.Lock()


def _known_axes(features: np.ndarray, weights: np.ndarray) -> _Axes:
    """The axes of these features; a search comes back to the same folds for each setting."""
    if not _is_rotated(features):
        return _axes_of(features, weights)
    digest = hashlib.sha256(f"{features.dtype} {features.shape} {weights.dtype}".encode())
    for values in (features, weights):
        digest.update(values.tobytes())
    key = digest.digest()
    with _axes_lock:
        known = _axes.get(key)
    if known is None:
        known = _axes_of(features, weights)
    with _axes_lock:
        _axes[key] = known
        _axes.move_to_end(key)
        while len(_axes) > FOLDS_KEPT:
            _axes.popitem(last=False)
    return known


def _axes_of(features: np.ndarray, weights: np.ndarray) -> _Axes:
    """As many axes as there are samples, where these are fewer than features.

    With a penalty on their squares the best coefficients are combinations of the samples, and
    neither the objective nor the path of L-BFGS changes when the axes are rotated; there is only
    less to multiply.
    """
    moments = Moments.of(features, weights)
    scale = moments.scale()
    standardised = ((features - moments.mean) / scale).astype(_precision(features), copy=False)
    if not _is_rotated(features):
        return _Axes(moments, scale, standardised)
    squares, axes = eigh(standardised @ standardised.T, driver="evd")
    kept = squares > len(axes) * np.finfo(axes.dtype).eps * max(squares[-1], 0)
    lengths, axes = np.sqrt(squares[kept]), axes[:, kept]
    return _Axes(moments, scale, axes * lengths, axes / lengths)


def _is_rotated(features: np.ndarray) -> bool:
    n_samples, n_features = features.shape
    return 1 < n_samples < min(n_features, MAX_ROTATED)


def _minimum(problem: SoftmaxProblem, max_iter: int) -> np.ndarray:
    result = minimize(
        problem.loss_and_gradient,
        np.zeros((problem.features.shape[1] + 1) * problem.n_classes),
        method="L-BFGS-B",
        jac=True,
        callback=problem.record,
        options={
            "maxiter": max_iter,
            "maxfun": 2 * max_iter,
            "gtol": GRADIENT_TOLERANCE,
            "maxcor": CORRECTIONS,
            "ftol": 64 * np.finfo(float).eps,
        },
    )
    if result.nit == 0:  # zero was the optimum: nothing to be learned from these features
        problem.record(result.x)
    if result.status == 1:
        warnings.warn(
            f"L-BFGS did not converge in {max_iter} iterations; raise max_iter or l2.",
            ConvergenceWarning,
            stacklevel=3,
        )
    return result.x


class SoftmaxProblem:
    """The objective and its gradient over the coefficients and intercepts in one vector."""

    def __init__(
        self,
        features: np.ndarray,
        labels: np.ndarray,
        n_classes: int,
        l2: float,
        weights: np.ndarray,
    ):
        self.features = features
        self.labels = labels
        self.n_classes = n_classes
        self.l2 = l2
        self.shares = weights / weights.sum()
        self.history: dict[str, list[float]] = {"loss": [], "accuracy": []}
        self._last = (np.nan, np.nan)
        self._watched: SoftmaxProblem | None = None

    def watch(self, rows: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> None:
        """Note the objective on these samples too, features in the same axes."""
        self._watched = SoftmaxProblem(rows, labels, self.n_classes, self.l2, weights)
        self.history |= {"val_loss": [], "val_accuracy": []}

    def split(self, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients (d, n_classes) and intercepts (n_classes,)."""
        table = parameters.reshape(-1, self.n_classes)
        return table[:-1], table[-1]

    def loss_and_gradient(self, parameters: np.ndarray) -> tuple[float, np.ndarray]:
        """The objective and its derivatives by all parameters."""
        coef, _ = self.split(parameters)
        loss, _, residual = self._evaluated(parameters)
        residual[np.arange(len(self.labels)), self.labels] -= 1.0
        residual *= self.shares[:, None]
        by_coef = self.features.T @ residual.astype(self.features.dtype) + 2 * self.l2 * coef
        return loss, np.vstack([by_coef, residual.sum(axis=0)]).ravel()

    def record(self, parameters: np.ndarray) -> None:
        """Note where an iteration ended: at the point that was evaluated last."""
        self.history["loss"].append(self._last[0])
        self.history["accuracy"].append(self._last[1])
        if self._watched is not None:
            loss, accuracy, _ = self._watched._evaluated(parameters)
            self.history["val_loss"].append(loss)
            self.history["val_accuracy"].append(accuracy)

    def _evaluated(self, parameters: np.ndarray) -> tuple[float, float, np.ndarray]:
        """Loss, accuracy and probabilities."""
        coef, intercept = self.split(parameters)
        logits = (self.features @ coef.astype(self.features.dtype)).astype(float) + intercept
        rows = np.arange(len(self.labels))
        logits -= logits.max(axis=1, keepdims=True)
        probabilities = np.exp(logits)
        total = probabilities.sum(axis=1, keepdims=True)
        losses = np.log(total[:, 0]) - logits[rows, self.labels]
        loss = float(self.shares @ losses + self.l2 * np.vdot(coef, coef))
        right = logits.argmax(axis=1) == self.labels
        self._last = (loss, float(self.shares @ right))
        probabilities /= total
        return *self._last, probabilities


def _precision(features: np.ndarray) -> type[np.floating]:
    return np.float64 if features.size * 8 <= MAX_DOUBLE_BYTES else np.float32


@functools.cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()  # looks through all loaded libraries: once is enough


def few_threads(multiplications: int) -> Any:
    """A context in which BLAS uses one thread if the problem is small."""
    limit = 1 if multiplications <= SMALL_PROBLEM else None
    return _controller().limit(limits=limit, user_api="blas")
