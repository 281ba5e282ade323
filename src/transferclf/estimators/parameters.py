"""The parameters of an estimator as one frozen record, checked when it is made."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar, Literal, Self, TypeAlias

import numpy as np

from transferclf._checks import (
    OPTIMIZERS,
    check_choice,
    check_flag,
    check_head,
    check_n_jobs,
    check_number,
    check_random_state,
    check_trainable_layers,
    check_verbose,
    is_number,
    refuse,
)
from transferclf.augmentation.recipe import Augmentation, augmentation_from
from transferclf.backbones.convnet import ConvNet
from transferclf.backbones.preprocessing import PREPROCESSINGS, Preprocessing
from transferclf.backbones.record import POOLINGS
from transferclf.backbones.registry import kind_of
from transferclf.engines.registry import check_engine
from transferclf.estimators.keras_objects import check_callbacks, check_own_head, schedule_of
from transferclf.estimators.skipping import ON_ERROR, OnError
from transferclf.exceptions import InvalidParameterError
from transferclf.features import store_for
from transferclf.heads.registry import LBFGS, RIDGE, fit_names
from transferclf.heads.suffix import PIXEL_SCALINGS
from transferclf.images.checking import check_image_shape
from transferclf.images.geometry import RESIZE_MODES
from transferclf.objectives.numbers import LOSSES
from transferclf.training.memory import bytes_of
from transferclf.training.recipe import BATCH_SIZE, TUNING_BATCH_SIZE
from transferclf.training.schedules import check_schedule

if TYPE_CHECKING:
    from pathlib import Path

    import keras

    from transferclf.backbones.onnx import OnnxBackbone
    from transferclf.engines.engine import Precision
    from transferclf.features.store import FeatureStore
    from transferclf.graphs.pooling import Pooling
    from transferclf.images.checking import ImageShape
    from transferclf.images.geometry import ResizeMode
    from transferclf.images.pixels import PixelRange

    Optimizer: TypeAlias = str | keras.optimizers.Optimizer
    Schedule: TypeAlias = str | keras.optimizers.schedules.LearningRateSchedule | None
    OwnHead: TypeAlias = Callable[[keras.KerasTensor], keras.KerasTensor] | None

TEST_TIME_AUGMENTATIONS = (None, "views", "crops", "both")

_NUMBERS_ABOVE_ZERO = ("fine_tune_learning_rate", "zca_epsilon")
_WHOLE_NUMBERS = ("epochs", "max_iter", "patience")
_FLAGS = ("early_stopping", "warm_start")


@dataclass(frozen=True, kw_only=True)
class BackboneParameters:
    """The parameters that all estimators on a frozen backbone have; see CNNFeatureExtractor."""

    preprocessings: ClassVar[tuple[str, ...]] = ("auto", *PREPROCESSINGS)

    backbone: str | Path | ConvNet | OnnxBackbone | keras.Model
    weights: str | Path | None
    image_size: int | tuple[int, int] | None
    resize: ResizeMode | Literal["auto"]
    pooling: Pooling | Literal["auto"]
    preprocessing: str | Preprocessing
    image_shape: ImageShape
    pixel_range: PixelRange
    cache: str | Path | FeatureStore | None
    engine: str
    precision: Precision
    on_error: OnError
    n_jobs: int | None
    random_state: int | np.random.RandomState | None
    verbose: int

    @classmethod
    def of(cls, estimator: object) -> Self:
        """Return the parameters of an estimator, checked singly and in combination."""
        return cls(**{field.name: getattr(estimator, field.name) for field in fields(cls)})

    def __post_init__(self) -> None:
        check_choice("resize", self.resize, ("auto", *RESIZE_MODES))
        check_choice("pooling", self.pooling, ("auto", *POOLINGS))
        store_for(self.cache)
        check_engine(self.engine, self.precision, kind_of(self.backbone))
        check_image_shape(self.image_shape)
        check_choice("on_error", self.on_error, ON_ERROR)
        if not isinstance(self.preprocessing, Preprocessing):
            check_choice("preprocessing", self.preprocessing, self.preprocessings)
        check_n_jobs(self.n_jobs)
        check_verbose(self.verbose)
        check_random_state(self.random_state)


@dataclass(frozen=True, kw_only=True)
class Parameters(BackboneParameters):
    """The parameters of all estimators that train a head; properties interpret them."""

    preprocessings = (*BackboneParameters.preprocessings, *PIXEL_SCALINGS)

    # The name of the linear head in messages, and fits that are not for these targets.
    linear_name: ClassVar[str] = "a linear head"
    other_fits: ClassVar[tuple[str, ...]] = ()

    # The variation of images while layers of a pretrained backbone are trained.
    varied_by_default: ClassVar[str | None] = None

    zca_epsilon: float
    hidden_units: int | Sequence[int]
    activation: str
    batch_norm: str | None
    dropout: float | Sequence[float]
    head: OwnHead
    l1: float
    l2: float | str
    optimizer: Optimizer
    learning_rate: float | None
    lr_schedule: Schedule
    epochs: int
    batch_size: int | str
    max_iter: int
    early_stopping: bool
    validation_fraction: float
    patience: int
    callbacks: Sequence[keras.callbacks.Callback] | None
    warm_start: bool
    trainable_layers: int | str
    fine_tune_epochs: int | str
    fine_tune_learning_rate: float
    warmup_fraction: float
    layer_decay: float | None
    weight_decay: float
    global_clipnorm: float | None
    soup: float | str
    augmentation: str | Augmentation | None
    test_time_augmentation: str | None
    max_memory: int | float | str

    def __post_init__(self) -> None:
        super().__post_init__()
        check_head(self.hidden_units, self.activation, self.dropout)
        check_choice("batch_norm", self.batch_norm, (None, "before", "after"))
        check_number("l1", self.l1, 0)
        if not isinstance(self.l2, str) or self.l2 != "auto":
            check_number("l2", self.l2, 0, or_else="'auto' or ")
        if self.learning_rate is not None:
            check_number("learning_rate", self.learning_rate, 0, above=True)
        for name in _NUMBERS_ABOVE_ZERO:
            check_number(name, getattr(self, name), 0, above=True)
        for name in _WHOLE_NUMBERS:
            check_number(name, getattr(self, name), 1, whole=True)
        for name in _FLAGS:
            check_flag(name, getattr(self, name))
        if not _is_text(self.batch_size, ("auto",)):
            check_number("batch_size", self.batch_size, 1, whole=True, or_else="'auto' or ")
        fraction = self.validation_fraction
        check_number("validation_fraction", fraction, 0, 1, above=True, below=True)
        check_trainable_layers(self.trainable_layers)
        check_schedule(self.lr_schedule)
        check_test_time(self.test_time_augmentation, self.recipe_of_views)
        bytes_of(self.max_memory)
        _check_fine_tuning(self)
        check_callbacks(self.callbacks)
        check_own_head(self)
        _check_optimizer(self)

    @property
    def recipe_of_views(self) -> Augmentation | None:
        """The augmentation as a recipe."""
        if not _is_text(self.augmentation, ("auto",)):
            return augmentation_from(self.augmentation)
        return augmentation_from(self.varied_by_default if self.is_tuned else None)

    @property
    def is_tuned(self) -> bool:
        """Whether layers of a pretrained backbone are trained."""
        is_cut = not (is_number(self.trainable_layers) and self.trainable_layers == 0)
        is_scratch = isinstance(self.backbone, ConvNet)
        is_scratch |= isinstance(self.backbone, str) and self.weights is None
        return is_cut and not is_scratch

    @property
    def least_epochs(self) -> int | None:
        """`fine_tune_epochs` as a number; None is "auto"."""
        return None if isinstance(self.fine_tune_epochs, str) else int(self.fine_tune_epochs)

    @property
    def batch_sizes(self) -> tuple[int, int]:
        """The batch size of the head, or a whole network, and that of fine-tuning."""
        if isinstance(self.batch_size, str):
            return BATCH_SIZE, TUNING_BATCH_SIZE
        return int(self.batch_size), int(self.batch_size)

    @property
    def schedules(self) -> tuple[Schedule, Schedule]:
        """The learning rate schedules of the head, or a whole network, and of fine-tuning."""
        is_auto = _is_text(self.lr_schedule, ("auto",))
        return (None, "cosine") if is_auto else (self.lr_schedule, self.lr_schedule)

    @property
    def units(self) -> tuple[int, ...]:
        """Widths of the hidden layers."""
        units = np.atleast_1d(np.asarray(self.hidden_units, dtype=int))
        return tuple(units.tolist())

    @property
    def dropout_rates(self) -> tuple[float, ...]:
        """A rate for each hidden layer, or one for the features where there is none."""
        rates = np.broadcast_to(self.dropout, max(len(self.units), 1))
        return tuple(rates.astype(float).tolist())

    @property
    def penalty(self) -> float | None:
        """`l2` as a number; None is "auto"."""
        return None if isinstance(self.l2, str) else float(self.l2)

    @property
    def rate(self) -> float | None:
        """`learning_rate` as a float."""
        return None if self.learning_rate is None else float(self.learning_rate)

    @property
    def fitted_scaling(self) -> str | None:
        """The scaling of pixels that is fitted to the training images, if there is one."""
        is_fitted = _is_text(self.preprocessing, PIXEL_SCALINGS)
        return str(self.preprocessing) if is_fitted else None

    @property
    def fit_without_keras(self) -> str | None:
        """Name of the fit of a head on frozen features; None is a Keras optimizer."""
        if not self.is_linear or not _is_text(self.optimizer, ("auto", *fit_names())):
            return None
        return self.best_linear_fit if self.optimizer == "auto" else str(self.optimizer)

    @property
    def best_linear_fit(self) -> str:
        """Name of the fit of a linear head where `optimizer` is "auto"."""
        return LBFGS

    @property
    def is_linear(self) -> bool:
        """Whether the head is one dense layer, which L-BFGS can fit."""
        has_layers = self.units or self.head is not None
        return not has_layers and self.l1 == 0 and not np.any(self.dropout)


@dataclass(frozen=True, kw_only=True)
class ClassifierParameters(Parameters):
    """The parameters of TransferClassifier as passed by the user."""

    linear_name = "softmax regression"
    other_fits = (RIDGE,)
    varied_by_default = "light"

    oversample: bool
    class_weight: str | Mapping | None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_flag("oversample", self.oversample)


@dataclass(frozen=True, kw_only=True)
class RegressorParameters(Parameters):
    """The parameters of TransferRegressor as passed by the user."""

    loss: str

    def __post_init__(self) -> None:
        check_choice("loss", self.loss, LOSSES)
        super().__post_init__()
        if _is_text(self.optimizer, (RIDGE,)) and self.best_linear_fit != RIDGE:
            raise InvalidParameterError(
                "optimizer='ridge' minimises the squared error: set loss='squared_error'. "
                f"Got loss={self.loss!r} instead; 'auto' takes L-BFGS."
            )

    @property
    def best_linear_fit(self) -> str:
        """Name of the fit of a linear head where `optimizer` is "auto"."""
        return RIDGE if self.loss == "squared_error" else LBFGS


def check_test_time(test_time_augmentation: object, augmentation: Augmentation | None) -> None:
    """Raise InvalidParameterError unless predictions can be averaged so."""
    check_choice("test_time_augmentation", test_time_augmentation, TEST_TIME_AUGMENTATIONS)
    if test_time_augmentation in ("views", "both") and augmentation is None:
        raise InvalidParameterError(
            f"test_time_augmentation={test_time_augmentation!r} averages the views of an "
            "augmentation: set augmentation and fit, or take 'crops' or None."
        )


def _check_fine_tuning(parameters: Parameters) -> None:
    if not _is_text(parameters.fine_tune_epochs, ("auto",)):
        check_number(
            "fine_tune_epochs", parameters.fine_tune_epochs, 1, whole=True, or_else="'auto' or "
        )
    if not _is_text(parameters.soup, ("auto",)):
        check_number("soup", parameters.soup, 0, 1, or_else="'auto' or ")
    check_number("warmup_fraction", parameters.warmup_fraction, 0, 1, below=True)
    check_number("weight_decay", parameters.weight_decay, 0)
    if parameters.global_clipnorm is not None:
        check_number("global_clipnorm", parameters.global_clipnorm, 0, above=True)
    if parameters.layer_decay is not None:
        check_number("layer_decay", parameters.layer_decay, 0, above=True)
        if parameters.layer_decay > 1:
            refuse("layer_decay", "at most 1", parameters.layer_decay)


def _check_optimizer(parameters: Parameters) -> None:
    optimizer = parameters.optimizer
    # Keras is imported already wherever there is an optimizer.
    keras = sys.modules.get("keras")
    if keras is not None and isinstance(optimizer, keras.optimizers.Optimizer):
        is_given = parameters.schedules[0] is not None
        if is_given and schedule_of(optimizer) is not None:
            raise InvalidParameterError(
                "the optimizer has a schedule of learning rates already: leave "
                "lr_schedule='auto', or give the optimizer a number."
            )
        return
    if not isinstance(optimizer, str):
        raise InvalidParameterError(
            f"optimizer must be one of {', '.join(map(repr, OPTIMIZERS))} or a Keras optimizer. "
            f"Got {optimizer!r} instead."
        )
    fits = [name for name in fit_names()[1:] if name not in parameters.other_fits]
    check_choice("optimizer", optimizer, (*OPTIMIZERS, *fits))
    if optimizer in fit_names() and not parameters.is_linear:
        raise InvalidParameterError(
            f"optimizer={optimizer!r} fits {parameters.linear_name} only: expected "
            f"hidden_units=(), head=None, l1=0 and dropout=0. "
            f"Got hidden_units={parameters.hidden_units!r}, head={parameters.head!r}, "
            f"l1={parameters.l1!r} and dropout={parameters.dropout!r}; use 'auto' or one of Keras' "
            "optimizers."
        )


def _is_text(value: object, texts: tuple[str, ...]) -> bool:
    return isinstance(value, str) and value in texts
