"""Grad-CAM: the parts of an image that speak for a class.

Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
Localization", ICCV 2017. Each channel of a layer's map is weighted by the mean of the gradient of
the score of an output with respect to it. The map is the weighted sum of the channels, where that
is positive.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from transferclf._spelling import did_you_mean
from transferclf.estimators.reading import images_of
from transferclf.exceptions import InvalidParameterError, NetworkError
from transferclf.images.loading import load_all
from transferclf.images.source import ImageSource
from transferclf.reports.displays import figures
from transferclf.reports.predictions import (
    linked_values,
    objective_of,
    through,
    transfer_estimator,
)

if TYPE_CHECKING:
    import keras
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

    from transferclf.estimators.transfer import TransferEstimator

TILE = 2.2  # side of one picture in a figure, in inches


@dataclass(eq=False, repr=False)
class GradCAMDisplay:
    """Heat maps over images: the parts that speak for a class, or another output of the network.

    Parameters
    ----------
    images : ndarray of shape (n, h, w, 3), uint8
        The images as the network saw them: resized, cropped or padded.
    heatmaps : ndarray of shape (n, map height, map width)
        From 0 to 1, each on a scale of its own; all 0 where nothing raises the score.
    classes : array-like of shape (n,)
        The class that each map is about, or the number of another output.
    probabilities : array-like of shape (n,)
        Its probability for the image, or the value of the output.
    layer : str
        The layer of the maps.
    number_format : str, default=".0%"
        How probabilities or values are written in titles.

    Attributes
    ----------
    figure_ : matplotlib.figure.Figure
        The latest plot.
    axes_ : ndarray of matplotlib.axes.Axes, shape (n,)
        Its axes, one for each image.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from transferclf import TransferClassifier
    >>> from transferclf.reports import GradCAMDisplay
    >>> digits = load_digits()
    >>> classifier = TransferClassifier("tiny", image_size=96, pixel_range=(0, 16))
    >>> classifier = classifier.fit(digits.images[:100], digits.target[:100])
    >>> display = GradCAMDisplay.from_estimator(classifier, digits.images[:3])
    >>> display.layer, display.heatmaps.shape
    ('top_levels', (3, 3, 3))
    """

    images: np.ndarray
    heatmaps: np.ndarray
    _: KW_ONLY
    classes: Sequence[object] | np.ndarray
    probabilities: Sequence[float] | np.ndarray
    layer: str
    number_format: str = ".0%"

    @classmethod
    def from_estimator(
        cls,
        estimator: object,
        X: object,
        *,
        class_: Any = None,
        layer: str | None = None,
        ax: Axes | Sequence[Axes] | None = None,
        n_columns: int | None = None,
        alpha: float = 0.5,
        cmap: str | Colormap = "viridis",
    ) -> GradCAMDisplay:
        """Compute the maps of some images, and plot them.

        Parameters
        ----------
        estimator : TransferClassifier, TransferRegressor, Pipeline or search with one
            Fitted: with a frozen network, fine-tuned, or trained from scratch.
        X : array-like or sequence of images, n of them
            As for `predict`.
        class_ : label, or array-like of n labels, or None, default=None
            The class of the maps; None is the predicted class of each image. For several labels
            the name of a label, and for numbers that of an output; None is the one with the highest
            value.
        layer : str or None, default=None
            A layer of `model_` that has a map; None is the last one with more than one cell. For
            the bundled "tiny" that is "top_levels", from which the head gets all its features.
            Earlier layers have finer maps that say less about classes. A larger `image_size` gives
            finer maps, too.
        ax, n_columns, alpha, cmap
            As for :meth:`plot`.

        Returns
        -------
        GradCAMDisplay
            The display, drawn.

        Raises
        ------
        InvalidParameterError
            If the estimator has no network of this package, has no such class or layer, or the
            number of `ax` is not that of the images.
        NetworkError
            If the network has no map.
        ImageError
            If images cannot be read.
        ImportError
            If matplotlib is not installed.
        """
        figures.pyplot()  # fail early if matplotlib is missing
        steps, classifier = transfer_estimator(estimator)
        X = through(steps, X)
        source = images_of(classifier, X)
        name = _chosen_layer(classifier.model_, layer)
        names = objective_of(classifier).output_names()
        fixed = None if class_ is None else _indices(class_, names.tolist(), len(source))
        values = linked_values(classifier, X)
        chosen = values.argmax(axis=1) if fixed is None else fixed
        display = heat_display(classifier, source, chosen, values, name)
        return display.plot(ax=ax, n_columns=n_columns, alpha=alpha, cmap=cmap)

    def plot(
        self,
        *,
        ax: Axes | Sequence[Axes] | None = None,
        n_columns: int | None = None,
        alpha: float = 0.5,
        cmap: str | Colormap = "viridis",
    ) -> GradCAMDisplay:
        """Plot each image under its map, with the class and its probability.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or sequence of n of them, or None, default=None
            Where to plot; None makes a figure.
        n_columns : int or None, default=None
            Columns of that figure; None is up to five.
        alpha : float, default=0.5
            How much of the image the map covers, from 0 to 1.
        cmap : str or matplotlib.colors.Colormap, default="viridis"
            Colours from 0 to 1.

        Returns
        -------
        GradCAMDisplay
            This display.
        """
        n_images = len(self.images)
        if ax is None:
            # The colour bar takes half a picture.
            n_columns = min(n_columns or 5, n_images)
            axes = figures.new_axes(n_images, n_columns, (TILE, TILE + 0.4), extra_width=TILE / 2)
        else:
            axes = figures.given_axes(ax, n_images, f"as many axes as there are images, {n_images}")
        for axis, image, heat, class_, value in zip(
            axes, self.images, self.heatmaps, self.classes, self.probabilities, strict=True
        ):
            # Each cell of the map lies over the part of the image that it came from.
            extent = (0, image.shape[1], image.shape[0], 0)
            figures.show(
                axis, image, f"{figures.plain(class_)}\n{value:{self.number_format}}", extent=extent
            )
            options = {"interpolation": "bilinear", "alpha": alpha, "cmap": cmap}
            overlay = axis.imshow(heat, extent=extent, vmin=0, vmax=1, **options)
        self.axes_ = axes
        self.figure_ = axes[0].figure
        bar = self.figure_.colorbar(overlay, ax=list(axes), fraction=0.05, ticks=[0, 0.5, 1])
        bar.set_label("raises the score")
        return self


def heat_display(
    classifier: TransferEstimator,
    source: ImageSource,
    chosen: np.ndarray,
    values: np.ndarray,
    layer: str | None = None,
) -> GradCAMDisplay:
    """Return the maps of images for the chosen outputs (positions), not plotted yet.

    `values` are those of all outputs, shape (n, n_outputs).
    """
    from transferclf.heads.gradients import layer_gradients

    objective = objective_of(classifier)
    name = _chosen_layer(classifier.model_, layer)
    prefix, resize = classifier.prefix_, classifier.resize_
    seen = load_all(source, prefix.size, resize, sampling=prefix.sampling)
    activations, gradients = layer_gradients(classifier.model_, name, seen, chosen)
    weights = gradients.mean(axis=(1, 2), keepdims=True)
    maps = np.maximum((weights * activations).sum(axis=-1), 0)
    largest = maps.max(axis=(1, 2), keepdims=True)
    return GradCAMDisplay(
        figures.as_bytes(seen),
        maps / np.where(largest > 0, largest, 1),
        classes=objective.output_names()[chosen],
        probabilities=values[np.arange(len(chosen)), chosen],
        layer=name,
        number_format=".3g" if objective.activation == "linear" else ".0%",
    )


def _indices(class_: Any, names: list[object], n_images: int) -> np.ndarray:
    """Return the position of the wanted output for each image."""
    wanted = [class_] * n_images if np.ndim(class_) == 0 else list(class_)
    if len(wanted) != n_images:
        raise InvalidParameterError(
            f"class_ must be one label or {n_images}, one for each image. "
            f"Got {len(wanted)} instead."
        )
    index = {label: number for number, label in enumerate(names)}
    for label in wanted:
        if not isinstance(label, Hashable) or label not in index:
            hint = did_you_mean([label], index) if isinstance(label, Hashable) else ""
            raise InvalidParameterError(
                f"class_ must be one of {_few(names)}. Got {label!r} instead.{hint}"
            )
    return np.array([index[label] for label in wanted], int)


def _chosen_layer(model: keras.Model, layer: str | None) -> str:
    from transferclf.heads.gradients import map_layers

    maps = map_layers(model)
    if not maps:
        raise NetworkError(
            f"Grad-CAM needs a layer with a map, which a convolution gives. {model.name!r} has "
            "none: its layers see each image as one row of numbers."
        )
    if layer is None:
        # A map of one cell does not say where. Take the last larger map, if there is one.
        return ([name for name, sides in maps.items() if max(sides) > 1] or list(maps))[-1]
    if layer not in maps:
        raise InvalidParameterError(
            f"layer must be one that has a map, from the first to the last {_few(list(maps))}. "
            f"Got {layer!r} instead."
        )
    return layer


def _few(names: Sequence[object]) -> str:
    """Return names for a message: the last 30 of many, since late layers are most useful."""
    shown = ", ".join(map(repr, names[-30:]))
    return shown if len(names) <= 30 else f"..., {shown}"
