"""Checks of parameters against the network that they are for, before any image is read."""

from __future__ import annotations

from transferclf.augmentation.recipe import Augmentation
from transferclf.estimators.parameters import Parameters
from transferclf.exceptions import InvalidParameterError
from transferclf.features.frozen import Prefix
from transferclf.heads.registry import fit_names
from transferclf.training.plan import runs_prefix


def check_with_prefix(
    parameters: Parameters, prefix: Prefix, resize: str, *, is_partial: bool = False
) -> None:
    """Raise InvalidParameterError unless the parameters of learning suit the network.

    `resize` is the mode in use, which strips change. `is_partial` says that `partial_fit` learns,
    by a Keras optimizer in any case.
    """
    augmentation, optimizer = parameters.recipe_of_views, parameters.optimizer
    if augmentation is not None:
        _check_crops(augmentation, resize)
        if parameters.trainable_layers != "auto":  # else each cut is checked with its parameters
            _check_afresh(augmentation, parameters, prefix, is_partial)
    if parameters.fitted_scaling and not prefix.is_scratch:
        raise InvalidParameterError(
            f"preprocessing={parameters.preprocessing!r} is fitted to the training images, for "
            "networks that start from nothing, such as a ConvNet. A pretrained network needs "
            "the scaling that it was trained with: 'auto'."
        )
    if prefix.is_scratch and isinstance(optimizer, str) and optimizer in fit_names():
        raise InvalidParameterError(
            f"optimizer={optimizer!r} fits {parameters.linear_name} on a frozen network "
            "only; take 'auto' or one of Keras' optimizers."
        )


def _check_crops(augmentation: Augmentation, resize: str) -> None:
    if augmentation.extreme_crops and resize != "crop":
        raise InvalidParameterError(
            "extreme_crops=True trains on what is cut from both ends of an image, and "
            f"resize={resize!r} cuts nothing: set resize='crop', or extreme_crops=False. Strips of "
            "one row of pixels are always stretched."
        )


def _check_afresh(
    augmentation: Augmentation, parameters: Parameters, prefix: Prefix, is_partial: bool
) -> None:
    """Check that what is drawn for every batch has an effect, and suits the rows."""
    afresh = augmentation.of_activations
    if afresh is None:
        return
    if prefix.is_empty:
        if afresh.feature_noise:
            raise InvalidParameterError(
                "feature_noise of Augmentation is noise on the activations of frozen layers, and "
                "here all layers are trained: set noise, which is noise on pixels, and "
                f"feature_noise=0. Got feature_noise={afresh.feature_noise!r}."
            )
        return
    if not (prefix.is_cut or is_partial) and parameters.fit_without_keras is not None:
        names = [name for name in ("mixup", "cutmix", "feature_noise") if getattr(afresh, name)]
        raise InvalidParameterError(
            f"{', '.join(names)} of Augmentation vary each batch of a Keras optimizer, and "
            f"optimizer={parameters.optimizer!r} fits {parameters.linear_name} to all features at "
            "once: set optimizer='adam', hidden_units or trainable_layers, or leave them 0."
        )
    if afresh.cutmix and not runs_prefix(augmentation, prefix):  # which pastes pixels
        _check_is_map(parameters, prefix)


def _check_is_map(parameters: Parameters, prefix: Prefix) -> None:
    """Raise InvalidParameterError unless a part of one row can be pasted into another."""
    where, remedy = "features of the whole backbone", ""
    shapes: tuple[tuple[int, ...], ...] = ()
    if prefix.is_cut:
        shapes, where = prefix.at_cut().shapes, f"trainable_layers={prefix.trainable_layers!r}"
        remedy = ", or set trainable_layers='all', which pastes pixels"
    elif parameters.head is not None:
        shapes = (prefix.map_shape(),)
    kinds = [len(shape) for shape in shapes]
    if kinds == [3]:
        return
    what = "numbers without places"
    if len(kinds) > 1:
        what = f"{len(kinds)} tensors of shapes {', '.join(map(str, shapes))}"
    elif kinds == [2]:
        what = f"tokens of shape {shapes[0]}"
    raise InvalidParameterError(
        "cutmix of Augmentation pastes a part of a map (height, width, channels) into another map, "
        f"and the activations for {where} are {what}. Set cutmix=0 and mixup, which blends "
        f"activations of any kind{remedy}."
    )
