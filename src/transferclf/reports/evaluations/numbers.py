"""RegressionEvaluation: the measures of predicted numbers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn import metrics

from transferclf.exceptions import InvalidParameterError
from transferclf.objectives.weights import check_sample_weight
from transferclf.reports.evaluations.base import Measures
from transferclf.reports.names import count_text, short_name
from transferclf.reports.numbers import NumberPredictions, numbers_of
from transferclf.reports.tables import Row

N_WORST = 5  # samples that are printed
N_KEPT = 100  # samples that are kept


class RegressionEvaluation(Measures):
    """The measures of predicted numbers, as attributes and by name; made by :func:`evaluate`.

    Attributes
    ----------
    n_samples : int
        Number of images.
    outputs : ndarray of shape (n_outputs,)
        The names of the outputs, or their numbers.
    mae : float
        Mean absolute error; the mean over the outputs, where there are several.
    rmse : float
        Root of the mean squared error, likewise.
    r2 : float or None
        Coefficient of determination: 1 is best, 0 is as good as the mean of y. None for a single
        image.
    per_output : dict of str to ndarray of shape (n_outputs,)
        "output", "mae", "rmse" and "r2".
    worst : list of dict
        Up to 100 samples, the largest error first: "index", "output", "true", "predicted" and
        "error", which is true minus predicted. Where there are several outputs, errors are compared
        in standard deviations of their output, and each sample is listed by its largest.
    y_true, y_pred : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        Numbers.

    Examples
    --------
    >>> from transferclf.reports import RegressionEvaluation
    >>> evaluation = RegressionEvaluation.from_predictions([1, 2, 6], [1, 3, 4])
    >>> evaluation.mae, round(evaluation.rmse, 3)
    (1.0, 1.291)
    >>> evaluation.worst[0]
    {'index': 2, 'output': 0, 'true': 6.0, 'predicted': 4.0, 'error': 2.0}
    """

    @classmethod
    def from_predictions(
        cls,
        y_true: npt.ArrayLike,
        y_pred: npt.ArrayLike,
        *,
        outputs: npt.ArrayLike | None = None,
        sample_weight: npt.ArrayLike | None = None,
    ) -> RegressionEvaluation:
        """Measure predictions that were made before.

        Parameters
        ----------
        y_true, y_pred : array-like of shape (n,) or (n, n_outputs)
            True and predicted numbers.
        outputs : array-like of shape (n_outputs,) or None, default=None
            Names of the outputs; None takes the columns of `y_true`, or numbers.
        sample_weight : array-like of shape (n,) or None, default=None
            Weight of each image.

        Returns
        -------
        RegressionEvaluation
            The measures by name, as :func:`evaluate` returns them.

        Raises
        ------
        InvalidParameterError
            If there are no numbers, or not one name for each output.
        ValueError
            If lengths do not fit, or numbers are not finite.
        """
        true, names = numbers_of(y_true, what="y_true")
        predicted, _ = numbers_of(y_pred, what="y_pred")
        names = names if outputs is None else np.asarray(outputs)
        if names.shape != (true.shape[1],):
            raise InvalidParameterError(
                f"outputs must be {true.shape[1]} names, one for each output. Got {outputs!r:.200}."
            )
        return regression_evaluation_of(true, NumberPredictions(names, predicted), sample_weight)

    def _texts(self) -> list[str]:
        return [_head_text(self), _table_text(self), _worst_text(self)]

    def __repr__(self) -> str:
        return f"<RegressionEvaluation of {self.n_samples:,} samples, R2 {_number(self.r2)}>"


def regression_evaluation_of(
    true: np.ndarray, said: NumberPredictions, sample_weight: npt.ArrayLike | None
) -> RegressionEvaluation:
    """Measure predicted numbers; both are of shape (n, n_outputs)."""
    if true.shape != said.y_pred.shape:
        raise ValueError(
            f"Predictions must have the shape of y, {true.shape}. Got {said.y_pred.shape} instead."
        )
    weights = None if sample_weight is None else check_sample_weight(sample_weight, len(true))
    options = {"sample_weight": weights, "multioutput": "raw_values"}
    mae = metrics.mean_absolute_error(true, said.y_pred, **options)
    rmse = metrics.root_mean_squared_error(true, said.y_pred, **options)
    r2 = np.full(len(mae), np.nan)  # of a single sample, it is not defined
    if len(true) > 1:
        r2 = metrics.r2_score(true, said.y_pred, **options)
    is_one = true.shape[1] == 1
    return RegressionEvaluation(
        n_samples=len(true),
        outputs=said.outputs,
        mae=float(mae.mean()),
        rmse=float(rmse.mean()),
        r2=None if np.isnan(r2).any() else float(r2.mean()),
        per_output={"output": said.outputs, "mae": mae, "rmse": rmse, "r2": r2},
        worst=_worst(true, said),
        y_true=true[:, 0] if is_one else true,
        y_pred=said.y_pred[:, 0] if is_one else said.y_pred,
    )


def _worst(true: np.ndarray, said: NumberPredictions) -> list[Row]:
    """Return the samples with the largest errors, each by its worst output."""
    errors, deviations = true - said.y_pred, true.std(axis=0)
    relative = np.abs(errors) / np.where(deviations > 0, deviations, 1)
    columns = relative.argmax(axis=1)
    order = np.argsort(-relative.max(axis=1), kind="stable")[:N_KEPT].tolist()
    names = said.outputs.tolist()
    return [
        {
            "index": index,
            "output": names[columns[index]],
            "true": float(true[index, columns[index]]),
            "predicted": float(said.y_pred[index, columns[index]]),
            "error": float(errors[index, columns[index]]),
        }
        for index in order
    ]


def _number(value: float | None) -> str:
    return "-" if value is None or np.isnan(value) else f"{value:.4g}"


def _head_text(evaluation: RegressionEvaluation) -> str:
    size = count_text(evaluation.n_samples, "sample")
    n_outputs = count_text(len(evaluation.outputs), "output")
    measures = {"MAE": evaluation.mae, "RMSE": evaluation.rmse, "R2": evaluation.r2}
    text = "   ".join(f"{name} {_number(value)}" for name, value in measures.items())
    return f"{size}, {n_outputs}\n{text}"


def _table_text(evaluation: RegressionEvaluation) -> str:
    """Return the measures of each output; empty for a single one."""
    names, *columns = evaluation.per_output.values()
    if len(names) == 1:
        return ""
    labels = [short_name(name) for name in names.tolist()]
    width = max(map(len, [*labels, "output"]))
    lines = [f"{'output':<{width}}  {'MAE':>10}  {'RMSE':>10}  {'R2':>10}"]
    for label, *values in zip(labels, *columns, strict=True):
        lines.append(f"{label:<{width}}  " + "  ".join(f"{_number(v):>10}" for v in values))
    return "\n".join(lines)


def _worst_text(evaluation: RegressionEvaluation) -> str:
    several = len(evaluation.outputs) > 1
    lines = [
        f"  sample {row['index']}{', ' + short_name(row['output']) if several else ''}: "
        f"{_number(row['predicted'])} for {_number(row['true'])}"
        for row in evaluation.worst[:N_WORST]
    ]
    return "\n".join(["largest errors", *lines])
