"""Sections about predicted numbers: measures, errors, and the images with the largest errors."""

from __future__ import annotations

import numpy as np

from transferclf.reports.displays.regression import RegressionErrorDisplay
from transferclf.reports.names import count_text
from transferclf.reports.page.images import embedding_of, maps_of
from transferclf.reports.page.rendering import drawing, name_text
from transferclf.reports.page.subject import Content, Subject, note
from transferclf.reports.tables import Row

# More outputs would make a figure that is too tall.
MAX_DRAWN = 8

# Fewer images cannot be parted into quarters.
FEWEST = 4
QUARTERS = np.array(["lowest quarter", "second quarter", "third quarter", "highest quarter"])


def summary(subject: Subject) -> Content:
    """Return the measures of all images together."""
    evaluation = subject.evaluation
    measures = {
        "mean absolute error": evaluation.mae,
        "root of the mean squared error": evaluation.rmse,
        "R2": evaluation.r2,
    }
    return {"numbers": [(name, _number(value)) for name, value in measures.items()]}


def per_output(subject: Subject) -> Content:
    """Return the measures of each output."""
    columns = subject.evaluation.per_output.values()
    rows = [
        {"label": name, "mae": _number(mae), "rmse": _number(rmse), "r2": _number(r2)}
        for name, mae, rmse, r2 in zip(*columns, strict=True)
    ]
    return {"rows": rows}


def errors(subject: Subject) -> Content:
    """Return true numbers and residuals by predicted ones."""
    evaluation = subject.evaluation
    n_outputs = len(evaluation.outputs)
    if n_outputs > MAX_DRAWN:
        return note(f"Left out: {n_outputs} outputs would be too many to draw.")
    display = RegressionErrorDisplay(evaluation).plot()
    alt = (
        f"True against predicted numbers of {count_text(evaluation.n_samples, 'image')}, and "
        f"their residuals. Mean absolute error {_number(evaluation.mae)}."
    )
    text = (
        "Points on the line are predicted exactly. Residuals are true minus predicted numbers: "
        "where they lean to one side or fan out, the errors depend on the number."
    )
    return {"text": text, "drawings": [drawing(display.figure_, alt)]}


def pictures(subject: Subject) -> Content:
    """Return the images with the largest errors."""
    if subject.images is None:
        return note(subject.no_images)
    several = len(subject.evaluation.outputs) > 1
    images = [
        {
            "picture": subject.picture(row["index"], _alt(row)),
            "output": str(row["output"]) if several else "",
            "predicted": _number(row["predicted"]),
            "true": _number(row["true"]),
            "name": subject.image_name(row["index"]),
        }
        for row in subject.evaluation.worst[: subject.n_images]
    ]
    return {"images": images}


def _alt(row: Row) -> str:
    return (
        f"Image {row['index']}, whose number is {_number(row['true'])} and predicted as "
        f"{_number(row['predicted'])}"
    )


def gradcam(subject: Subject) -> Content:
    """Return heat maps of the images with the largest errors."""
    if subject.classifier is None:
        return subject.needs_network("a heat map")
    evaluation = subject.evaluation
    rows = evaluation.worst[: subject.n_images]
    names = evaluation.outputs.tolist()
    indices = np.array([row["index"] for row in rows])
    columns = np.array([names.index(row["output"]) for row in rows])
    values = np.reshape(evaluation.y_pred, (-1, len(names)))[indices]
    return maps_of(subject, indices, columns, values, [_alt(row) for row in rows])


def embedding(subject: Subject) -> Content:
    """Return the images as points, coloured by the quarter that their number is in."""
    evaluation = subject.evaluation
    first = np.reshape(evaluation.y_true, (evaluation.n_samples, -1))[:, 0]
    if evaluation.n_samples < FEWEST:
        return note(f"Left out: {count_text(evaluation.n_samples, 'image')} cannot be arranged.")
    places = np.searchsorted(np.quantile(first, (0.25, 0.5, 0.75)), first)
    # The number keeps the quarters in order, since a legend sorts its names.
    labels = np.char.add(np.char.add((places + 1).astype(str), ": "), QUARTERS[places])
    several = len(evaluation.outputs) > 1
    of = f" of {name_text(evaluation.outputs[0])}" if several else ""
    text = (
        f"Each point is an image, coloured by its true number{of}; near each other are images "
        "whose features are alike. Distances between far groups mean little."
    )
    shown = f"{count_text(evaluation.n_samples, 'image')} by their true number"
    return embedding_of(subject, labels, shown, text)


def _number(value: float | None) -> str:
    return "-" if value is None or np.isnan(value) else f"{value:.4g}"
