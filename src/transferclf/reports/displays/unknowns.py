"""UnknownDisplay: how normal known and unknown images look to a rejector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.utils import column_or_1d

from transferclf._checks import check_number
from transferclf.exceptions import InvalidParameterError
from transferclf.reports.displays.figures import COLOURS, GREY, axes_for
from transferclf.reports.unknowns import evaluate_unknowns, rejector_in

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(eq=False, repr=False)
class UnknownDisplay:
    """Two histograms of the scores of known and unknown images, and the threshold between them.

    Make one by :meth:`from_estimator` or :meth:`from_predictions`.

    Parameters
    ----------
    known_scores : ndarray of shape (n_known,)
        Scores of images of the known classes; higher is more normal.
    unknown_scores : ndarray of shape (n_unknown,)
        Scores of other images.
    offset : float or None, default=None
        The threshold; images with lower scores are rejected.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
    figure_ : matplotlib.figure.Figure
    bars_ : dict of str to matplotlib.container.BarContainer
        The bars of the "known" and the "unknown" images; a group without images has none.
    line_ : matplotlib.lines.Line2D or None
        The threshold.

    Examples
    --------
    >>> from transferclf.reports import UnknownDisplay
    >>> is_known, scores = [True, True, False], [0.9, 0.8, 0.3]
    >>> display = UnknownDisplay.from_predictions(is_known, scores, offset=0.5)
    >>> display.ax_.get_xlabel()
    'score: higher is more normal'
    """

    known_scores: np.ndarray
    unknown_scores: np.ndarray
    offset: float | None = None

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: object,
        y: npt.ArrayLike,
        *,
        ax: Axes | None = None,
        **options: Any,
    ) -> UnknownDisplay:
        """Compute the scores of images, and draw them.

        Parameters
        ----------
        estimator : UnknownRejector
            A fitted one; also in a pipeline or a search.
        X : array-like or sequence of images, n of them
            Images of the known classes that `fit` did not see, and images of other kinds.
        y : array-like of shape (n,)
            The true labels; those that are none of the classes mean unknown images.
        ax, **options
            As for :meth:`plot`.

        Returns
        -------
        UnknownDisplay
            The display, drawn.

        Raises
        ------
        InvalidParameterError
            If `estimator` is no UnknownRejector.
        ValueError
            If y has not one label for each image.
        """
        rejector, _ = rejector_in(estimator)
        found = evaluate_unknowns(estimator, X, y)
        return cls.from_predictions(
            found.is_known, found.y_score, offset=rejector.offset_, ax=ax, **options
        )

    @classmethod
    def from_predictions(
        cls,
        is_known: npt.ArrayLike,
        y_score: npt.ArrayLike,
        *,
        offset: float | None = None,
        ax: Axes | None = None,
        **options: Any,
    ) -> UnknownDisplay:
        """Draw scores that were computed before.

        Parameters
        ----------
        is_known : array-like of bool, shape (n,)
            Which of the images are of known classes.
        y_score : array-like of shape (n,)
            Scores; higher is more normal.
        offset : float or None, default=None
            The threshold; None draws none.
        ax, **options
            As for :meth:`plot`.

        Returns
        -------
        UnknownDisplay
            The display, drawn.

        Raises
        ------
        InvalidParameterError
            If there are no images, the lengths differ, or a score is not finite.
        """
        flags = column_or_1d(is_known).astype(bool)
        scores = column_or_1d(y_score).astype(float)
        if not len(flags) == len(scores) > 0 or not np.isfinite(scores).all():
            raise InvalidParameterError(
                "is_known and y_score must be one truth value and one finite number for each image."
                f" Got {len(flags)} and {len(scores)}, {np.isfinite(scores).sum()} of them finite."
            )
        return cls(scores[flags], scores[~flags], offset).plot(ax=ax, **options)

    def plot(self, *, ax: Axes | None = None, bins: int = 40, **bar_options: Any) -> UnknownDisplay:
        """Draw into new axes, or into given ones.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or None, default=None
            None makes a new figure.
        bins : int, default=40
            Number of bars of both histograms.
        **bar_options
            For `matplotlib.axes.Axes.hist`.

        Returns
        -------
        UnknownDisplay
            This display.
        """
        check_number("bins", bins, 1, whole=True)
        self.figure_, self.ax_ = axes_for(ax)
        parts = {"known": np.asarray(self.known_scores), "unknown": np.asarray(self.unknown_scores)}
        edges = np.histogram_bin_edges(np.concatenate([*parts.values()]), bins)
        self.bars_ = {}
        for colour, (name, scores) in zip(COLOURS, parts.items(), strict=False):
            if len(scores):
                label = f"{name} ({len(scores):,})"
                options: dict[str, Any] = {"color": colour, "alpha": 0.6, "label": label}
                # Shares, because there are mostly more images of one sort.
                shares = np.full(len(scores), 1 / len(scores))
                drawn = self.ax_.hist(
                    scores, list(edges), weights=shares, **(options | bar_options)
                )
                self.bars_[name] = drawn[2]
        self.line_ = None
        if self.offset is not None:
            self.line_ = self.ax_.axvline(
                self.offset, color=GREY, linestyle="--", label="threshold"
            )
        self.ax_.set(xlabel="score: higher is more normal", ylabel="share of the images")
        self.ax_.legend()
        return self
