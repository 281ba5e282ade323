"""RegressionErrorDisplay: predicted against true numbers, and residuals against predicted ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import PredictionErrorDisplay

from transferclf.exceptions import InvalidParameterError
from transferclf.reports.displays import figures
from transferclf.reports.evaluation import evaluate
from transferclf.reports.evaluations.numbers import RegressionEvaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANELS = ("actual_vs_predicted", "residual_vs_predicted")
TILE = (4.6, 4.2)  # width and height of a panel, in inches


@dataclass(eq=False, repr=False)
class RegressionErrorDisplay:
    """True numbers and residuals by predicted numbers, side by side, a row for each output.

    Residuals are true minus predicted numbers. scikit-learn's `PredictionErrorDisplay` draws both.
    Make one by :meth:`from_estimator` or :meth:`from_predictions`.

    Parameters
    ----------
    evaluation : RegressionEvaluation
        The true and the predicted numbers.

    Attributes
    ----------
    figure_ : matplotlib.figure.Figure
    axes_ : ndarray of matplotlib.axes.Axes, shape (n_outputs, 2)
        For each output true against predicted numbers, and residuals against predicted ones.
    displays_ : ndarray of sklearn.metrics.PredictionErrorDisplay, shape (n_outputs, 2)
        What draws each of these.

    Examples
    --------
    >>> from transferclf.reports import RegressionErrorDisplay
    >>> display = RegressionErrorDisplay.from_predictions([1, 2, 6], [1, 3, 4])
    >>> display.axes_.shape, display.axes_[0, 0].get_title()
    ((1, 2), 'MAE 1, R2 0.643')
    """

    evaluation: RegressionEvaluation

    @classmethod
    def from_estimator(
        cls,
        estimator: object,
        X: object,
        y: npt.ArrayLike,
        *,
        ax: Axes | Sequence[Axes] | None = None,
        **scatter_options: Any,
    ) -> RegressionErrorDisplay:
        """Predict and draw.

        Parameters
        ----------
        estimator : estimator
            Any fitted regressor.
        X : array-like or sequence of images, n of them
            Whatever the estimator takes.
        y : array-like of shape (n,) or (n, n_outputs)
            The true numbers; columns of a data frame name the outputs.
        ax, **scatter_options
            As for :meth:`plot`.

        Returns
        -------
        RegressionErrorDisplay
            The display, drawn.

        Raises
        ------
        InvalidParameterError
            If the estimator is no regressor, or the number of `ax` does not fit.
        ValueError
            If y has not the numbers of each image.
        ImportError
            If matplotlib is not installed.
        """
        figures.pyplot()  # fail early if matplotlib is missing
        evaluation = evaluate(estimator, X, y)
        if not isinstance(evaluation, RegressionEvaluation):
            raise InvalidParameterError(
                f"estimator must be a regressor. Got {type(estimator).__name__} instead."
            )
        return cls(evaluation).plot(ax=ax, **scatter_options)

    @classmethod
    def from_predictions(
        cls,
        y_true: npt.ArrayLike,
        y_pred: npt.ArrayLike,
        *,
        outputs: npt.ArrayLike | None = None,
        ax: Axes | Sequence[Axes] | None = None,
        **scatter_options: Any,
    ) -> RegressionErrorDisplay:
        """Draw predictions that were made before.

        Parameters
        ----------
        y_true, y_pred, outputs
            As for :meth:`transferclf.reports.RegressionEvaluation.from_predictions`, which raises
            the same errors.
        ax, **scatter_options
            As for :meth:`plot`.

        Returns
        -------
        RegressionErrorDisplay
            The display, drawn.
        """
        evaluation = RegressionEvaluation.from_predictions(y_true, y_pred, outputs=outputs)
        return cls(evaluation).plot(ax=ax, **scatter_options)

    def plot(
        self, *, ax: Axes | Sequence[Axes] | None = None, **scatter_options: Any
    ) -> RegressionErrorDisplay:
        """Draw into a new figure, or into given axes.

        Parameters
        ----------
        ax : sequence of 2 n_outputs matplotlib.axes.Axes or None, default=None
            Two for each output; None makes a figure.
        **scatter_options
            For `matplotlib.axes.Axes.scatter`.

        Returns
        -------
        RegressionErrorDisplay
            This display.

        Raises
        ------
        InvalidParameterError
            If `ax` is not two axes for each output.
        """
        evaluation, n_outputs = self.evaluation, len(self.evaluation.outputs)
        true = np.reshape(evaluation.y_true, (-1, n_outputs))
        predicted = np.reshape(evaluation.y_pred, (-1, n_outputs))
        if ax is None:
            axes = figures.new_axes(2 * n_outputs, 2, TILE)
        else:
            expected = f"None or {2 * n_outputs} axes, two for each output"
            axes = figures.given_axes(ax, 2 * n_outputs, expected)
        self.axes_ = axes.reshape(n_outputs, 2)
        self.figure_ = self.axes_[0, 0].figure
        options = {"color": figures.COLOURS[0], "alpha": 0.7, "s": 24} | scatter_options
        self.displays_ = np.empty((n_outputs, 2), dtype=object)
        for row, names in enumerate(self._titles()):
            for column, kind in enumerate(PANELS):
                place = self.axes_[row, column]
                shown = PredictionErrorDisplay(y_true=true[:, row], y_pred=predicted[:, row])
                line = {"color": figures.GREY}
                shown.plot(ax=place, kind=kind, scatter_kwargs=options, line_kwargs=line)
                place.set_title(names[column], fontsize="medium")
                self.displays_[row, column] = shown
            self.axes_[row, 0].set(xlabel="predicted", ylabel="true")
            self.axes_[row, 1].set(xlabel="predicted", ylabel="residual (true - predicted)")
        return self

    def _titles(self) -> list[tuple[str, str]]:
        """Return the titles of both panels of each output: its name and measures."""
        names, mae, _, r2 = self.evaluation.per_output.values()
        several, titles = len(names) > 1, []
        for name, error, share in zip(names.tolist(), mae, r2, strict=True):
            measures = f"MAE {error:.3g}, R2 {'-' if np.isnan(share) else f'{share:.3f}'}"
            shown = figures.plain(name)
            titles.append((f"{shown}: {measures}" if several else measures, shown * several))
        return titles
