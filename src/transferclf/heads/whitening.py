"""Pixel scaling that is fitted: standardised channels, and zero-phase whitening.

Both are fitted on training images only, as numbers, and then travel inside the network.

Sources: Bell and Sejnowski, "The independent components of natural scenes are edge filters",
Vision Research 37 (1997), for zero-phase whitening ("zca"); Krizhevsky, "Learning multiple layers
of features from tiny images" (2009), for small colour images.
"""

from __future__ import annotations

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
from transferclf.graphs.constants import shifted, shifted_and_scaled
from transferclf.heads.suffix import PIXEL_SCALINGS
from transferclf.objectives.weights import check_sample_weight

# Values of an image that are whitened against each other: of 64 x 64 in colour. The matrix of
# these has 600 MB, and the time it takes grows with the third power.
MAX_WHITENED = 64 * 64 * 3

# Values that are held in double precision at once.
CHUNK = 2**22

WHITE = 255.0


@dataclass(frozen=True, eq=False)
class PixelScaling:
    """What pixels between 0 and 255 are scaled by, fitted on training images.

    Attributes
    ----------
    kind : {"standardize", "zca"}
        Each channel standardised, or all values of an image whitened against each other.
    mean : ndarray of shape (3,) or (h, w, 3), float32
        What is subtracted: the mean of each channel, or of each value.
    factor : ndarray of shape (3,) or (h * w * 3, h * w * 3), float32
        What the rest is multiplied by: one over each deviation, or a symmetric matrix.
    """

    kind: str
    mean: np.ndarray
    factor: np.ndarray


def fit_pixel_scaling(
    kind: str, pixels: np.ndarray, weights: np.ndarray | None = None, epsilon: float = 0.01
) -> PixelScaling:
    """Fit the scaling of pixels to training images.

    Parameters
    ----------
    kind : {"standardize", "zca"}
        "standardize" gives each channel mean 0 and deviation 1; a constant one is only centred.
        "zca" gives all values of an image covariance 1 and changes the image as little as that
        allows.
    pixels : ndarray of shape (n, h, w, 3), uint8 or float32
        RGB pixels between 0 and 255.
    weights : ndarray of shape (n,) or None, default=None
        Weight of each image; a weight of 2 is the image twice.
    epsilon : float, default=0.01
        For "zca": added to the variances of pixels on the scale 0 to 1. A small one blows up
        directions in which the training images hardly differ, and new images that do differ there
        come out far larger. Use less only with many more images than values in one.

    Raises
    ------
    ImageError, InvalidParameterError
        If the pixels cannot be used, are too large to be whitened, or another parameter cannot be.
    """
    _check_kind(kind)
    _check_epsilon(epsilon)
    _check_pixels(pixels)
    shares = _shares(weights, len(pixels))
    if kind == "zca":
        _check_whitened(pixels.shape)
    mean = _mean(pixels, shares)
    if kind == "standardize":
        return _standardized(pixels, shares, mean)
    matrix = _whitening_matrix(pixels, shares, mean, float(epsilon)) / WHITE
    mean = mean.reshape(pixels.shape[1:]).astype(np.float32)
    # In rows: a matrix in columns takes half a minute to be handed to the network.
    return PixelScaling("zca", mean, np.ascontiguousarray(matrix, np.float32))


def _standardized(pixels: np.ndarray, shares: np.ndarray, mean: np.ndarray) -> PixelScaling:
    channels = mean.reshape(-1, 3).mean(axis=0)
    centre = np.tile(channels, len(mean) // 3)
    squares = sum(part @ rows**2 for rows, part in _centred(pixels, shares, centre))
    scale = np.sqrt(np.reshape(squares, (-1, 3)).mean(axis=0))
    # What varies by no more than the rounding of its mean is constant; 1 leaves it so.
    scale[scale <= 10 * np.finfo(np.float32).eps * np.abs(channels)] = 1.0
    return PixelScaling("standardize", channels.astype(np.float32), (1 / scale).astype(np.float32))


def _whitening_matrix(
    pixels: np.ndarray, shares: np.ndarray, mean: np.ndarray, epsilon: float
) -> np.ndarray:
    """(C + epsilon) ** -1/2 of the covariance C of pixels on the scale 0 to 1."""
    if len(pixels) < len(mean):
        return _matrix_by_images(pixels, shares, mean, epsilon)
    return _matrix_by_values(pixels, shares, mean, epsilon)


def _matrix_by_values(
    pixels: np.ndarray, shares: np.ndarray, mean: np.ndarray, epsilon: float
) -> np.ndarray:
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
    pixels: np.ndarray, shares: np.ndarray, mean: np.ndarray, epsilon: float
) -> np.ndarray:
    """The same from products of images, where these are fewer than the values of one.

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
    """A symmetric matrix from its upper triangle, changed in place."""
    for row in range(len(upper)):
        upper[row + 1 :, row] = upper[row, row + 1 :]
    return upper


def _mean(pixels: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Weighted mean of each value of an image, (h * w * 3,)."""
    zero = np.zeros(pixels[0].size)
    return np.asarray(sum(part @ rows for rows, part in _centred(pixels, shares, zero)))


def _centred(
    pixels: np.ndarray, shares: np.ndarray, centre: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """A few images at a time: rows of values less `centre`, as float64, and their shares."""
    step = max(1, CHUNK // len(centre))
    for start in range(0, len(pixels), step):
        rows = pixels[start : start + step].reshape(-1, len(centre))
        yield rows - centre, shares[start : start + step]


class PixelScaler(layers.Layer):
    """Fitted pixel scaling whose numbers are variables, set from outside.

    Until then it changes nothing. See :func:`scaled` for the same in Keras' own layers.

    Parameters
    ----------
    kind : {"standardize", "zca"}
        As in :func:`fit_pixel_scaling`.
    **arguments
        Those of Keras' layers.
    """

    def __init__(self, kind: str, **arguments: Any):
        super().__init__(**arguments)
        _check_kind(kind)
        self.kind = kind

    def build(self, input_shape: tuple[Any, ...]) -> None:
        """Make the variables, for images of this size."""
        width = input_shape[-1]
        is_zca = self.kind == "zca"
        if is_zca:
            _check_whitened(input_shape)
            width = int(np.prod(input_shape[1:]))
        self.mean = self.add_weight(
            input_shape[1:] if is_zca else (width,),
            initializer="zeros",
            trainable=False,
            name="mean",
        )
        self.factor = self.add_weight(
            (width, width) if is_zca else (width,),
            initializer="identity" if is_zca else "ones",
            trainable=False,
            name="factor",
        )

    def call(self, pixels: Any) -> Any:
        """Return scaled pixels of the same shape."""
        centred = ops.cast(pixels, self.compute_dtype) - self.mean
        if self.kind == "standardize":
            return centred * self.factor
        rows = ops.matmul(ops.reshape(centred, (-1, self.factor.shape[0])), self.factor)
        return ops.reshape(rows, (-1, *self.mean.shape))

    def set(self, scaling: PixelScaling) -> None:
        """Set what was fitted, to images of the size that this layer was built for."""
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

    def get_config(self) -> dict[str, Any]:
        """What the layer is made again from, without its numbers."""
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


def _check_kind(kind: Any) -> None:
    if not isinstance(kind, str) or kind not in PIXEL_SCALINGS:
        choices = " or ".join(map(repr, PIXEL_SCALINGS))
        raise InvalidParameterError(f"Pixel scaling must be {choices}. Got {kind!r} instead.")


def _check_epsilon(epsilon: Any) -> None:
    check_number("epsilon", epsilon, 0, above=True)


def _check_pixels(pixels: Any) -> None:
    is_array = isinstance(pixels, np.ndarray)
    if not is_array or pixels.ndim != 4 or pixels.shape[-1] != 3 or pixels.size == 0:
        what = f"an array of shape {pixels.shape}" if is_array else repr(pixels)
        raise ImageError(
            f"pixels must be an array of shape (n, h, w, 3) with at least one. Got {what} instead."
        )
    if pixels.dtype != np.uint8 and pixels.dtype.kind != "f":
        raise ImageError(f"pixels must be uint8 or float32. Got {pixels.dtype} instead.")
    if pixels.dtype != np.uint8:
        wrong = [index for index, image in enumerate(pixels) if not np.isfinite(image).all()]
        if wrong:
            raise ImageError(
                f"pixels must be finite. Got NaN or infinity in {len(wrong)} of {len(pixels)} "
                f"images instead, first at index {wrong[0]}."
            )


def _check_whitened(shape: tuple[Any, ...]) -> None:
    """Raise InvalidParameterError unless images of this shape can be whitened."""
    if None in shape[1:]:
        raise InvalidParameterError(
            f"'zca' needs images of one known size. Got the shape {shape} instead."
        )
    height, width = shape[1:3]
    if np.prod(shape[1:]) > MAX_WHITENED:
        raise InvalidParameterError(
            "'zca' multiplies all values of an image by a matrix of as many rows and columns, so "
            f"that images must have at most 64 x 64 pixels. Got {height} x {width} instead. Use a "
            "smaller image_size, or 'standardize'."
        )


def _shares(weights: Any, n_images: int) -> np.ndarray:
    """Return weights that sum to one."""
    values = check_sample_weight(weights, n_images, "weights")
    values = values / values.max()  # so that the sum of large ones stays finite
    return values / values.sum()
