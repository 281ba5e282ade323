"""Rules that choose the result of a fine-tuning, compared on training images held out.

    TRANSFERCLF_DATA=... KERAS_HOME=... python benchmarks/fine_tuning_rules.py
        [--backbones ...] [--sets ...] [--images 150 0] [--seeds 0] [--size 64]
        [--results FILE] [--measured]

The last block and all layers are trained on at most so many images (0: all of them). One rule takes
a share of the trained weights, and another one the frozen network, the last block, all layers or
the mean of the weights of these two. A tenth of the images is the validation part that rules choose
by, or one image of each class if that is more. A quarter of the training images of the set, which
no one saw, judges the choice. No test image is used. Left out here are that trials end where there
is nothing to gain, and that the scores of a training are divided by a temperature before its
weights are part of a mean.

With `--results`, each measurement is appended to a file, and those that are there already are not
repeated; `--measured` compares on all that is there. Prints Markdown tables with means over the
trainings on few images, and on many of 64 and of 128 pixels. "Worst" are the points of accuracy
below the best choice in the training where these are most.
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
from accuracy import SETS, image_set
from fine_tuning_quality import LAST_BLOCKS, Split, split_of
from measuring import table
from sklearn.base import clone
from sklearn.model_selection import train_test_split

from transferclf import TransferClassifier
from transferclf.heads.fitted import Checkpoint
from transferclf.training.choosing_cut import CLEAR, FAMILIAR
from transferclf.training.phases import TrainedSuffix
from transferclf.training.soup import SHARES, USUAL, choose_share, is_near, mixed

LAYERS = ("frozen", "last block", "all layers", "mean of the last two")
MEAN = len(LAYERS) - 1
ERRORS = (1.0, 2.0, CLEAR)

Record = Mapping[str, Any]
Choice = Callable[[Record], int]  # the place of the choice in the lists of a record

FEW = 300  # training images
GROUPS: dict[str, Callable[[Record], bool]] = {
    "few images": lambda record: record["n"] <= FEW,
    "all images, 64 pixels": lambda record: record["n"] > FEW and record["size"] < 128,
    "all images, 128 pixels": lambda record: record["n"] > FEW and record["size"] >= 128,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbones", nargs="+", default=list(LAST_BLOCKS), choices=LAST_BLOCKS)
    parser.add_argument("--sets", nargs="+", type=image_set, default=list(SETS))
    parser.add_argument("--images", nargs="+", type=int, default=[150, 0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--size", type=int, default=64, help="side of the network's input")
    parser.add_argument("--results", type=Path, help="file of measurements, to go on from")
    parser.add_argument("--measured", action="store_true", help="compare on all of this file")
    arguments = parser.parse_args()
    records = known(arguments.results) if arguments.measured else list(measured(arguments))
    print(rules_table("share of the fine-tuned weights", records, "shares", share_rules()) + "\n")
    print(rules_table("trained layers", records, "layers", layer_rules()))


# --- measuring


def measured(arguments: argparse.Namespace) -> Iterator[Record]:
    """Yield what each choice brings in each training."""
    file = arguments.results
    before = known(file)
    settings = [
        {"set": name, "images": images, "backbone": backbone, "size": arguments.size, "seed": seed}
        for seed in arguments.seeds
        for images in arguments.images
        for name in arguments.sets
        for backbone in arguments.backbones
    ]
    for setting in settings:
        found = [each for each in before if setting.items() <= each.items()]
        record = found[0] if found else setting | measure(setting)
        if not found:
            print(setting, file=sys.stderr, flush=True)
            if file:
                with file.open("a") as opened:
                    opened.write(json.dumps(record) + "\n")
        yield record


def known(file: Path | None) -> list[Record]:
    """Return the records of a file of earlier measurements."""
    lines = file.read_text().splitlines() if file and file.exists() else []
    return [json.loads(line) for line in lines]


def measure(setting: Record) -> dict[str, Any]:
    """Return what the shares of all layers bring, and the layers, each with the chosen share."""
    seed = setting["seed"]
    split = split_of(setting["set"], seed, validation=True)
    X, y = split.X, split.y
    if 0 < setting["images"] < len(y):
        X, _, y, _ = train_test_split(
            X, y, train_size=setting["images"], stratify=y, random_state=seed
        )
    n_held = max(len(y) // 10, len(np.unique(y)))
    seen, held, y_seen, y_held = train_test_split(
        X, y, test_size=n_held, stratify=y, random_state=seed
    )
    classifier = TransferClassifier(
        setting["backbone"], image_size=setting["size"], random_state=seed
    )
    parts, layers, results = Split(seen, held, y_seen, y_held), [], []
    for trained in (LAST_BLOCKS[setting["backbone"]], "all"):
        classifier.set_params(trainable_layers=trained)
        heads = heads_of(classifier, parts)
        shares = [judged(classifier, head, parts, split) for head in heads]
        chosen = chosen_share(shares)
        layers += [] if layers else shares[:1]
        layers.append(shares[chosen])
        results.append(heads[chosen])
    fewer, most = results
    if fewer.soup and most.soup:
        layers.append(judged(classifier, most.mean_with(fewer), parts, split))
    else:
        layers.append(layers[2 if most.soup else 1])
    return {
        "n": len(y),
        "guess": guess(classifier, heads[0], parts),
        "shares": shares,
        "layers": layers,
    }


def heads_of(classifier: TransferClassifier, seen: Split) -> list[TrainedSuffix]:
    """Return the trained layers with each share of the trained weights."""
    hardly = {"soup": 0.0, "fine_tune_epochs": 1, "fine_tune_learning_rate": 1e-9}
    began = clone(classifier).set_params(**hardly).fit(seen.X, seen.y).head_.parameters
    head = classifier.set_params(soup=1.0).fit(seen.X, seen.y).head_
    checkpoint = Checkpoint([], (), began)
    return [
        replace(
            head,
            parameters=mixed(began, head.parameters, share),
            soup=share,
            checkpoint=checkpoint,
        )
        for share in SHARES
    ]


def judged(
    classifier: TransferClassifier, head: TrainedSuffix, seen: Split, split: Split
) -> dict[str, Any]:
    """Return the validation losses of a head, and its accuracy and log loss on other images."""
    classifier.head_, objective = head, head.suffix.objective
    scores, codes = scored(classifier, seen)
    weights = np.full(len(codes), 1 / len(codes))
    losses = objective.calibrated_losses(scores, codes, weights)
    temperature = max(1.0, objective.temperature(scores, codes, weights)) if head.soup else 1.0
    scores, codes = scored(classifier, split)
    each, right = objective.losses(scores / temperature, codes)
    facts = {"accuracy": float(right.mean()), "log_loss": float(each.mean())}
    return facts | {"losses": [round(float(loss), 4) for loss in losses]}


def guess(classifier: TransferClassifier, frozen: TrainedSuffix, seen: Split) -> float:
    """Return the validation loss of the mean scores for all images."""
    classifier.head_ = frozen
    scores, codes = scored(classifier, seen)
    weights = np.full(len(codes), 1 / len(codes))
    same = np.broadcast_to(weights @ scores, scores.shape)
    return float(weights @ frozen.suffix.objective.calibrated_losses(same, codes, weights))


def scored(classifier: TransferClassifier, split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores of held-out images, and the numbers of their classes."""
    codes = np.searchsorted(classifier.classes_, split.y_held)
    scores = classifier.decision_function(split.X_held)
    if scores.ndim == 1:  # of two classes: the score of the second above that of the first
        scores = np.column_stack([np.zeros_like(scores), scores])
    return scores, codes


# --- rules


def share_rules() -> dict[str, Choice]:
    rules: dict[str, Choice] = {
        f"always {share:g}": lambda record, place=place: place for place, share in enumerate(SHARES)
    }
    rules["the lowest loss"] = lambda record: lowest(record["shares"])
    name = f"nearest to {USUAL:g} within a standard error (ours)"
    rules[name] = lambda record: chosen_share(record["shares"])
    return rules


def layer_rules() -> dict[str, Choice]:
    def most(record: Record, errors: float) -> int:
        trained = record["layers"][:MEAN]
        return max(place for place in range(len(trained)) if is_close(trained, place, errors))

    def ours(record: Record) -> int:
        before = np.mean(record["shares"][0]["losses"])
        is_familiar = before < FAMILIAR * record["guess"]
        has_near_mean = is_familiar and is_close(record["layers"], MEAN, 1.0)
        return MEAN if has_near_mean else most(record, CLEAR)

    rules: dict[str, Choice] = {
        name: lambda record, place=place: place for place, name in enumerate(LAYERS)
    }
    rules["the lowest loss of these"] = lambda record: lowest(record["layers"][:MEAN])
    for errors in ERRORS:
        name = f"most layers within {errors:g} standard errors"
        rules[name] = lambda record, errors=errors: most(record, errors)
    rules["the last of these, or the mean where the frozen network does well (ours)"] = ours
    return rules


def chosen_share(shares: Sequence[Record]) -> int:
    """Return the place of the share that fine-tuning takes."""
    losses = dict(zip(SHARES, (np.array(each["losses"]) for each in shares), strict=True))
    n = len(losses[USUAL])
    share, _ = choose_share(losses.__getitem__, np.full(n, 1 / n))
    return SHARES.index(share)


def lowest(choices: Sequence[Record]) -> int:
    """Return the place of the lowest validation loss."""
    return int(np.argmin([np.mean(each["losses"]) for each in choices]))


def is_close(choices: Sequence[Record], place: int, errors: float) -> bool:
    losses, best = (np.array(choices[which]["losses"]) for which in (place, lowest(choices)))
    return is_near(losses, best, np.full(len(losses), 1 / len(losses)), errors)


# --- tables


def rules_table(
    what: str, records: Sequence[Record], name: str, rules: Mapping[str, Choice]
) -> str:
    """Return a table with a row for each rule about the choices of this name."""
    groups = {kind: [each for each in records if holds(each)] for kind, holds in GROUPS.items()}
    heads = [
        f"{kind}: {figure}"
        for kind, group in groups.items()
        for figure in (f"accuracy, {len(group)} trainings", "log loss", "worst")
    ]
    rows = [
        (rule, *(cell for group in groups.values() for cell in cells(group, name, choice)))
        for rule, choice in rules.items()
    ]
    return table((what, *heads), rows)


def cells(records: Sequence[Record], name: str, choice: Choice) -> list[str]:
    """Return mean accuracy, mean log loss and the most points of accuracy below the best choice."""
    if not records or any(choice(record) >= len(record[name]) for record in records):
        return ["", "", ""]
    chosen = [record[name][choice(record)] for record in records]
    best = [max(each["accuracy"] for each in record[name]) for record in records]
    short = np.subtract(best, [each["accuracy"] for each in chosen])
    means = [np.mean([each[figure] for each in chosen]) for figure in ("accuracy", "log_loss")]
    return [*(f"{mean:.3f}" for mean in means), f"{100 * short.max():.1f}"]


if __name__ == "__main__":
    main()
