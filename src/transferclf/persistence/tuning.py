"""Write the choice of the trained layers, `tuning_`, as facts, and read it back."""

from __future__ import annotations

import math
from typing import Any

from transferclf.estimators.tuning import Tuning
from transferclf.persistence.facts import MAX_TEXT, Facts, Written, is_text, is_whole, measured_text

_LAYERS, _RATE, _MEAN = "trainable_layers", "fine_tune_learning_rate", "is_mean"


def tuning_facts(tuning: Tuning, measure: str) -> Written:
    """Return the choice as facts; `measure` is the name of the measure beside the loss."""
    trials = tuning["trials"]
    columns: Written = {name: [trial[name] for trial in trials] for name in (_LAYERS, "steps")}
    for name in _measured_names(measure):
        values = [trial[name] for trial in trials]
        columns[name] = measured_text([math.nan if it is None else it for it in values])
    reason = str(tuning["reason"])[:MAX_TEXT]
    choice = {_LAYERS: tuning[_LAYERS], _RATE: tuning[_RATE], _MEAN: tuning.get(_MEAN, False)}
    return choice | {"reason": reason, "trials": columns}


def restored_tuning(facts: Facts, measure: str) -> Tuning:
    """Return the choice that `tuning_facts` has written."""
    layers, columns = facts.take(_LAYERS), facts.part("trials")
    tried = columns.take(_LAYERS)
    if not isinstance(tried, list):
        raise columns.wrong("a list", tried, _LAYERS)
    for each in (layers, *tried):
        if not (is_text(each) and 0 < len(each) <= MAX_TEXT) and not (is_whole(each) and each >= 0):
            raise facts.wrong("whole numbers and names", each, _LAYERS)
    values: dict[str, Any] = {_LAYERS: tried, "steps": columns.wholes("steps", 0)}
    values |= {name: columns.measured(name) for name in _measured_names(measure)}
    columns.finish()
    if len({len(column) for column in values.values()}) > 1:
        raise facts.wrong("lists of one length", values, "trials")
    trials = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    for trial in trials:
        trial[_RATE] = None if math.isnan(trial[_RATE]) else trial[_RATE]
    choice = {_LAYERS: layers, _RATE: facts.or_none(facts.number, _RATE)}
    # Archives of earlier development versions do not have it.
    choice[_MEAN] = facts.flag(_MEAN) if _MEAN in facts.names() else False
    choice |= {"reason": facts.text("reason"), "trials": trials}
    facts.finish()
    return choice


def _measured_names(measure: str) -> tuple[str, ...]:
    """Return the names of numbers of a trial that may be missing or infinite."""
    return (_RATE, "soup", "val_loss", f"val_{measure}", "cost")
