"""CNNFeatureExtractor: images in, features of a frozen network out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from sklearn.base import TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from transferclf._checks import seed_from
from transferclf.estimators.base import BackboneEstimator
from transferclf.estimators.effects import warn_without_effect
from transferclf.estimators.parameters import BackboneParameters
from transferclf.estimators.skipping import (
    Sound,
    of_sound,
    read_sound,
    warn_of_nan,
    warn_of_skipped,
)
from transferclf.exceptions import InvalidParameterError
from transferclf.features.output import Placing, check_output, write_features
from transferclf.images import ImageSource


@dataclass(eq=False, repr=False, kw_only=True)
class CNNFeatureExtractor(TransformerMixin, BackboneEstimator):
    """Turn images into the activations of a frozen convolutional network.

    Every distinct image goes through the network once per process, for all clones, folds and
    pipelines.

    Parameters
    ----------
    backbone : str, path, OnnxBackbone or keras.Model, default="tiny"
        One of :func:`transferclf.list_backbones`, a functional model of your own, or an ONNX file.
        "tiny" is bundled and needs no download.
    weights : {"pretrained", "imagenet"}, path or None, default="pretrained"
        "pretrained" is ImageNet for the networks of `keras.applications` and the bundled file for
        "tiny". None starts from random weights that `random_state` determines.
    image_size : int, (int, int) or None, default=None
        Side, or height and width, in pixels at which the network sees the images; None is the
        backbone's own.
    resize : {"auto", "crop", "stretch", "pad"}, default="auto"
        "crop" takes the largest centred part, "stretch" distorts, "pad" adds black borders; "auto"
        is that of the backbone's training.
    pooling : {"auto", "avg", "max", "flatten", "cls", "cls+avg"}, default="auto"
        How maps or tokens become features: mean, maximum or all values, the class token, or this
        and the mean. "auto" is what the network's own library does, "avg" for maps.
    preprocessing : str or Preprocessing, default="auto"
        Scaling of the pixels, inside the network; "auto" is that of the backbone's training.
        Others are "none", "rescale" (to 0 to 1), "caffe", "tf" and "torch", or a
        :class:`transferclf.Preprocessing`.
    image_shape : (h, w), (h, w, c), "infer" or None, default=None
        Shape of the image in each row of a 2-D X. "infer" takes a square gray image where the
        length of the rows is a square number, else a square RGB image where a third of it is one,
        else a strip of gray pixels, one pixel high, which is always stretched.
    pixel_range : None, "minmax" or (low, high), default=None
        Numbers of black and white. None decides once, at fit: 0 to 255 for 8-bit, 0 to 65535 for
        16-bit integers, 0 to 1 or 0 to 255 for floats. "minmax" stretches each image.
    cache : {"memory", None}, path or FeatureStore, default="memory"
        Where features are kept: in one bounded store of this process; in a folder, for other
        processes and later runs too; in a store of your own; or nowhere.
    engine : {"auto", "tensorflow", "onnxruntime", "openvino", "torch", "keras"}, default="auto"
        Engine that runs the network. "auto" is the fastest that can run it here.
    precision : {"float32", "bfloat16"}, default="float32"
        Of the network. bfloat16 is faster on some processors and changes features a little.
    on_error : {"raise", "skip"}, default="raise"
        What happens to images that cannot be used. "raise" names all of them in one error. "skip"
        gives them rows of NaN in `transform`, with one warning.
    n_jobs : int or None, default=None
        Processes that decode images and run the network; -1 is one for each core. None is 1, unless
        `joblib.parallel_config` says otherwise, which also names a cluster
        (``docs/tutorials/scaling_out.md``). Features are the same.
    random_state : int, RandomState or None, default=None
        Determines random weights (`weights=None`).
    verbose : int, default=0
        1 shows progress.
    layer : str, list of str or None, default=None
        Layers to tap, or modules of a network of timm; the features of several stand side by
        side. None is the network's output.
    output : path or None, default=None
        Where `transform` writes the features, for more of them than memory holds: a file that ends
        in .npy, or a folder, made if it is missing, in which the features of each X have a file of
        their own. `transform` then returns a read-only `numpy.memmap`. No file is ever overwritten:
        `transform` raises an error if the file is there, and in a folder it opens the file of the
        same images. In pipelines and searches, pass a folder. None returns an array in memory.

    Attributes
    ----------
    engine_ : str
        The engine that runs the network, never "auto".
    pixel_range_ : tuple, "minmax" or None
        The pixel range in use; None where every image's own mode says it.
    n_features_out_ : int
        Number of features per image.
    skipped_indices_ : ndarray of int
        Positions in X of the images that `fit` found at fault, ascending; with `on_error="raise"`
        there are none. `fit` decodes only one image: damage that shows later is not among them.
    n_features_in_ : int
        Length of the rows; only after fitting on rows.
    feature_names_in_ : ndarray of str objects, shape (`n_features_in_`,)
        Names of their columns; only after fitting on a table whose columns have names.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from transferclf import CNNFeatureExtractor
    >>> digits = load_digits().images[:8]
    >>> CNNFeatureExtractor(pixel_range=(0, 16)).fit_transform(digits).shape
    (8, 1152)
    """

    layer: str | Sequence[str] | None = None
    output: str | Path | None = None

    n_features_out_: int = field(init=False)

    def fit(self, X: object, y: object = None) -> CNNFeatureExtractor:
        """Check the images and the network, and decide the pixel range.

        Parameters
        ----------
        X : array-like or sequence of images, n of them
            See :func:`transferclf.images.check_images`.
        y : ignored
            Here for scikit-learn's sake.

        Returns
        -------
        self

        Raises
        ------
        ImageError, InvalidParameterError, NetworkError, WeightsError
            If the images, a parameter, the network or its weights cannot be used.
        """
        parameters, layers = BackboneParameters.of(self), self._layers()
        check_output(self.output)
        source = self._fit_source(X)
        Sound.of(source, self.on_error)  # an error if there is no image to be used
        self._fit_prefix(parameters, seed_from(parameters.random_state), layers=layers)
        warn_without_effect(self, {"layer", "output"} | self._used_of_backbone())
        self._remark_on(source[source.sound()])
        # One image shows early whether everything works, and how many features there are.
        first, sound = read_sound(partial(self._first_row, source), [source], self.on_error)
        self.n_features_out_, self.skipped_indices_ = first.shape[1], sound.skipped
        warn_of_skipped(("X", sound), advice="`skipped_indices_` has their positions.")
        return self

    def _first_row(self, source: ImageSource) -> tuple[np.ndarray, Sound]:
        """Return the features of the first image that is not skipped, and all of these images."""
        sound = Sound.of(source, self.on_error)
        return self._rows(sound.source[:1]), sound

    def transform(self, X: object) -> np.ndarray:
        """Return the features of the images.

        Parameters
        ----------
        X : array-like or sequence of images, n of them
            Of any kind, not necessarily that of `fit`.

        Returns
        -------
        ndarray of shape (n, `n_features_out_`), float32
            A read-only `numpy.memmap` with `output`. With `on_error="skip"`, images that cannot be
            used have rows of NaN.

        Raises
        ------
        DiskSpaceError
            If the disk has no room for the file that `output` asks for.
        ImageError
            If images cannot be used; all of them are named.
        InvalidParameterError
            If the file that `output` names exists, or cannot be made.
        sklearn.exceptions.NotFittedError
            If `fit` was not called.
        """
        check_is_fitted(self)
        output = check_output(self.output)
        return self._rows_of(X, self._rows) if output is None else self._in_file(output, X)

    def _in_file(self, output: Path, X: object) -> np.ndarray:
        read, prefix = self._extractor(), self.prefix_

        def write(sound: Sound) -> np.ndarray:
            placing = Placing(sound.positions, len(sound.given))
            return write_features(output, read, sound.source, prefix, placing)

        features, sound = of_sound(self, write, X)
        warn_of_nan(X, sound)
        return features

    def _rows(self, source: ImageSource) -> np.ndarray:
        return self._extractor().rows(source, self.prefix_)

    def get_feature_names_out(self, input_features: object = None) -> np.ndarray:
        """Name the features: backbone, tapped layer, pooling, number.

        Parameters
        ----------
        input_features : ignored
            Here for scikit-learn's sake; pixels have no names.

        Returns
        -------
        ndarray of str objects, shape (`n_features_out_`,)
            Such as "mobilenet_v2_avg_0".
        """
        check_is_fitted(self)
        prefix = self.prefix_
        name, layers, pooling = prefix.backbone.name, prefix.layers, prefix.pooling
        stems = [f"{name}_{layer}_{pooling}" for layer in layers] or [f"{name}_{pooling}"]
        widths = prefix.widths() if len(layers) > 1 else [self.n_features_out_]
        names = [
            f"{stem}_{number}"
            for stem, width in zip(stems, widths, strict=True)
            for number in range(width)
        ]
        return np.array(names, dtype=object)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def _layers(self) -> tuple[str, ...]:
        layers = self.layer or ()
        if isinstance(layers, str):
            return (layers,)
        is_sequence = isinstance(layers, list | tuple)
        is_names = is_sequence and all(isinstance(layer, str) for layer in layers)
        if not is_names or len(set(layers)) < len(layers):
            raise InvalidParameterError(
                "layer must be None, a name or a list of different names. "
                f"Got {self.layer!r} instead."
            )
        return tuple(layers)
