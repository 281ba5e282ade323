"""Choosing the layers to train by how well each choice does on images that are held out.

Each candidate is fine-tuned as a whole. Shorter trials would mislead: the first steps of a
fine-tuning make a fitted head worse, also where it ends far better, and they favour small steps.
The frozen network takes part with its head. Training more layers is mostly better, and few held-out
images often say otherwise by chance. So fewer layers need a clear difference.

Where training all layers gains little over the frozen network, training the last block is not far
behind, and a share of the mean of both weights is mostly as good as the better one: errors of the
one are not those of the other. Elsewhere the last block is behind, and so may be the mean.

Source: Wortsman et al., "Model soups: averaging weights of multiple fine-tuned models improves
accuracy without increasing inference time", ICML 2022.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from transferclf._printing import say
from transferclf.exceptions import DivergenceError, warn
from transferclf.heads.fitted import FittedHead
from transferclf.objectives import Objective
from transferclf.training.learning import Learner
from transferclf.training.phases import TrainedSuffix
from transferclf.training.recipe import Recipe
from transferclf.training.soup import LITTLE, SHARES, choose_soup, is_near, mean_of

# A smaller loss leaves nothing to gain: where almost all images are right, training makes scores
# larger and nothing better. Few images cannot tell: all of 20 may be right by chance.
NEGLIGIBLE = 0.01

# Fewer layers are chosen if their loss is lower by more than so many standard errors. With ten
# images, that needs half of them to be clearly better. `benchmarks/fine_tuning_rules.py` compares
# numbers of standard errors.
CLEAR = 3.0

# The mean of both trainings is given up if its loss is above the lowest by more standard errors.
CLEAR_OF_MEAN = 2.0

# The cost of a network's output, where that of a training step on the same images is 1.
FORWARD = 1 / 3

Layers = int | str

# Stands for the layers in the trial of the mean weights.
MEAN = "mean of both"


@dataclass(frozen=True)
class Candidate:
    """Layers that may be trained.

    `learner` trains them, and has validation images. `work` is the share of the network's work that
    is above the cut. `part` is the share of the steps of a fine-tuning that the learner takes.
    """

    learner: Learner
    work: float
    part: float = 1.0

    @property
    def layers(self) -> Layers:
        """The layers as a value of `trainable_layers`."""
        return self.learner.plan.prefix.trainable_layers

    @property
    def recipe(self) -> Recipe:
        """The recipe of their training."""
        recipe = self.learner.plan.fine_tuning
        assert recipe is not None
        return recipe

    @property
    def n_steps(self) -> int:
        """The number of steps of their training."""
        n_samples, batch = self.learner.images.n_samples, self.recipe.batch_size
        return self.recipe.epochs_for(n_samples) * -(-n_samples // batch)

    @property
    def cost(self) -> float:
        """About the cost of their training, where that of fine-tuning all layers is 1."""
        images, plan = self.learner.images, self.learner.plan
        n_trained = images.n_samples * self.recipe.epochs_for(images.n_samples)
        n_rows = len(images.targets) * len(plan.variants_at_cut)
        n_below = n_trained if plan.runs_prefix else n_rows
        return self.part * (self.work + (1 - self.work) * FORWARD * n_below / n_trained)


@dataclass(frozen=True)
class Trial:
    """A trained candidate, the mean of two, or the head on the frozen network, and its losses.

    `losses` are those of held-out images, whose `weights` sum to one, and `measure` is a mean. If
    training diverged, the losses are infinite, and there is no head. `guess` is the mean loss of
    their mean scores, where it is known.
    """

    layers: Layers
    rate: float | None
    steps: int
    cost: float
    losses: np.ndarray
    measure: float
    weights: np.ndarray
    head: FittedHead | None = None
    guess: float = 0.0

    @property
    def is_negligible(self) -> bool:
        """Whether the loss leaves nothing to gain, even if one more image of loss 1 is counted.

        Images with little weight count for less than one.
        """
        n = 1 / float(self.weights @ self.weights)
        return (n * self.loss + 1) / (n + 1) <= NEGLIGIBLE

    @property
    def soup(self) -> float:
        """The share of the trained weights."""
        return 0.0 if self.head is None or self.layers == 0 else float(self.head.soup)

    @property
    def loss(self) -> float:
        """The mean loss."""
        return mean_of(self.losses, self.weights)

    def gains_little(self, frozen: Trial) -> bool:
        """Return whether the loss is hardly below that of the frozen network."""
        return frozen.loss - self.loss < LITTLE * frozen.guess

    def is_near(self, other: Trial, errors: float = CLEAR) -> bool:
        """Return whether the loss is at most `errors` standard errors above that of the other."""
        is_finite = bool(np.isfinite(self.loss))
        return is_finite and is_near(self.losses, other.losses, self.weights, errors)

    def facts(self, measure: str) -> dict[str, object]:
        """Return an entry of the trials in `tuning_`; `measure` is the name of the measure."""
        return {
            "trainable_layers": self.layers,
            "fine_tune_learning_rate": self.rate,
            "steps": self.steps,
            "soup": self.soup,
            "val_loss": self.loss,
            f"val_{measure}": self.measure,
            "cost": self.cost,
        }


@dataclass(frozen=True)
class Choice:
    """The chosen layers and learning rate, the reason in words, and the trials.

    `head` is the result of the chosen trial. `is_mean` says that it has the mean of the weights of
    two.
    """

    layers: Layers
    rate: float | None
    reason: str
    trials: Sequence[Trial] = ()
    head: FittedHead | None = None
    is_mean: bool = False

    def facts(self, measure: str) -> dict[str, object]:
        """Return the value of `tuning_`; `measure` is the name of the measure beside the loss."""
        return {
            "trainable_layers": self.layers,
            "fine_tune_learning_rate": self.rate,
            "is_mean": self.is_mean,
            "reason": self.reason,
            "trials": [trial.facts(measure) for trial in self.trials],
        }


def choose_cut(
    frozen: Learner, candidates: Sequence[Candidate], verbose: int = 0, has_mean: bool = False
) -> Choice:
    """Train the candidates, and return the best one, or the frozen network.

    The candidate with the fewest layers comes first. `frozen` fits the head on the frozen network.
    All learners have the same training and validation images. With `has_mean`, the mean of the
    weights of two candidates may be the result.
    """
    trials = [_said(_frozen_trial(frozen), verbose)]
    for candidate in candidates:
        if any(trial.is_negligible for trial in trials):
            break
        trials.append(_said(_trial(candidate, frozen, trials[0]), verbose))
    chosen, lowest, mean = _most_layers(trials), _lowest(trials), None
    if has_mean and trials[-1].gains_little(trials[0]):
        mean = _mean_trial(trials, candidates[-1].learner)
    if mean is not None:
        trials.append(_said(mean, verbose))
        if mean.is_near(lowest, CLEAR_OF_MEAN):
            chosen = mean
    is_mean = chosen is mean
    layers = candidates[-1].layers if is_mean else chosen.layers
    reason = reason_of(trials, chosen, _lowest(trials))
    return told(Choice(layers, chosen.rate, reason, trials, chosen.head, is_mean), verbose)


def told(choice: Choice, verbose: int) -> Choice:
    """Print a choice if asked to, and return it."""
    if verbose:
        say(f"trainable_layers='auto' is {choice.layers!r}: {choice.reason}")
    return choice


def _most_layers(trials: Sequence[Trial]) -> Trial:
    """Return the trial with the most layers whose loss is not clearly above the lowest."""
    lowest = _lowest(trials)
    # Without any of the trained weights, a candidate is the frozen network.
    distinct = [trials[0], *(trial for trial in trials if trial.soup > 0)]
    return next(trial for trial in reversed(distinct) if trial.is_near(lowest))


def _lowest(trials: Sequence[Trial]) -> Trial:
    return min(trials, key=lambda trial: trial.loss)


def _frozen_trial(frozen: Learner) -> Trial:
    head, weights = frozen.learn().without_checkpoint(), _weights(frozen)
    objective, scores = _scored(frozen, head)
    assert frozen.validation is not None
    guess = objective.guess(scores, frozen.validation.targets, weights)
    judged = _judged(frozen, objective, scores)
    return Trial(0, None, 0, 0.0, *judged, weights, head, guess)


def _trial(candidate: Candidate, frozen: Learner, before: Trial) -> Trial:
    learner = candidate.learner
    # The head on the frozen network is the same if it is fitted to the same rows.
    is_same = learner.plan.variants == frozen.plan.variants and learner.plan.head is None
    if is_same and learner.plan.prefix.is_empty:
        learner = replace(learner, previous=before.head)
    head, judged = None, (np.full(len(before.losses), np.inf), np.nan)
    try:
        head = learner.learn()
    except DivergenceError as error:
        warn(f"trainable_layers='auto' leaves out {_named(candidate.layers)}: {error}")
    else:
        judged = before.losses, before.measure
        if head.soup > 0:
            judged = _judged(learner, *_scored(learner, head))
    rate, steps = candidate.recipe.learning_rate, candidate.n_steps
    return Trial(candidate.layers, rate, steps, candidate.cost, *judged, before.weights, head)


def _mean_trial(trials: Sequence[Trial], learner: Learner) -> Trial | None:
    """Return a trial of the mean of the weights of the last two, if there is one.

    It has a share of the mean of their trained weights, which is chosen if theirs are. `learner` is
    that of the last one. Heads that Keras fitted began with random weights, and the mean of two of
    them may be no head that works.
    """
    heads = [trial.head for trial in trials if trial.soup > 0]
    if len(heads) < 2 or learner.plan.head is not None:
        return None
    fewer, most = heads
    assert isinstance(fewer, TrainedSuffix)
    assert isinstance(most, TrainedSuffix)
    if most.mean_with(fewer) is None:
        return None
    recipe, held_out, last = learner.plan.fine_tuning, learner.validation, trials[-1]
    assert recipe is not None
    assert held_out is not None
    share, temperature = recipe.soup, 1.0
    if share == "auto":
        means = {each: _mean_at(each, fewer, most) for each in SHARES}
        scores = [each.astype(float) for each in learner.held_out_scores(*means.values())]
        scores_at = dict(zip(means, scores, strict=True)).__getitem__
        objective = most.suffix.objective
        share, temperature, _ = choose_soup(scores_at, objective, held_out.targets, last.weights)
    if share == 0:  # as before both trainings
        return None
    head = _mean_at(float(share), fewer, most)
    judged = _judged(learner, *_scored(learner, head))
    if temperature > 1:
        head = head.with_scores_divided(temperature)
    return Trial(MEAN, last.rate, 0, 0.0, *judged, last.weights, head)


def _mean_at(share: float, fewer: TrainedSuffix, most: TrainedSuffix) -> TrainedSuffix:
    head = most.at(share).mean_with(fewer.at(share))
    assert head is not None
    return head


def _scored(learner: Learner, head: FittedHead) -> tuple[Objective, np.ndarray]:
    """Return the objective of a head, and its scores of the held-out images."""
    (scores,) = learner.held_out_scores(head)
    return head.suffix.objective, scores.astype(float)


def _judged(learner: Learner, objective: Objective, scores: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the loss of each held-out image, at the best temperature, and the mean measure."""
    held_out, weights = learner.validation, _weights(learner)
    assert held_out is not None
    losses = objective.calibrated_losses(scores, held_out.targets, weights)
    return losses, float(weights @ objective.losses(scores, held_out.targets)[1])


def _weights(learner: Learner) -> np.ndarray:
    """Return the weights of the held-out images; they sum to one."""
    assert learner.validation is not None
    weights: np.ndarray = learner.validation.weights
    return weights / weights.sum()


def _said(trial: Trial, verbose: int) -> Trial:
    if verbose:
        how = "" if not trial.steps else f", {trial.steps} steps at {trial.rate:.3g}"
        say(f"trial of {_named(trial.layers)}{how}: loss {trial.loss:.4g} on held-out images")
    return trial


def reason_of(trials: Sequence[Trial], chosen: Trial, best: Trial) -> str:
    """Return why one of the trials is chosen, where another one may have the lowest loss."""
    losses = ", ".join(f"{trial.loss:.4g} of {_named(trial.layers)}" for trial in trials)
    end = "is the lowest"
    if chosen is not best and chosen.layers == MEAN:
        end = f"is at most {CLEAR_OF_MEAN:g} standard errors above the lowest"
    elif chosen is not best:
        end = f"is at most {CLEAR:g} standard errors above the lowest, with more layers"
    n = len(best.losses)
    which = _named(chosen.layers)
    return f"of the losses on {n} held-out images ({losses}), that of {which} {end}"


def _named(layers: Layers) -> str:
    if layers == MEAN:
        return "the mean of both trainings"
    if isinstance(layers, str):
        return "all layers" if layers == "all" else f"the layers from {layers!r} on"
    return f"the last {layers} layers" if layers else "the frozen network"
