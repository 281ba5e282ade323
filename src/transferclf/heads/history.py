"""What a history is made of: iterations of L-BFGS, epochs of the head, epochs of fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

History = dict[str, list[float]]

PARTS = ("head", "fine-tuning", "network")
UNITS = ("iteration", "epoch")


@dataclass(frozen=True)
class Phase:
    """A part of a history that has one unit and was trained in one go.

    Attributes
    ----------
    part : {"head", "fine-tuning", "network"}
        What was trained: the head on the frozen network, the head and layers of a pretrained
        network, or a whole network from random weights.
    unit : {"iteration", "epoch"}
        Of L-BFGS, or of a Keras optimizer.
    length : int
        How many of them there were.
    kept : int
        After how many of them the weights in use were reached: `length`, unless early stopping
        brought back those of an earlier epoch; 0 if it brought back those that the phase began
        with.
    stopped_early : bool
        Whether training stopped before the last epoch that was asked for.
    """

    part: str
    unit: str
    length: int
    kept: int
    stopped_early: bool = False


Phases = tuple[Phase, ...]


def entries(measure: str) -> tuple[str, ...]:
    """Return the names of what is kept of each epoch, where `measure` is one of them."""
    return ("loss", measure, "learning_rate", "val_loss", f"val_{measure}")


def phases_of(history: History, n_head_iter: int, parts: Sequence[str]) -> Phases:
    """Tell the phases of a history by what it holds; epochs have learning rates.

    Parameters
    ----------
    history : dict of str to list of float
        What was measured.
    n_head_iter : int
        How much of it came before the part that is last.
    parts : sequence of str
        What was trained, one part after the other: one or two.
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
