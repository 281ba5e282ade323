"""Checks of a classifier's parameters, each and together, and what some of them mean."""

from __future__ import annotations

import sys
from numbers import Integral
from typing import Any

import numpy as np

from transferclf._checks import (
    OPTIMIZERS,
    check_choice,
    check_head,
    check_number,
    check_trainable_layers,
)
from transferclf.augmentation.recipe import Augmentation, augmentation_from
from transferclf.backbones.convnet import ConvNet
from transferclf.exceptions import InvalidParameterError, UnavailableMethodError
from transferclf.features.frozen import Prefix
from transferclf.training.schedules import check_schedule

# A TransferClassifier, which knows this module and is not known by it.
Classifier = Any

# Pixel scaling that is fitted to the training images, where a network starts from nothing.
FITTED_SCALINGS = ("standardize", "zca")

TEST_TIME_AUGMENTATIONS = (None, "views", "crops", "both")

_NUMBERS_ABOVE_ZERO = ("fine_tune_learning_rate", "zca_epsilon")
_WHOLE_NUMBERS = ("epochs", "batch_size", "max_iter", "fine_tune_epochs", "patience")
_SAVING = ("BackupAndRestore", "ModelCheckpoint", "OrbaxCheckpoint")
_FLAGS = ("early_stopping", "warm_start", "oversample")


def check_classifier(classifier: Classifier) -> None:
    """Raise InvalidParameterError unless the parameters of learning can be, each and together."""
    check_head(classifier.hidden_units, classifier.activation, classifier.dropout)
    check_choice("batch_norm", classifier.batch_norm, (None, "before", "after"))
    check_number("l1", classifier.l1, 0)
    if not is_auto(classifier.l2):
        check_number("l2", classifier.l2, 0, or_else="'auto' or ")
    if classifier.learning_rate is not None:
        check_number("learning_rate", classifier.learning_rate, 0, above=True)
    for name in _NUMBERS_ABOVE_ZERO:
        check_number(name, getattr(classifier, name), 0, above=True)
    for name in _WHOLE_NUMBERS:
        check_number(name, getattr(classifier, name), 1, whole=True)
    for name in _FLAGS:
        _check_flag(name, getattr(classifier, name))
    check_number("validation_fraction", classifier.validation_fraction, 0, above=True)
    if classifier.validation_fraction >= 1:
        raise InvalidParameterError(
            f"validation_fraction must be below 1. Got {classifier.validation_fraction!r}."
        )
    check_trainable_layers(classifier.trainable_layers)
    check_schedule(classifier.lr_schedule)
    augmentation = augmentation_from(classifier.augmentation)
    check_test_time(classifier.test_time_augmentation, augmentation)
    _check_layer_decay(classifier)
    _check_callbacks(classifier.callbacks)
    _check_own_head(classifier)
    _check_optimizer(classifier)


def check_test_time(test_time_augmentation: Any, augmentation: Augmentation | None) -> None:
    """Raise InvalidParameterError unless predictions can be averaged so."""
    check_choice("test_time_augmentation", test_time_augmentation, TEST_TIME_AUGMENTATIONS)
    if test_time_augmentation in ("views", "both") and augmentation is None:
        raise InvalidParameterError(
            f"test_time_augmentation={test_time_augmentation!r} averages the views of an "
            "augmentation: set augmentation and fit, or take 'crops' or None."
        )


def _check_flag(name: str, value: Any) -> None:
    if not isinstance(value, bool | np.bool_):
        raise InvalidParameterError(f"{name} must be True or False. Got {value!r} instead.")


def _check_layer_decay(classifier: Classifier) -> None:
    decay = classifier.layer_decay
    if decay is None:
        return
    check_number("layer_decay", decay, 0, above=True)
    if decay > 1:
        raise InvalidParameterError(f"layer_decay must be at most 1. Got {decay!r}.")


def _check_callbacks(callbacks: Any) -> None:
    if not callbacks and isinstance(callbacks, tuple | list | None):
        return
    # Whoever has a callback has imported Keras.
    import keras

    kind = keras.callbacks.Callback
    if not isinstance(callbacks, tuple | list) or not all(isinstance(c, kind) for c in callbacks):
        raise InvalidParameterError(
            "callbacks must be None or a sequence of keras.callbacks.Callback. "
            f"Got {callbacks!r} instead."
        )
    # They write what is trained above the cut, in layers that Keras cannot load.
    saving = tuple(filter(None, (getattr(keras.callbacks, name, None) for name in _SAVING)))
    for callback in callbacks:
        if isinstance(callback, saving):
            raise InvalidParameterError(
                f"callbacks must not have a {type(callback).__name__}: it would save only the part "
                "of the network that is trained, which cannot be loaded. early_stopping=True "
                "brings the best weights back, and transferclf.save_model(classifier, path) saves "
                "the fitted classifier."
            )


def _check_own_head(classifier: Classifier) -> None:
    head = classifier.head
    if head is None:
        return
    if not callable(head) or isinstance(head, type):
        raise InvalidParameterError(
            "head must be None, a function from a Keras tensor of activations to one of features, "
            f"or a Keras layer or model that is one. Got {head!r} instead."
        )
    if hidden_units(classifier) or np.any(classifier.dropout) or classifier.batch_norm:
        raise InvalidParameterError(
            "head is in the place of the hidden layers: leave hidden_units=(), dropout=0 and "
            "batch_norm=None, and put such layers into head."
        )


def _check_optimizer(classifier: Classifier) -> None:
    optimizer = classifier.optimizer
    if _is_keras_optimizer(optimizer):
        if classifier.lr_schedule is not None and own_schedule(optimizer) is not None:
            raise InvalidParameterError(
                "the optimizer has a schedule of learning rates already: leave lr_schedule=None, "
                "or give the optimizer a number."
            )
        return
    if not isinstance(optimizer, str):
        raise InvalidParameterError(
            f"optimizer must be one of {', '.join(map(repr, OPTIMIZERS))} or a Keras optimizer. "
            f"Got {optimizer!r} instead."
        )
    check_choice("optimizer", optimizer, OPTIMIZERS)
    if optimizer == "lbfgs" and not _is_softmax_regression(classifier):
        raise InvalidParameterError(
            "optimizer='lbfgs' fits softmax regression only: expected hidden_units=(), head=None, "
            f"l1=0 and dropout=0. Got hidden_units={classifier.hidden_units!r}, "
            f"head={classifier.head!r}, l1={classifier.l1!r} and dropout={classifier.dropout!r}; "
            "use 'auto' or one of Keras' optimizers."
        )


def check_with_prefix(classifier: Classifier, prefix: Prefix) -> None:
    """Raise InvalidParameterError unless the parameters of learning suit the network."""
    augmentation = augmentation_from(classifier.augmentation)
    if augmentation is not None and augmentation.mixes and not prefix.is_empty:
        raise InvalidParameterError(
            "mixup and cutmix mix pixels while they are trained on: set trainable_layers='all', "
            "or mixup=0 and cutmix=0."
        )
    if augmentation is not None and augmentation.extreme_crops and classifier.resize_ != "crop":
        raise InvalidParameterError(
            "extreme_crops=True trains on what is cut from both ends of an image, and "
            f"resize={classifier.resize_!r} cuts nothing: set resize='crop', or "
            "extreme_crops=False. Strips of one row of pixels are always stretched."
        )
    if classifier.preprocessing in FITTED_SCALINGS and not prefix.is_scratch:
        raise InvalidParameterError(
            f"preprocessing={classifier.preprocessing!r} is fitted to the training images, for "
            "networks that start from nothing, such as a ConvNet. A pretrained network needs "
            "that which it was trained with: 'auto'."
        )
    if prefix.is_scratch and classifier.optimizer == "lbfgs":
        raise InvalidParameterError(
            "optimizer='lbfgs' fits softmax regression on a frozen network only; take 'auto' or "
            "one of Keras' optimizers."
        )


def check_partial(classifier: Classifier) -> None:
    """Raise UnavailableMethodError unless the head can be trained batch by batch."""
    if isinstance(classifier.optimizer, str) and classifier.optimizer == "lbfgs":
        raise UnavailableMethodError(
            "partial_fit trains by a Keras optimizer, and optimizer='lbfgs' needs all images at "
            "once; take 'auto' or one of Keras' optimizers."
        )
    if isinstance(classifier.class_weight, str):
        raise UnavailableMethodError(
            "class_weight='balanced' needs all labels at once, and partial_fit sees some; pass a "
            "dict."
        )
    is_named = isinstance(classifier.trainable_layers, str)
    if is_named or classifier.trainable_layers != 0 or isinstance(classifier.backbone, ConvNet):
        raise UnavailableMethodError(
            "partial_fit trains the head on a frozen backbone: leave trainable_layers=0. "
            f"Got backbone={classifier.backbone!r}, "
            f"trainable_layers={classifier.trainable_layers!r}."
        )


def is_by_lbfgs(classifier: Classifier) -> bool:
    """Whether a head on frozen features is fitted by L-BFGS."""
    is_wanted = isinstance(classifier.optimizer, str) and classifier.optimizer in ("auto", "lbfgs")
    return is_wanted and _is_softmax_regression(classifier)


def hidden_units(classifier: Classifier) -> tuple[int, ...]:
    """Widths of the hidden layers."""
    units = classifier.hidden_units
    return (int(units),) if isinstance(units, Integral) else tuple(map(int, units))


def _is_softmax_regression(classifier: Classifier) -> bool:
    has_layers = hidden_units(classifier) or classifier.head is not None
    return not has_layers and classifier.l1 == 0 and not np.any(classifier.dropout)


def _is_keras_optimizer(optimizer: Any) -> bool:
    # Whoever has an optimizer has imported Keras.
    keras = sys.modules.get("keras")
    return keras is not None and isinstance(optimizer, keras.optimizers.Optimizer)


def own_schedule(optimizer: Any) -> Any:
    """Return the learning rate schedule that an optimizer was made with, or None."""
    import keras

    config = optimizer.get_config()["learning_rate"]
    return keras.optimizers.schedules.deserialize(config) if isinstance(config, dict) else None


def is_auto(value: Any) -> bool:
    """Return whether a parameter is the string "auto"."""
    return isinstance(value, str) and value == "auto"
