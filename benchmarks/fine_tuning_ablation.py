"""What each piece of the recipe of fine-tuning brings: one change at a time.

    TRANSFERCLF_DATA=... KERAS_HOME=... python benchmarks/fine_tuning_ablation.py
        [--sets ...] [--backbones ...] [--changes ...] [--seeds 0] [--size 64] [--results FILE]

All layers are trained. Accuracy and log loss are those of a quarter of the training images, which a
seed chooses; no test image is used. "Probe" is the head on the frozen network. Images are small, so
that the whole table takes an hour of two processor cores.

With `--results`, each measurement is appended to a file, and those that are there already are not
repeated. Prints Markdown tables: differences from the recipe, in points, as means over the sets.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from accuracy import SETS
from fine_tuning_quality import split_of
from measuring import table, usage_of
from sklearn.metrics import log_loss

BACKBONES: dict[str, dict[str, Any]] = {
    "efficientnet_lite0": {},
    "MobileNetV2": {},
    "tiny": {},
}
CHANGES: dict[str, dict[str, Any]] = {
    "recipe": {},
    "probe": {"trainable_layers": 0},
    "no warm-up": {"warmup_fraction": 0.0},
    "constant learning rate": {"lr_schedule": None},
    "half the learning rate": {"fine_tune_learning_rate": 2e-4},
    "twice the learning rate": {"fine_tune_learning_rate": 8e-4},
    "no weight decay": {"weight_decay": 0.0},
    "no clipping": {"global_clipnorm": None},
    "layer_decay=0.9": {"layer_decay": 0.9},
    "images not varied": {"augmentation": None},
    "images varied more": {"augmentation": "medium"},
    "batches of 32": {"batch_size": 32},
    "5 epochs": {"fine_tune_epochs": 5},  # of small sets too, which else have at least 400 steps
    "no soup": {"soup": 1.0},
    "half and half": {"soup": 0.5},
    "bfloat16": {"precision": "bfloat16"},
}


class Figures(NamedTuple):
    """Accuracy and log loss on held-out images, and CPU seconds of the fit."""

    accuracy: float
    log_loss: float
    cpu: float


def main() -> None:
    arguments = parsed()
    found = {
        (backbone, name): list(measured(backbone, name, arguments))
        for backbone in arguments.backbones
        for name in arguments.sets
    }
    print(accuracy_table(found, arguments.backbones, arguments.changes) + "\n")
    print(sets_table(found, arguments.changes))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--backbones", nargs="+", choices=BACKBONES, default=list(BACKBONES))
    parser.add_argument("--changes", nargs="+", choices=CHANGES, default=list(CHANGES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--size", type=int, default=64, help="side of the network's input")
    parser.add_argument("--results", type=Path, help="file of measurements, to go on from")
    arguments = parser.parse_args()
    if "recipe" not in arguments.changes:
        arguments.changes = ["recipe", *arguments.changes]
    return arguments


# --- measuring


def measured(
    backbone: str, name: str, arguments: argparse.Namespace
) -> Iterator[dict[str, Figures]]:
    """Yield the figures of each change on a set, once for each seed."""
    for seed in arguments.seeds:
        what = {"backbone": backbone, "set": name, "size": arguments.size, "seed": seed}
        known = results(arguments.results, what)
        with tempfile.TemporaryDirectory() as store:
            for change in arguments.changes:
                if change not in known:
                    known[change] = measure(change, what, store)
                    record = json.dumps(what | {"change": change} | known[change]._asdict())
                    print(record, file=sys.stderr, flush=True)
                    if arguments.results:
                        with arguments.results.open("a") as file:
                            file.write(record + "\n")
        yield known


def results(file: Path | None, what: Mapping[str, Any]) -> dict[str, Figures]:
    """Return the figures of changes from a file of earlier measurements."""
    lines = file.read_text().splitlines() if file and file.exists() else []
    return {
        it["change"]: Figures(it["accuracy"], it["log_loss"], it["cpu"])
        for it in map(json.loads, lines)
        if all(it[key] == value for key, value in what.items())
    }


def measure(change: str, what: Mapping[str, Any], store: str) -> Figures:
    """Fit a classifier with one change to the recipe, and judge it by held-out images."""
    from transferclf import TransferClassifier

    parts = split_of(what["set"], what["seed"], validation=True)
    parameters = {"trainable_layers": "all", "random_state": what["seed"], "cache": store}
    parameters |= BACKBONES[what["backbone"]] | CHANGES[change]
    classifier = TransferClassifier(what["backbone"], image_size=what["size"], **parameters)
    usage = usage_of(lambda: classifier.fit(parts.X, parts.y))
    probabilities = classifier.predict_proba(parts.X_held)
    predicted = classifier.classes_[probabilities.argmax(1)]
    accuracy = float(np.mean(predicted == parts.y_held))
    loss = float(log_loss(parts.y_held, probabilities, labels=classifier.classes_))
    return Figures(accuracy, loss, usage.cpu)


# --- tables

Found = Mapping[tuple[str, str], Sequence[Mapping[str, Figures]]]


def accuracy_table(found: Found, backbones: Sequence[str], changes: Sequence[str]) -> str:
    """Return a row for each change: points of accuracy from the recipe, by backbone, and loss."""
    rows = []
    for change in changes:
        by_backbone = [
            mean_of(found, change, backbone=backbone, what="accuracy") for backbone in backbones
        ]
        cells = [shown(100 * value, change) for value in by_backbone]
        least = min(by_set(found, change).values())
        loss = mean_of(found, change, what="log_loss")
        cpu = f"{1 + mean_of(found, change, what='cpu'):.2f}"
        is_recipe = change == "recipe"
        worst = "" if is_recipe else f"{100 * least:+.1f}"
        rows.append((change, *cells, worst, f"{loss:.3f}" if is_recipe else f"{loss:+.3f}", cpu))
    return table(("change", *backbones, "worst set", "log loss", "CPU"), rows)


def sets_table(found: Found, changes: Sequence[str]) -> str:
    """Return a row for each change: points of accuracy from the recipe on each set."""
    names = list(dict.fromkeys(name for _, name in found))
    rows = [
        (change, *(shown(100 * by_set(found, change)[name], change) for name in names))
        for change in changes
    ]
    return table(("change", *names), rows)


def shown(points: float, change: str) -> str:
    return f"{points:.1f}" if change == "recipe" else f"{points:+.1f}"


def by_set(found: Found, change: str) -> dict[str, float]:
    """Return the difference of accuracy from the recipe on each set, or that of the recipe."""
    names = dict.fromkeys(name for _, name in found)
    return {name: mean_of(found, change, name=name, what="accuracy") for name in names}


def mean_of(
    found: Found, change: str, *, what: str, backbone: str | None = None, name: str | None = None
) -> float:
    """Return the mean difference of a figure from that of the recipe, or that of the recipe.

    For CPU seconds it is the mean ratio less one.
    """
    values = []
    for (of_backbone, of_set), seeds in found.items():
        if of_backbone != (backbone or of_backbone) or of_set != (name or of_set):
            continue
        for each in seeds:
            value, of_recipe = getattr(each[change], what), getattr(each["recipe"], what)
            if what == "cpu":
                values.append(value / of_recipe - 1)
            else:
                values.append(value if change == "recipe" else value - of_recipe)
    return float(np.mean(values))


if __name__ == "__main__":
    main()
