"""What all displays share: matplotlib imported late, axes, colours, plain text and pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from transferclf.estimators.base import BackboneEstimator
from transferclf.estimators.reading import images_of
from transferclf.exceptions import ImageError, InvalidParameterError
from transferclf.images import ImageSource, check_images, resize_image
from transferclf.reports.names import short_name
from transferclf.reports.predictions import unwrapped
from transferclf.reports.tables import extra

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

# Blue, vermilion, bluish green, reddish purple, orange, sky blue, black and yellow: colours that
# people with any colour vision tell apart. Yellow, the faintest on white, comes last.
# Source: Okabe and Ito, "Color Universal Design", 2008.
COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442",
)  # fmt: skip
GREY = "#5F5F5F"

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
SIDE = 256  # longest side of a picture in a figure, in pixels


def pyplot() -> Any:
    """Import `matplotlib.pyplot` when something is drawn; ImportError says how to install it."""
    return extra("matplotlib.pyplot")


def axes_for(ax: Axes | None = None, figsize: tuple[float, float] = (6.4, 4.8)) -> tuple[Any, Axes]:
    """Return the figure and the axes to draw into: those given, or new ones, in inches."""
    if ax is not None:
        return check_axes(ax).figure, ax
    return pyplot().subplots(figsize=figsize, layout="constrained")


def check_axes(ax: object) -> Axes:
    """Return `ax`, or raise InvalidParameterError if these are no axes."""
    pyplot()
    from matplotlib.axes import Axes

    if not isinstance(ax, Axes):
        raise InvalidParameterError(
            f"ax must be None or axes of matplotlib. Got {type(ax).__name__} instead."
        )
    return ax


def given_axes(ax: Axes | Sequence[Axes], count: int, expected: str) -> np.ndarray:
    """Return `count` axes as a flat array; other counts and other things are an error."""
    axes = np.atleast_1d(np.asarray(ax, dtype=object)).ravel()
    if len(axes) != count:
        raise InvalidParameterError(f"ax must be {expected}. Got {len(axes)} instead.")
    return np.array([check_axes(one) for one in axes])


def new_axes(
    count: int, n_columns: int, tile: tuple[float, float], extra_width: float = 0.0
) -> np.ndarray:
    """Return axes for `count` pictures in a new figure, row by row; `tile` is in inches."""
    n_rows = -(-count // n_columns)
    size = (tile[0] * n_columns + extra_width, tile[1] * n_rows)
    figure, axes = pyplot().subplots(
        n_rows, n_columns, figsize=size, squeeze=False, layout="constrained"
    )
    for spare in axes.flat[count:]:
        figure.delaxes(spare)
    return axes.flat[:count]


def show(axes: Axes, pixels: np.ndarray, title: str = "", **image_options: Any) -> None:
    """Show a picture under a title, without ticks."""
    axes.imshow(pixels, **image_options)
    axes.set_title(title, fontsize="medium")
    axes.set(xticks=[], yticks=[])


def colour_of(number: int) -> str:
    """Return the colour of the class or run with this number; they repeat after eight."""
    return COLOURS[number % len(COLOURS)]


def marker_of(number: int) -> str:
    """Return the marker of the class or run with this number.

    The first 64 numbers differ in colour or marker, neighbours in both.
    """
    return MARKERS[(number + number // len(COLOURS)) % len(MARKERS)]


def plain(name: object, width: int = 28) -> str:
    """Return a name that matplotlib shows as it is, without mathematics between dollar signs."""
    return short_name(name, width).replace("$", r"\$")


def legend_width(names: Iterable[object], n_columns: int = 1) -> float:
    """Return the width of a legend in inches, roughly."""
    letters = max((len(short_name(name)) for name in names), default=0)
    return n_columns * (0.55 + 0.085 * letters)


def legend_beside(
    axes: Axes, handles: Iterable[Artist], names: Iterable[object], n_columns: int = 1
) -> None:
    """Add a legend to the right of the axes, where it covers no data."""
    handles = list(handles)
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.02, 1), "borderaxespad": 0}
    legend = axes.legend(handles, ["-"] * len(handles), ncols=n_columns, **place)
    # Set afterwards, since a legend leaves out labels that begin with an underscore.
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_text(plain(name))


def pictures_of(estimator: object, X: object, images: object = None) -> ImageSource:
    """Return the images to show for X, read as the estimator reads X, or `images` if given.

    Raises ImageError if there are no images in X.
    """
    if images is not None:
        return source_of(images)
    steps, last = unwrapped(estimator)
    first = steps[0].steps[0][1] if steps else last
    if isinstance(first, BackboneEstimator):
        return images_of(first, X)
    try:
        return source_of(X)
    except ImageError as error:
        raise ImageError(f"{error} Pass the images to be shown as images=...") from None


def source_of(images: object) -> ImageSource:
    """Return images of any kind, with the pixel range found in them."""
    source = check_images(images)
    return source.read_with(source.decided_range())


def picture(source: ImageSource, index: int, side: int = SIDE) -> np.ndarray:
    """Return one image as uint8 of shape (h, w, 3), its longer side at most `side` pixels."""
    pixels = source.load(index)
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    if scale < 1:
        size = max(1, round(height * scale)), max(1, round(width * scale))
        pixels = resize_image(pixels, size, "stretch")
    return as_bytes(pixels)


def as_bytes(pixels: np.ndarray) -> np.ndarray:
    """Return pixels from 0 to 255 rounded to uint8."""
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
