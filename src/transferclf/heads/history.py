"""Parts of a history: iterations of L-BFGS, epochs of the head, epochs of fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

History = dict[str, list[float]]

# The head on the frozen network, the head and layers of a pretrained network, or a whole network
# from random weights.
PARTS = ("head", "fine-tuning", "network")
UNITS = ("iteration", "epoch")  # of L-BFGS, or of a Keras optimizer


@dataclass(frozen=True)
class Phase:
    """A part of a history that has one unit and was trained in one go, `length` units long.

    `kept` is the number of units after which the weights in use were reached: `length`, unless
    early stopping restored those of an earlier epoch; 0 for those that the phase began with.
    """

    part: str
    unit: str
    length: int
    kept: int
    stopped_early: bool = False


Phases = tuple[Phase, ...]


def entries(measure: str) -> tuple[str, ...]:
    """Return the names of all values of an epoch, where `measure` is one of them."""
    return ("loss", measure, "learning_rate", "val_loss", f"val_{measure}")


def phases_of(history: History, n_head_iter: int, parts: Sequence[str]) -> Phases:
    """Return the phases of a history, told by its entries; only epochs have learning rates.

    `parts` are the one or two parts that were trained, in order. `n_head_iter` is the length of the
    history before the last one.
    """
    n_all = len(history["loss"])
    n_iterations = n_all - len(history.get("learning_rate", ()))
    ends = sorted({n_iterations, n_head_iter if len(parts) > 1 else n_all, n_all} - {0})
    phases: list[Phase] = []
    for begin, end in zip([0, *ends], ends, strict=False):
        part = parts[-1] if begin >= n_head_iter else parts[0]
        unit = UNITS[0] if end <= n_iterations else UNITS[1]
        phases.append(Phase(part, unit, end - begin, end - begin))
    return tuple(phases)
