"""Rules that choose the share of the fine-tuned weights, compared on training images held out.

    TRANSFERCLF_DATA=... KERAS_HOME=... python benchmarks/soup_rules.py
        [--backbones ...] [--sets ...] [--images 150 0] [--seeds 0] [--size 64] [--results FILE]

All layers are trained once, on at most so many images (0: all of them), and the weights before and
after are mixed at each share. A tenth of these images is the validation part that rules choose by.
A quarter of the set's training images, which neither saw, judges the choice. No test image is used.

With `--results`, each measurement is appended to a file, and those that are there already are not
repeated. Prints a Markdown table: means over all trainings, and over those on few images.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from accuracy import SETS
from fine_tuning_quality import split_of
from measuring import table
from sklearn.model_selection import train_test_split

from transferclf import TransferClassifier
from transferclf.training.soup import SHARES, choose_share, mixed

BACKBONES = ("tiny", "MobileNetV2", "efficientnet_lite0")
FEW = 300  # training images

Record = Mapping[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbones", nargs="+", default=list(BACKBONES))
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--images", nargs="+", type=int, default=[150, 0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--size", type=int, default=64, help="side of the network's input")
    parser.add_argument("--results", type=Path, help="file of measurements, to go on from")
    print(rules_table(list(measured(parser.parse_args()))))


# --- measuring


def measured(arguments: argparse.Namespace) -> Iterator[Record]:
    """Yield what each share brings in each training."""
    file = arguments.results
    lines = file.read_text().splitlines() if file and file.exists() else []
    known = [json.loads(line) for line in lines]
    settings = [
        {"set": name, "images": images, "backbone": backbone, "size": arguments.size, "seed": seed}
        for seed in arguments.seeds
        for images in arguments.images
        for name in arguments.sets
        for backbone in arguments.backbones
    ]
    for setting in settings:
        found = [each for each in known if setting.items() <= each.items()]
        record = found[0] if found else setting | measure(setting)
        if not found:
            print(json.dumps(record), file=sys.stderr, flush=True)
            if file:
                with file.open("a") as opened:
                    opened.write(json.dumps(record) + "\n")
        yield record


def measure(setting: Record) -> dict[str, Any]:
    """Train once, and return accuracy and log loss at each share, and the share of each rule."""
    seed = setting["seed"]
    split = split_of(setting["set"], seed, validation=True)
    X, y = split.X, split.y
    if 0 < setting["images"] < len(y):
        X, _, y, _ = train_test_split(
            X, y, train_size=setting["images"], stratify=y, random_state=seed
        )
    parts = train_test_split(X, y, test_size=0.1, stratify=y, random_state=seed)
    seen, held = (parts[0], parts[2]), (parts[1], parts[3])
    classifier = TransferClassifier(
        setting["backbone"],
        image_size=setting["size"],
        trainable_layers="all",
        random_state=seed,
    )
    before = classifier.set_params(soup=0.0, fine_tune_epochs=1).fit(*seen).head_.parameters
    head = classifier.set_params(soup=1.0, fine_tune_epochs="auto").fit(*seen).head_
    objective = head.suffix.objective
    losses, judged = {}, []
    for share in SHARES:
        classifier.head_ = replace(head, parameters=mixed(before, head.parameters, share))
        scores, codes = scored(classifier, held)
        weights = np.full(len(codes), 1 / len(codes))
        losses[share] = objective.calibrated_losses(scores, codes, weights)
        temperature = max(1.0, objective.temperature(scores, codes, weights)) if share else 1.0
        scores, codes = scored(classifier, (split.X_held, split.y_held))
        each, right = objective.losses(scores / temperature, codes)
        judged.append((float(right.mean()), float(each.mean())))
    accuracy, log_loss = zip(*judged, strict=True)
    chosen = {name: rule(losses) for name, rule in RULES.items()}
    return {"n": len(y), "accuracy": accuracy, "log_loss": log_loss, "chosen": chosen}


def scored(
    classifier: TransferClassifier, images: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores of images, and the numbers of their classes."""
    X, y = images
    return classifier.decision_function(X), np.searchsorted(classifier.classes_, y)


def lowest(losses: Mapping[float, np.ndarray]) -> float:
    """Return the share of the lowest validation loss."""
    return min(losses, key=lambda share: losses[share].mean())


def ours(losses: Mapping[float, np.ndarray]) -> float:
    n = len(losses[0.0])
    return choose_share(losses.__getitem__, np.full(n, 1 / n))[0]


RULES: dict[str, Callable[[Mapping[float, np.ndarray]], float]] = {
    "the lowest loss": lowest,
    "ours": ours,
}


# --- the table


def rules_table(records: Sequence[Record]) -> str:
    """Return a table with a row for each rule and for each fixed share."""
    groups = [records, [record for record in records if record["n"] <= FEW]]
    heads = [
        head
        for group in groups
        for head in (f"accuracy, {len(group)}", "log loss", "points below the best share, at most")
    ]
    choices: dict[str, Callable[[Record], float]] = {
        f"always {share:g}": lambda record, share=share: share for share in SHARES
    }
    choices |= {name: lambda record, name=name: record["chosen"][name] for name in RULES}
    rows = [
        (name, *(cell for group in groups for cell in cells(group, choice)))
        for name, choice in choices.items()
    ]
    return table(("share of the fine-tuned weights", *heads), rows)


def cells(records: Sequence[Record], choice: Callable[[Record], float]) -> list[str]:
    """Return mean accuracy, mean log loss and the largest loss of accuracy, in points."""
    if not records:
        return ["", "", ""]
    places = [SHARES.index(choice(record)) for record in records]
    pairs = list(zip(records, places, strict=True))
    accuracies = [record["accuracy"][place] for record, place in pairs]
    losses = [record["log_loss"][place] for record, place in pairs]
    short = [max(record["accuracy"]) - record["accuracy"][place] for record, place in pairs]
    return [f"{np.mean(accuracies):.3f}", f"{np.mean(losses):.3f}", f"{100 * max(short):.1f}"]


if __name__ == "__main__":
    main()
