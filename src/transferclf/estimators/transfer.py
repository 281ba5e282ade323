"""The base of the estimators that learn: their parameters, steps of fit, and scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from sklearn.utils.validation import check_is_fitted

from transferclf._checks import seed_from
from transferclf.augmentation.recipe import Augmentation
from transferclf.augmentation.views import EXTREME_CROPS, View
from transferclf.estimators.base import BackboneEstimator
from transferclf.estimators.effects import warn_without_effect
from transferclf.estimators.network_checks import check_with_prefix
from transferclf.estimators.parameters import Parameters, check_test_time
from transferclf.estimators.planning import check_memory, plans_for
from transferclf.estimators.skipping import Sound
from transferclf.estimators.tuning import Chosen, Tuning, choose, options_for
from transferclf.exceptions import DivergenceError, InvalidParameterError, warn
from transferclf.features.frozen import Prefix
from transferclf.heads.fitted import FittedHead
from transferclf.images import ImageSource
from transferclf.objectives import Objective
from transferclf.objectives.weights import check_sample_weight
from transferclf.training.learning import Learner
from transferclf.training.memory import bytes_of
from transferclf.training.plan import Images, split, views_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import keras

    from transferclf.estimators.parameters import OwnHead, Schedule
    from transferclf.graphs.pooling import Pooling
    from transferclf.images.geometry import ResizeMode


@dataclass(eq=False, repr=False, kw_only=True)
class TransferEstimator(BackboneEstimator):
    """Base of the estimators that train a head; TransferClassifier documents the parameters."""

    _record: ClassVar[type[Parameters]] = Parameters

    zca_epsilon: float = 0.01
    hidden_units: int | Sequence[int] = ()
    activation: str = "relu"
    batch_norm: str | None = None
    dropout: float | Sequence[float] = 0.0
    head: OwnHead = None
    l1: float = 0.0
    l2: float | str = "auto"
    optimizer: str | keras.optimizers.Optimizer = "auto"
    learning_rate: float | None = None
    lr_schedule: Schedule = "auto"
    epochs: int = 20
    batch_size: int | str = "auto"
    max_iter: int = 1000
    early_stopping: bool = False
    validation_fraction: float = 0.1
    patience: int = 5
    callbacks: Sequence[keras.callbacks.Callback] | None = None
    warm_start: bool = False
    trainable_layers: int | str = 0
    fine_tune_epochs: int | str = "auto"
    fine_tune_learning_rate: float = 4e-4
    warmup_fraction: float = 0.1
    layer_decay: float | None = None
    weight_decay: float = 0.01
    global_clipnorm: float | None = 1.0
    soup: float | str = "auto"
    augmentation: str | Augmentation | None = "auto"
    test_time_augmentation: str | None = None
    max_memory: int | float | str = "auto"

    head_: FittedHead = field(init=False)
    tuning_: Tuning | None = field(init=False)
    augmentation_: Augmentation | None = field(init=False)
    _model: keras.Model | None = field(init=False)
    _seed: int = field(init=False)
    _is_partial = False

    # --- steps of fit

    @contextmanager
    def _as_before_if_it_fails(self) -> Iterator[None]:
        """Restore all attributes if a fit fails, unless training had some result by then.

        The result of an earlier fit is restored, too, if training diverges.
        """
        before = dict(self.__dict__)
        try:
            yield
        except BaseException as error:
            has_reached = getattr(self, "head_", None) is not before.get("head_")
            if not has_reached or (isinstance(error, DivergenceError) and "head_" in before):
                self.__dict__ = before
            raise

    def _weighted(
        self,
        source: ImageSource,
        targets: np.ndarray,
        objective: Objective,
        weights: np.ndarray,
        class_weight: str | Mapping | None = None,
    ) -> tuple[Objective, Images]:
        """Return the objective and the images with the weights of samples and classes in them."""
        objective = objective.with_class_weight(class_weight, targets)
        weights = check_sample_weight(weights, len(source))
        factors = objective.class_factors(class_weight, targets)
        if factors is not None:
            weights = weights * factors
            if not weights.any():
                raise ValueError(
                    "class_weight and sample_weight leave no image with a weight above zero: "
                    "there is nothing to learn from."
                )
        return objective, Images(source, targets, weights)

    def _validation_source(self, validation_data: object) -> tuple[ImageSource | None, object]:
        """Return the checked images for validation and their y; None and None if there are none."""
        if validation_data is None:
            return None, None
        if not isinstance(validation_data, tuple | list) or len(validation_data) != 2:
            raise InvalidParameterError(
                f"validation_data must be a pair (X, y). Got {type(validation_data).__name__}."
            )
        X, y = validation_data
        return self._checked(X, self.on_error), y

    def _validation_images(
        self, sound: Sound | None, y: object, objective: Objective
    ) -> Images | None:
        if sound is None:
            return None
        targets = objective.encode_known(y, len(sound.given))[sound.positions]
        return Images(sound.source, targets, np.ones(len(targets)))

    def _previous(self, objective: Objective) -> FittedHead | None:
        """Return the head of the last fit if this fit is to go on from it."""
        if not self.warm_start or not hasattr(self, "head_"):
            return None
        known = self.head_.suffix.objective
        if not objective.is_same(known):
            raise ValueError(
                f"warm_start=True goes on with the {known.outputs} of the last fit, "
                f"{known.description()}. Got {objective.description()} instead."
            )
        # The checkpoint of partial_fit is not one of an interrupted fit.
        return self.head_.without_checkpoint() if self._is_partial else self.head_

    def _if_same_network(
        self, previous: FittedHead | None, network: Prefix | None
    ) -> FittedHead | None:
        """Return the previous head; None, with a warning, if it is of another network."""
        if previous is not None and not self._is_same_network(network):
            warn("what was learned before is of another network, and training starts anew")
            return None
        return previous

    def _fit_network(
        self,
        parameters: Parameters,
        seed: int,
        trainable_layers: int | str = 0,
        is_partial: bool = False,
    ) -> None:
        """Choose the network and its cut, and check the parameters that depend on it.

        It is not cut yet if the layers to train are "auto".
        """
        trainable_layers = 0 if trainable_layers == "auto" else trainable_layers
        pooling: Pooling | None = None if parameters.head is None else "flatten"
        self._fit_prefix(parameters, seed, trainable_layers=trainable_layers, pooling=pooling)
        check_with_prefix(parameters, self.prefix_, self.resize_, is_partial=is_partial)
        self.augmentation_ = parameters.recipe_of_views
        self._seed = seed

    def _plan(
        self,
        parameters: Parameters,
        objective: Objective,
        images: Images,
        validation: Images | None,
        previous: FittedHead | None,
    ) -> Chosen:
        """Return the plan of a fit, and warn of parameters that it does not need.

        If the layers to train are "auto", trials on the images choose them.
        """
        former = None if previous is None else getattr(self, "tuning_", None)
        options, tuning = options_for(parameters, self.prefix_, former)
        for option in options:
            check_with_prefix(option.parameters, option.prefix, self.resize_)
        plans, used = plans_for(options, objective, self._seed, validation is not None)
        used |= self._used_of_backbone()
        used |= {"class_weight", "loss", "oversample", "trainable_layers", "warm_start"}
        if len(self._looks()) > 1:
            used.add("test_time_augmentation")
        warn_without_effect(self, used)
        check_memory(parameters, self.prefix_, objective.n_outputs)
        chosen = Chosen(plans[0], tuning)
        if len(plans) > 1:
            data = (images, validation, previous)
            chosen = choose(options, plans, *data, self._extractor(), self._seed)
        self.prefix_, self.augmentation_ = chosen.plan.prefix, chosen.plan.augmentation
        return chosen

    def _learn(
        self,
        parameters: Parameters,
        objective: Objective,
        images: Images,
        validation: Images | None,
        previous: FittedHead | None,
        sound: Sound,
    ) -> None:
        """Train as the parameters say, and keep the result; `images` are those of `sound`."""
        chosen = self._plan(parameters, objective, images, validation, previous)
        oversample = getattr(parameters, "oversample", False)
        train, held_out, indices = split(images, chosen.plan, self._seed, oversample)
        keep = partial(
            self._keep,
            sample_indices_=sound.positions[indices],
            skipped_indices_=sound.skipped,
            tuning_=chosen.tuning,
        )
        learner = Learner(
            chosen.plan,
            train,
            self._extractor(),
            validation=validation or held_out,
            holds_out=held_out is not None,
            previous=previous,
            keep=keep,
            verbose=int(parameters.verbose),
        )
        keep(chosen.head or learner.learn(), is_finished=True)

    def _next_seed(self) -> int:
        is_known = self.warm_start and hasattr(self, "_seed")
        return self._seed if is_known else seed_from(self.random_state)

    def _keep(
        self,
        head: FittedHead,
        *,
        is_finished: bool = False,
        is_partial: bool = False,
        tuning_: Tuning | None = None,
        **others: object,
    ) -> None:
        """Set the head and all attributes that follow from it, in a step that nothing interrupts.

        A finished fit drops the checkpoint. `is_partial` says that the head is of `partial_fit`,
        whose checkpoint only its next call goes on from. `others` are further attributes.
        """
        head = head.without_checkpoint() if is_finished else head
        self.__dict__.update(
            head_=head,
            l2_=head.l2,
            soup_=head.soup,
            tuning_=tuning_,
            history_=head.history,
            phases_=[asdict(phase) for phase in head.phases],
            n_iter_=head.n_iter,
            n_head_iter_=head.n_iter_of_head,
            _model=None,
            _is_partial=is_partial,
            **others,
        )

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "head_")

    def __getstate__(self) -> dict[str, object]:
        state = super().__getstate__()
        # The Keras model is rebuilt from the rest when it is asked for again.
        return state | {"_model": None} if "_model" in state else state

    @property
    def model_(self) -> keras.Model:
        """The whole estimator as one flat Keras model, from pixels (0 to 255) to results."""
        check_is_fitted(self)
        if self._model is None:
            network = self.prefix_.whole().build()
            from transferclf.heads.flat import with_head

            self._model = with_head(network, self.head_)
        return self._model

    # --- scores

    def _scores(self, source: ImageSource) -> np.ndarray:
        """Return scores, shape (n, n_outputs).

        With test-time augmentation: scores whose link is the mean of the links of all looks.
        """
        check_test_time(self.test_time_augmentation, self.augmentation_)
        looks = [self._applied(self.head_.scores, source, *look) for look in self._looks()]
        return looks[0] if len(looks) == 1 else self.head_.suffix.objective.mean_scores(looks)

    def _linked(self, source: ImageSource) -> np.ndarray:
        """Return probabilities or numbers, shape (n, n_outputs)."""
        return self.head_.suffix.objective.link(self._scores(source))

    def _looks(self) -> list[tuple[ResizeMode, View | None]]:
        """Return the resizing and the view of each look at an image."""
        wanted = self.test_time_augmentation
        looks: list[tuple[ResizeMode, View | None]] = []
        if wanted != "crops":
            looks.append((self.resize_, None))
        if wanted in ("views", "both") and self.augmentation_ is not None:
            looks += [(self.resize_, view) for view in views_of(self.augmentation_)]
        if wanted in ("crops", "both"):
            looks += [(crop, None) for crop in EXTREME_CROPS]
        return looks

    def _head_features(self, source: ImageSource) -> np.ndarray:
        """Return the features that the head standardises, shape (n, d)."""
        return self._applied(self.head_.features, source, self.resize_)

    def _scores_and_features(self, source: ImageSource) -> tuple[np.ndarray, np.ndarray]:
        """Return the scores, and the features that the head standardises, in one pass.

        Test-time augmentation looks several times; the store spares one of these passes.
        """
        head = self.head_
        check_test_time(self.test_time_augmentation, self.augmentation_)
        if len(self._looks()) > 1:
            return self._scores(source), self._head_features(source)
        # Doubles hold both exactly.
        both = self._applied(
            lambda rows: np.hstack([head.scores(rows), head.features(rows)], dtype=float),
            source,
            self.resize_,
        )
        n_outputs = head.suffix.n_outputs
        return both[:, :n_outputs], both[:, n_outputs:]

    def _applied(
        self,
        function: Callable[[np.ndarray], np.ndarray],
        source: ImageSource,
        resize: ResizeMode,
        view: View | None = None,
    ) -> np.ndarray:
        """Apply a function to the rows below the head; to pixels in batches."""
        read, prefix = self._extractor(resize), self._below_head()
        if not prefix.is_empty:
            return read.applied(function, source, prefix, view, bytes_of(self.max_memory))
        batches = read.batches(source, prefix.size, view, prefix.sampling)
        return np.concatenate([function(pixels) for pixels in batches])

    def _below_head(self) -> Prefix:
        """Return the network of the rows: the prefix, or the whole network before fine-tuning.

        Training that was interrupted in its first phase has left a head on frozen features.
        """
        is_at_cut = self.head_.is_at_cut or not self.prefix_.is_cut
        return self.prefix_ if is_at_cut else self.prefix_.whole()
