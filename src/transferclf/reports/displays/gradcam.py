"""Grad-CAM: where in an image a network found what speaks for a class.

Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
Localization", ICCV 2017. For a class, each channel of a layer's map is weighted by the mean of the
gradient of the class score with respect to it; the weighted sum of the channels, where it is
positive, is the map.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from transferclf._spelling import did_you_mean
from transferclf.estimators.reading import images_of
from transferclf.exceptions import InvalidParameterError, NetworkError
from transferclf.images.loading import load_all
from transferclf.images.source import ImageSource
from transferclf.reports.displays.figures import given_axes, new_axes, plain, pyplot
from transferclf.reports.predictions import through, transfer_classifier

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from transferclf.estimators.classifier import TransferClassifier

# Side of one picture in a figure, in inches.
TILE = 2.2


class GradCAMDisplay:
    """Heat maps over images: what in them speaks for a class.

    Parameters
    ----------
    images : ndarray of shape (n, h, w, 3), uint8
        The images as the network saw them: resized, cropped or padded.
    heatmaps : ndarray of shape (n, map height, map width)
        From 0 to 1, each on a scale of its own; all 0 where nothing speaks for the class.
    classes : array-like of shape (n,)
        The class that each map is about.
    probabilities : array-like of shape (n,)
        Its probability for the image.
    layer : str
        The layer that the maps are of.

    Attributes
    ----------
    figure_ : matplotlib.figure.Figure
        The figure that was plotted last.
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

    def __init__(
        self,
        images: np.ndarray,
        heatmaps: np.ndarray,
        *,
        classes: Any,
        probabilities: Any,
        layer: str,
    ):
        self.images = images
        self.heatmaps = heatmaps
        self.classes = classes
        self.probabilities = probabilities
        self.layer = layer

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        class_: Any = None,
        layer: str | None = None,
        ax: Axes | Sequence[Axes] | None = None,
        n_columns: int | None = None,
        alpha: float = 0.5,
        cmap: str = "viridis",
    ) -> GradCAMDisplay:
        """Compute the maps of some images, and plot them.

        Parameters
        ----------
        estimator : TransferClassifier, Pipeline or search with one
            Fitted: with a frozen network, a fine-tuned one or one from nothing.
        X : array-like or sequence of images, n of them
            As for `predict`.
        class_ : label, or array-like of n labels, or None, default=None
            The class of the maps; None is the predicted class of each image.
        layer : str or None, default=None
            A layer of `model_` that has a map; None is the last one with more than one cell. Of the
            bundled "tiny" that is "top_levels", through which all goes that the head sees. Earlier
            layers have finer maps, which say less about classes; so has a larger `image_size`.
        ax, n_columns, alpha, cmap
            As for :meth:`plot`.

        Returns
        -------
        GradCAMDisplay

        Raises
        ------
        InvalidParameterError
            If the estimator has no network of this package, `class_` or `layer` is none of its own,
            or `ax` are not as many axes as there are images.
        NetworkError
            If the network has no map.
        ImportError
            If matplotlib is not installed.
        ImageError
            If images cannot be read.
        """
        pyplot()  # fail early if matplotlib is missing
        steps, classifier = transfer_classifier(estimator)
        X = through(steps, X)
        source = images_of(classifier, X)
        name = _chosen_layer(classifier.model_, layer)
        fixed = None if class_ is None else _indices(class_, classifier.classes_, len(source))
        probabilities = classifier.predict_proba(X)
        chosen = probabilities.argmax(axis=1) if fixed is None else fixed
        display = heat_display(classifier, source, chosen, probabilities, name)
        return display.plot(ax=ax, n_columns=n_columns, alpha=alpha, cmap=cmap)

    def plot(
        self,
        *,
        ax: Axes | Sequence[Axes] | None = None,
        n_columns: int | None = None,
        alpha: float = 0.5,
        cmap: Any = "viridis",
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
        self
        """
        n_images = len(self.images)
        if ax is None:
            # The colour bar takes half a picture.
            n_columns = min(n_columns or 5, n_images)
            axes = new_axes(n_images, n_columns, (TILE, TILE + 0.4), extra_width=TILE / 2)
        else:
            axes = given_axes(ax, n_images, f"as many axes as there are images, {n_images}")
        for number, axis in enumerate(axes):
            overlay = self._plot_one(axis, number, alpha, cmap)
        self.axes_ = axes
        self.figure_ = axes[0].figure
        bar = self.figure_.colorbar(overlay, ax=list(axes), fraction=0.05, ticks=[0, 0.5, 1])
        bar.set_label("speaks for the class")
        return self

    def _plot_one(self, axis: Axes, number: int, alpha: float, cmap: Any) -> Any:
        height, width = self.images[number].shape[:2]
        axis.imshow(self.images[number], extent=(0, width, height, 0))
        overlay = axis.imshow(
            self.heatmaps[number],
            # Each cell lies over the part of the image that it came from.
            extent=(0, width, height, 0),
            interpolation="bilinear",
            alpha=alpha,
            cmap=cmap,
            vmin=0,
            vmax=1,
        )
        title = f"{plain(self.classes[number])}\n{self.probabilities[number]:.0%}"
        axis.set_title(title, fontsize="medium")
        axis.set(xticks=[], yticks=[])
        return overlay


def heat_display(
    classifier: TransferClassifier,
    source: ImageSource,
    chosen: np.ndarray,
    probabilities: np.ndarray,
    layer: str | None = None,
) -> GradCAMDisplay:
    """Return the maps of images for the chosen classes (positions), not plotted yet."""
    name = _chosen_layer(classifier.model_, layer)
    seen = load_all(source, classifier.prefix_.size, classifier.resize_)
    return GradCAMDisplay(
        np.clip(np.rint(seen), 0, 255).astype(np.uint8),
        _heatmaps(classifier.model_, name, seen, chosen),
        classes=classifier.classes_[chosen],
        probabilities=probabilities[np.arange(len(chosen)), chosen],
        layer=name,
    )


def _indices(class_: Any, classes: np.ndarray, n_images: int) -> np.ndarray:
    """The position of the class that is asked for, for each image."""
    wanted = [class_] * n_images if np.ndim(class_) == 0 else list(class_)
    if len(wanted) != n_images:
        raise InvalidParameterError(
            f"class_ must be one label or {n_images}, one for each image. "
            f"Got {len(wanted)} instead."
        )
    index = {label: number for number, label in enumerate(classes.tolist())}
    for label in wanted:
        if not isinstance(label, Hashable) or label not in index:
            hint = did_you_mean([label], index) if isinstance(label, Hashable) else ""
            raise InvalidParameterError(
                f"class_ must be one of {_few(classes.tolist())}. Got {label!r} instead.{hint}"
            )
    return np.array([index[label] for label in wanted], int)


def _chosen_layer(model: Any, layer: str | None) -> str:
    from transferclf.heads.gradients import map_layers

    maps = map_layers(model)
    if not maps:
        raise NetworkError(
            f"Grad-CAM needs a layer with a map, which a convolution gives. {model.name!r} has "
            "none: its layers see each image as one row of numbers."
        )
    if layer is None:
        # A map of one cell says nothing about where; then the last that says something.
        return ([name for name, sides in maps.items() if max(sides) > 1] or list(maps))[-1]
    if layer not in maps:
        raise InvalidParameterError(
            f"layer must be one that has a map, from the first to the last {_few(list(maps))}. "
            f"Got {layer!r} instead."
        )
    return layer


def _heatmaps(model: Any, layer: str, pixels: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The maps, each divided by its largest value."""
    from transferclf.heads.gradients import layer_gradients

    activations, gradients = layer_gradients(model, layer, pixels, classes)
    weights = gradients.mean(axis=(1, 2), keepdims=True)
    maps = np.maximum((weights * activations).sum(axis=-1), 0)
    largest = maps.max(axis=(1, 2), keepdims=True)
    return maps / np.where(largest > 0, largest, 1)


def _few(names: list[Any]) -> str:
    """Names for a message; of many only the last layers, which are those one wants."""
    shown = ", ".join(map(repr, names[-30:]))
    return shown if len(names) <= 30 else f"..., {shown}"
