"""Pixel scaling that is fitted: standardised channels, and zero-phase whitening.

Both are fitted on training images only, as numbers, and then travel inside the network.

Sources: Bell and Sejnowski, "The independent components of natural scenes are edge filters",
Vision Research 37 (1997), for zero-phase whitening ("zca"); Krizhevsky, "Learning multiple layers
of features from tiny images" (2009), for small colour images.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers, ops
from scipy.linalg import eigh
from scipy.linalg.blas import dsyrk

from transferclf._checks import check_number
from transferclf.exceptions import ImageError, InvalidParameterError, NetworkError
from transferclf.features.row_file import RowFile, Rows
from transferclf.graphs.constants import shifted, shifted_and_scaled
from transferclf.heads.suffix import PIXEL_SCALINGS
from transferclf.objectives.weights import check_sample_weight

# Most values of an image that are whitened against each other: those of 64 x 64 colour pixels. The
# matrix of so many has 600 MB, and its time grows with the third power of the number.
MAX_WHITENED = 64 * 64 * 3

# Values that are held in double precision at once.
CHUNK = 2**22

WHITE = 255.0


@dataclass(frozen=True, eq=False)
class PixelScaling:
    """The scaling of pixels between 0 and 255, fitted on training images, as float32.

    "standardize" standardises each channel: `mean` and `factor`, one over the deviation, have
    shape (3,). "zca" whitens all values of an image against each other: `mean` has shape (h, w, 3),
    and `factor` is a symmetric matrix of h * w * 3 rows.
    """

    kind: str
    mean: np.ndarray
    factor: np.ndarray


def fit_pixel_scaling(
    kind: str, pixels: Rows, weights: object = None, epsilon: float = 0.01
) -> PixelScaling:
    """Fit the scaling of pixels (n, h, w, 3) between 0 and 255 to training images.

    "standardize" gives each channel mean 0 and deviation 1; a constant one is only centred. "zca"
    gives all values of an image covariance 1 and changes the image as little as that allows. It
    adds `epsilon` to the variances of pixels on the scale 0 to 1: with a small one, new images that
    differ where the training images hardly do come out far larger.

    ImageError is raised for pixels that cannot be used, InvalidParameterError for images that are
    too large to be whitened and for other parameters.
    """
    _check_kind(kind)
    check_number("epsilon", epsilon, 0, above=True)
    _check_pixels(pixels)
    shares = check_sample_weight(weights, len(pixels), "weights")
    shares = shares / shares.max()  # so that the sum of large ones stays finite
    shares = shares / shares.sum()
    if kind == "zca":
        _whitened_shape(pixels.shape)
    # The weighted mean of each value of an image, (h * w * 3,).
    zero = np.zeros(pixels[0].size)
    mean = np.asarray(sum(part @ rows for rows, part in _centred(pixels, shares, zero)))
    if kind == "standardize":
        return _standardized(pixels, shares, mean)
    matrix_by = _matrix_by_images if len(pixels) < len(mean) else _matrix_by_values
    matrix = matrix_by(pixels, shares, mean, float(epsilon)) / WHITE
    mean = mean.reshape(pixels.shape[1:]).astype(np.float32)
    # In rows: a matrix in columns takes half a minute to be handed to the network.
    return PixelScaling("zca", mean, np.ascontiguousarray(matrix, np.float32))


def _standardized(pixels: Rows, shares: np.ndarray, mean: np.ndarray) -> PixelScaling:
    channels = mean.reshape(-1, 3).mean(axis=0)
    centre = np.tile(channels, len(mean) // 3)
    squares = sum(part @ rows**2 for rows, part in _centred(pixels, shares, centre))
    scale = np.sqrt(np.reshape(squares, (-1, 3)).mean(axis=0))
    # A channel that varies by no more than the rounding of its mean is constant; 1 leaves it so.
    scale[scale <= 10 * np.finfo(np.float32).eps * np.abs(channels)] = 1.0
    return PixelScaling("standardize", channels.astype(np.float32), (1 / scale).astype(np.float32))


def _matrix_by_values(
    pixels: Rows, shares: np.ndarray, mean: np.ndarray, epsilon: float
) -> np.ndarray:
    """Return (C + epsilon) ** -1/2 of the covariance C of pixels on the scale 0 to 1."""
    covariance = np.zeros((len(mean), len(mean)), order="F")
    for rows, part in _centred(pixels, shares, mean):
        rows *= np.sqrt(part)[:, None] / WHITE
        covariance = dsyrk(1.0, rows.T, beta=1.0, c=covariance, overwrite_c=True)
    # "evd" would need room for two more such matrices.
    variances, axes = eigh(covariance, lower=False, overwrite_a=True, driver="evr")
    # Twice the fourth root is exactly symmetric.
    axes *= (np.maximum(variances, 0) + epsilon) ** -0.25
    return _mirrored(dsyrk(1.0, axes))


def _matrix_by_images(
    pixels: Rows, shares: np.ndarray, mean: np.ndarray, epsilon: float
) -> np.ndarray:
    """Return the same from products of images, where these are fewer than the values of one.

    With X the centred images, X X' = U S U' and r = sqrt(S + epsilon), the matrix is
    (1 - X' U diag(1 / (r (r + sqrt(epsilon)))) U' X) / sqrt(epsilon).
    """
    images = np.empty((len(pixels), len(mean)))
    start = 0
    for rows, part in _centred(pixels, shares, mean):
        images[start : start + len(rows)] = rows * (np.sqrt(part)[:, None] / WHITE)
        start += len(rows)
    variances, axes = eigh(images @ images.T, overwrite_a=True, driver="evr")
    roots = np.sqrt(np.maximum(variances, 0) + epsilon)
    axes /= np.sqrt(roots * (roots + np.sqrt(epsilon)))
    explained = images.T @ axes
    matrix = _mirrored(dsyrk(-1.0 / np.sqrt(epsilon), explained))
    matrix[np.diag_indices_from(matrix)] += 1 / np.sqrt(epsilon)
    return matrix


def _mirrored(upper: np.ndarray) -> np.ndarray:
    """Return a symmetric matrix from its upper triangle, changed in place."""
    for row in range(len(upper)):
        upper[row + 1 :, row] = upper[row, row + 1 :]
    return upper


def _centred(
    pixels: Rows, shares: np.ndarray, centre: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield a few images at a time: rows of values less `centre`, as float64, and their shares."""
    step = max(1, CHUNK // len(centre))
    for start in range(0, len(pixels), step):
        rows = pixels[start : start + step].reshape(-1, len(centre))
        yield rows - centre, shares[start : start + step]


class PixelScaler(layers.Layer):
    """Fitted pixel scaling whose numbers are variables, set from outside.

    Until then it changes nothing. See :func:`scaled` for the same in Keras' own layers.
    """

    def __init__(self, kind: str, **arguments: object):
        super().__init__(**arguments)
        _check_kind(kind)
        self.kind = kind

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the variables, for images of this size."""
        of_mean = of_factor = input_shape[-1:]
        initial = "ones"
        if self.kind == "zca":
            of_mean, initial = _whitened_shape(input_shape), "identity"
            of_factor = 2 * (math.prod(of_mean),)
        self.mean = self.add_weight(of_mean, initializer="zeros", trainable=False, name="mean")
        self.factor = self.add_weight(
            of_factor, initializer=initial, trainable=False, name="factor"
        )

    def call(self, pixels: keras.KerasTensor) -> keras.KerasTensor:
        """Return scaled pixels of the same shape."""
        centred = ops.cast(pixels, self.compute_dtype) - self.mean
        if self.kind == "standardize":
            return centred * self.factor
        rows = ops.matmul(ops.reshape(centred, (-1, self.factor.shape[0])), self.factor)
        return ops.reshape(rows, (-1, *self.mean.shape))

    def set(self, scaling: PixelScaling) -> None:
        """Set a scaling that was fitted to images of the size that this layer was built for."""
        if not self.built:
            raise NetworkError("PixelScaler must be built before it is set: call it on pixels.")
        expected = (self.kind, tuple(self.mean.shape))
        if (scaling.kind, scaling.mean.shape) != expected:
            raise NetworkError(
                f"PixelScaler expected a scaling of kind {expected[0]!r} with a mean of shape "
                f"{expected[1]}. Got {scaling.kind!r} with {scaling.mean.shape} instead."
            )
        self.mean.assign(scaling.mean)
        self.factor.assign(scaling.factor)

    def get_config(self) -> dict[str, object]:
        """Return the arguments that make the layer again, without its numbers."""
        return super().get_config() | {"kind": self.kind}


def scaled(pixels: keras.KerasTensor, scaling: PixelScaling) -> keras.KerasTensor:
    """Scale pixels (n, h, w, 3) as fitted, by Keras' own layers: no code of this package is needed.

    NetworkError is raised if the scaling was fitted to images of another size.
    """
    shape = tuple(pixels.shape[1:])
    if shape[-scaling.mean.ndim :] != scaling.mean.shape:
        raise NetworkError(
            f"The scaling was fitted to images of shape {scaling.mean.shape}. Got {shape} instead."
        )
    if scaling.kind == "standardize":
        names = ("centre_pixels", "scale_pixels")
        return shifted_and_scaled(pixels, scaling.mean, 1 / scaling.factor.astype(float), names)
    size = scaling.mean.size
    rows = layers.Reshape((size,), name="flatten_pixels")(pixels)
    rows = shifted(rows, scaling.mean.ravel(), "centre_pixels")
    whiten = layers.Dense(
        size, use_bias=False, kernel_initializer="zeros", trainable=False, name="whiten"
    )
    rows = whiten(rows)
    whiten.set_weights([scaling.factor])
    return layers.Reshape(shape, name="scale_pixels")(rows)


def _check_kind(kind: object) -> None:
    if not isinstance(kind, str) or kind not in PIXEL_SCALINGS:
        choices = " or ".join(map(repr, PIXEL_SCALINGS))
        raise InvalidParameterError(f"Pixel scaling must be {choices}. Got {kind!r} instead.")


def _check_pixels(pixels: Any) -> None:
    is_array = isinstance(pixels, np.ndarray | RowFile)
    if not is_array or pixels.shape[3:] != (3,) or 0 in pixels.shape:
        what = repr(pixels)
        if is_array:
            what = f"an array of shape {pixels.shape}"
        raise ImageError(
            f"pixels must be an array of shape (n, h, w, 3) with at least one. Got {what} instead."
        )
    if pixels.dtype != np.uint8 and pixels.dtype.kind != "f":
        raise ImageError(f"pixels must be uint8 or float32. Got {pixels.dtype} instead.")
    if pixels.dtype != np.uint8:
        numbers = range(len(pixels))
        wrong = [index for index in numbers if not np.isfinite(pixels[index]).all()]
        if wrong:
            raise ImageError(
                f"pixels must be finite. Got NaN or infinity in {len(wrong)} of {len(pixels)} "
                f"images instead, first at index {wrong[0]}."
            )


def _whitened_shape(shape: tuple[int | None, ...]) -> tuple[int, ...]:
    """Return the shape of an image; raise InvalidParameterError if it cannot be whitened."""
    sizes = tuple(size for size in shape[1:] if size is not None)
    if len(sizes) < len(shape[1:]):
        raise InvalidParameterError(
            f"'zca' needs images of one known size. Got the shape {shape} instead."
        )
    if math.prod(sizes) > MAX_WHITENED:
        raise InvalidParameterError(
            "'zca' multiplies all values of an image by a matrix of as many rows and columns, so "
            f"that images must have at most 64 x 64 pixels. Got {sizes[0]} x {sizes[1]} instead. "
            "Use a smaller image_size, or 'standardize'."
        )
    return sizes
