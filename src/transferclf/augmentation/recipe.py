"""Augmentation: the random variation of training images, and its steps."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from transferclf._parameters import ParameterSet
from transferclf.augmentation.steps import BUILT_IN, DRAWN, Noise, Source, Step
from transferclf.exceptions import InvalidParameterError

if TYPE_CHECKING:
    from keras import KerasTensor as Tensor

# Digests and archives contain these fields only where they are set, so that older ones stay valid.
_LATER = {"later": True}


@dataclass
class Augmentation(ParameterSet):
    """How images are varied at random while a network is trained.

    All amounts are drawn uniformly, for each image on its own. Rotation, shift, zoom, shear and
    flips are one resampling, with the image mirrored beyond its edges. Contrast, brightness, colour
    and noise follow, and the pixels are clipped to 0 to 255.

    `mixup`, `cutmix` and `feature_noise` are drawn afresh for every batch of a Keras optimizer.
    They act at the cut, which is below the first trained layer: on pixels where all layers are
    trained, on the activations there where some are frozen, and on features where only a head is
    trained. Where images are varied afresh (see `views`), pixels are mixed.

    Parameters
    ----------
    rotation : float, default=0.0
        Largest angle either way in degrees, at most 180.
    shift : float, default=0.0
        Largest shift either way, as a share of the height and of the width, below 1.
    zoom : float, default=0.0
        The factor for both axes is from 1 - zoom (at least 0.01) to 1 + zoom; below 1.
    shear : float, default=0.0
        Largest angle either way in degrees, at most 60.
    horizontal_flip, vertical_flip : bool, default=False
        Whether images are mirrored left and right, or top and bottom, with probability one half.
    brightness, contrast, saturation : float, default=0.0
        Each is a factor from 1 - value to 1 + value; at most 1. Brightness multiplies all pixels,
        contrast their differences from the mean of the image, and saturation their differences from
        the gray of the pixel. Stains and lamps differ in saturation.
    hue : float, default=0.0
        Largest turn of colours about gray either way in degrees, at most 180. A turn of 120 takes
        red towards green or blue. Lightness stays.
    noise : float, default=0.0
        Standard deviation of Gaussian noise, in levels of 0 to 255.
    mixup : float, default=0.0
        Parameter of the Beta distribution by which images and labels are blended [1]_; 0 is off.
        Activations of any kind may be blended [3]_.
    cutmix : float, default=0.0
        Parameter of the Beta distribution by which a part of another image is pasted [2]_; 0 is
        off. With both, each image is blended or pasted into with probability one half. Activations
        at the cut have to be one map (h, w, c).
    views : int, default=4
        Number of fixed variations of each image besides itself, where layers are frozen. A head is
        fitted to them. Layers above a cut are trained on them, unless the frozen ones do less than
        a tenth of the network's multiply-adds: then images are varied afresh for every batch.
    extreme_crops : bool, default=False
        Whether training sees the parts at both ends of the long side of each image instead of the
        centred part. Each of the two is varied as above. Needs ``resize="crop"``.
    own_steps : sequence of Step, default=()
        Steps of your own, see :class:`transferclf.augmentation.steps.Step`. They come last.
    feature_noise : float, default=0.0
        Standard deviation of Gaussian noise on the activations at the cut, or on features, as a
        share of the deviation of each channel over the training images; at most 10.

    References
    ----------
    .. [1] Zhang et al. (2018), mixup: Beyond Empirical Risk Minimization.
    .. [2] Yun et al. (2019), CutMix: Regularization Strategy to Train Strong Classifiers with
       Localizable Features.
    .. [3] Verma et al. (2019), Manifold Mixup: Better Representations by Interpolating Hidden
       States.

    Examples
    --------
    >>> augmentation = Augmentation(rotation=15, horizontal_flip=True)
    >>> augmentation.check()
    >>> augmentation.varies, augmentation.mixes
    (True, False)
    """

    rotation: float = 0.0
    shift: float = 0.0
    zoom: float = 0.0
    shear: float = 0.0
    horizontal_flip: bool = False
    vertical_flip: bool = False
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    noise: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    views: int = 4
    extreme_crops: bool = field(default=False, metadata=_LATER)
    own_steps: Sequence[Step] = field(default=(), metadata=_LATER)
    feature_noise: float = field(default=0.0, metadata=_LATER)

    @property
    def mixes(self) -> bool:
        """Whether images are mixed with each other."""
        return self.mixup > 0 or self.cutmix > 0

    @property
    def varies(self) -> bool:
        """Whether an image is varied by itself."""
        return bool(self.steps)

    @property
    def of_activations(self) -> Augmentation | None:
        """The part of the recipe that varies activations, or None: mixing and feature noise."""
        if not self.mixes and not self.feature_noise:
            return None
        return Augmentation(mixup=self.mixup, cutmix=self.cutmix, feature_noise=self.feature_noise)

    @property
    def of_views(self) -> Augmentation | None:
        """The part of the recipe that varies single images, or None."""
        if not (self.varies or self.extreme_crops):
            return None
        return dataclasses.replace(self, mixup=0, cutmix=0, feature_noise=0)

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps that vary anything, in the order in which they are applied."""
        return tuple(step for step in self._all_steps() if step.is_on)

    def _all_steps(self) -> list[Step]:
        return [*(kind.of(self) for kind in BUILT_IN), *self.own_steps]

    def n_amounts(self) -> int:
        """Return the number of amounts that `draw` takes from its source."""
        return sum(len(step.amplitudes()) for step in self._all_steps())

    def draw(self, source: Source) -> list[Tensor]:
        """Return the draws for each of `steps`."""
        # Steps that are off draw too, so that the draws of a step do not depend on other steps.
        steps = {kind: kind.of(self) for kind in BUILT_IN}
        amounts = {kind: steps[kind].draw(source) for kind in DRAWN}
        if self.noise:
            amounts[Noise] = steps[Noise].draw(source)
        drawn = [amounts[kind] for kind in BUILT_IN if steps[kind].is_on]
        own = [(step, step.draw(source)) for step in self.own_steps]
        return drawn + [values for step, values in own if step.is_on]

    def check(self) -> None:
        """Raise InvalidParameterError unless all fields have allowed values."""
        is_sequence = isinstance(self.own_steps, tuple | list)
        if not is_sequence or not all(isinstance(step, Step) for step in self.own_steps):
            self._refuse("own_steps", "a sequence of Step objects")
        for step in self._all_steps():
            step.check()
        self._check_number("mixup", 0, 100)
        self._check_number("cutmix", 0, 100)
        self._check_number("feature_noise", 0, 10)
        self._check_number("views", 1, whole=True)
        self._check_flag("extreme_crops")
        if not (self.varies or self.of_activations or self.extreme_crops):
            raise InvalidParameterError(
                "An Augmentation must have something to vary, such as rotation=15, shift=0.1 or "
                "horizontal_flip=True. Got none instead; augmentation=None is no augmentation."
            )


PRESETS = {
    "light": Augmentation(rotation=5, shift=0.05, horizontal_flip=True, brightness=0.1),
    "medium": Augmentation(
        rotation=15, shift=0.1, zoom=0.1, horizontal_flip=True, brightness=0.2, contrast=0.2
    ),
    "strong": Augmentation(
        rotation=30, shift=0.15, zoom=0.25, shear=10, horizontal_flip=True, brightness=0.3,
        contrast=0.3, noise=5,
    ),
}  # fmt: skip


def augmentation_from(value: object) -> Augmentation | None:
    """Return the recipe for the parameter of an estimator: a copied preset, or a checked object."""
    if isinstance(value, str) and value in PRESETS:
        return dataclasses.replace(PRESETS[value])
    if value is None:
        return None
    if isinstance(value, Augmentation):
        value.check()
        return value
    near = difflib.get_close_matches(value, PRESETS, n=1) if isinstance(value, str) else []
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise InvalidParameterError(
        f"augmentation must be None, {', '.join(map(repr, PRESETS))} or an Augmentation. "
        f"Got {value!r} instead.{hint}"
    )
