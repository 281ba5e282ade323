"""Rules that choose the result of a fine-tuning, compared on training images held out.

    TRANSFERCLF_DATA=... KERAS_HOME=... python benchmarks/fine_tuning_rules.py
        [--backbones ...] [--sets ...] [--images 150 0] [--seeds 0] [--size 64]
        [--results FILE] [--measured]

The last block and all layers are trained on at most so many images (0: all of them). The weights
before and after are mixed with several shares, also those of the mean of both trainings. One rule
takes a share, and another one the frozen network, the last block, all layers or the mean, each with
the share of the first rule. A tenth of the images is the validation part that rules choose by, or
one image of each class if that is more. A quarter of the training images of the set, which no one
saw, judges the choice. No test image is used. Left out here is that trials end where there is
nothing to gain.

With `--results`, each measurement is appended to a file, and those that are there already are not
repeated; `--measured` compares on all that is there. Early ones have layers with the shares that a
former rule chose, and not those of ours.
Prints Markdown tables: the accuracy of each share where nothing, little and much is gained, and the
figures of rules, as means over the trainings on few images, and on many of 64 and of 128 pixels.
"Below frozen" and "worst" are points of accuracy below the frozen network and the best choice, in
the training where these are most.
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
from transferclf.training.choosing_cut import CLEAR, CLEAR_OF_MEAN
from transferclf.training.phases import TrainedSuffix
from transferclf.training.soup import (
    LITTLE,
    OF_LITTLE,
    OF_NOTHING,
    SHARES,
    USUAL,
    choose_share,
    is_near,
    mixed,
    usual_share,
)

LINES = ("last block", "all layers", "mean of both")
ERRORS = (1.0, 2.0, CLEAR)
BELOW_FROZEN, BELOW_BEST = "below frozen", "worst"  # options begin with the frozen network

GAINS = {OF_NOTHING: "nothing", OF_LITTLE: "little", USUAL: "much"}  # by their usual share

Record = Mapping[str, Any]
Options = Sequence[Record]  # what a rule chooses from
Rule = Callable[[Options, Record], int]  # returns the place of its choice

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
    shares = rules_table(
        "share of the trained weights", records, shares_of, share_rules(), BELOW_FROZEN
    )
    layers = rules_table("trained layers", records, layers_of, layer_rules(), BELOW_BEST)
    print(f"{gains_table(records)}\n\n{shares}\n\n{layers}")


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
    parts = Split(seen, held, y_seen, y_held)
    ends, lines = [], {}
    for name, trained in zip(LINES, (LAST_BLOCKS[setting["backbone"]], "all", None), strict=True):
        if trained:
            heads = heads_of(classifier.set_params(trainable_layers=trained), parts)
            ends.append(heads)
        else:
            heads = [most.mean_with(fewer) for fewer, most in zip(*ends, strict=True)]
        lines[name] = [judged(classifier, head, parts, split) for head in heads]
    return {"n": len(y), "guess": guess(classifier, ends[1][0], parts), **lines}


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
    return frozen.suffix.objective.guess(scores, codes, weights)


def scored(classifier: TransferClassifier, split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores of held-out images, and the numbers of their classes."""
    codes = np.searchsorted(classifier.classes_, split.y_held)
    scores = classifier.decision_function(split.X_held)
    if scores.ndim == 1:  # of two classes: the score of the second above that of the first
        scores = np.column_stack([np.zeros_like(scores), scores])
    return scores, codes


# --- rules


def shares_of(record: Record) -> Options:
    return record["all layers"]


def share_rules() -> dict[str, Rule]:
    rules: dict[str, Rule] = {
        f"always {share:g}": always(place) for place, share in enumerate(SHARES)
    }
    rules["the lowest loss"] = lambda shares, record: lowest(shares)
    rules[f"nearest to {USUAL:g} within a standard error"] = nearest_to_usual
    rules["nearest to the usual one for this gain (ours)"] = chosen_share
    return rules


def gain_of(record: Record) -> str:
    """Return whether nothing, little or much is gained by the usual share of all layers."""
    shares = record["all layers"]
    before, after = (np.mean(shares[SHARES.index(share)]["losses"]) for share in (0.0, USUAL))
    return GAINS[usual_share(float(before - after), record["guess"])]


def layers_of(record: Record) -> Options:
    """Return the frozen network, the last block, all layers and the mean, each with our share."""
    if "layers" in record:
        return record["layers"]
    places = [chosen_share(record[line], record) for line in LINES]
    taken = [
        record[line][place] | {"share": SHARES[place]}
        for line, place in zip(LINES, places, strict=True)
    ]
    return [record["all layers"][0], *taken]


MEAN = len(LINES)  # the place of the mean


def layer_rules() -> dict[str, Rule]:
    rules: dict[str, Rule] = {name: always(place) for place, name in enumerate(("frozen", *LINES))}
    rules["the lowest loss, without the mean"] = lambda layers, record: lowest(layers[:MEAN])
    for errors in ERRORS:
        name = f"most layers within {errors:g} standard error{'s' * (errors != 1)}"
        rules[name] = lambda layers, record, errors=errors: most_layers(layers, errors)
    rules["the last of these, or the mean where little is gained (ours)"] = chosen_layers
    return rules


def always(place: int) -> Rule:
    return lambda options, record: place


def nearest_to_usual(shares: Options, record: Record) -> int:
    near = [place for place in range(len(shares)) if is_close(shares, place, 1.0)]
    return min(near, key=lambda place: abs(SHARES[place] - USUAL))


def chosen_share(shares: Options, record: Record) -> int:
    """Return the place of the share that fine-tuning takes."""
    losses = dict(zip(SHARES, (np.array(each["losses"]) for each in shares), strict=True))
    n = len(losses[USUAL])
    share, _ = choose_share(losses.__getitem__, np.full(n, 1 / n), record["guess"])
    return SHARES.index(share)


def most_layers(layers: Options, errors: float) -> int:
    return max(place for place in range(MEAN) if is_close(layers[:MEAN], place, errors))


def chosen_layers(layers: Options, record: Record) -> int:
    frozen, _, whole, _ = (np.mean(each["losses"]) for each in layers)
    gains_little = frozen - whole < LITTLE * record["guess"]
    has_mean = gains_little and all(each.get("share") != 0 for each in layers[1:])
    return (
        MEAN if has_mean and is_close(layers, MEAN, CLEAR_OF_MEAN) else most_layers(layers, CLEAR)
    )


def lowest(options: Options) -> int:
    """Return the place of the lowest validation loss."""
    return int(np.argmin([np.mean(each["losses"]) for each in options]))


def is_close(options: Options, place: int, errors: float) -> bool:
    losses, best = (np.array(options[which]["losses"]) for which in (place, lowest(options)))
    return is_near(losses, best, np.full(len(losses), 1 / len(losses)), errors)


# --- tables


def gains_table(records: Sequence[Record]) -> str:
    """Return a table with the mean accuracy of each share for each kind of gain."""
    rows = []
    for gain in GAINS.values():
        group = [shares_of(record) for record in records if gain_of(record) == gain]
        accuracies = np.array([[each["accuracy"] for each in shares] for shares in group])
        means = [f"{mean:.3f}" for mean in accuracies.mean(axis=0)] if group else [""] * len(SHARES)
        rows.append((gain, str(len(group)), *means))
    return table(("what is gained", "trainings", *(f"share {share:g}" for share in SHARES)), rows)


def rules_table(
    what: str,
    records: Sequence[Record],
    options_of: Callable[[Record], Options],
    rules: Mapping[str, Rule],
    reference: str,
) -> str:
    """Return a table with a row for each rule about these options."""
    groups = {kind: [each for each in records if holds(each)] for kind, holds in GROUPS.items()}
    groups = {kind: group for kind, group in groups.items() if group}
    heads = [
        f"{kind}: {figure}"
        for kind, group in groups.items()
        for figure in (f"accuracy, {len(group)} trainings", "log loss", reference)
    ]
    options = {kind: [options_of(each) for each in group] for kind, group in groups.items()}
    rows = [
        (
            rule,
            *(
                cell
                for kind, group in groups.items()
                for cell in cells(options[kind], [*map(choose, options[kind], group)], reference)
            ),
        )
        for rule, choose in rules.items()
    ]
    return table((what, *heads), rows)


def cells(options: Sequence[Options], places: Sequence[int], reference: str) -> list[str]:
    """Return mean accuracy, mean log loss and the most points of accuracy below a reference."""
    chosen = [each[place] for each, place in zip(options, places, strict=True)]
    accuracies = np.array([[it["accuracy"] for it in each] for each in options])
    expected = accuracies[:, 0] if reference == BELOW_FROZEN else accuracies.max(axis=1)
    short = expected - [each["accuracy"] for each in chosen]
    means = [np.mean([each[figure] for each in chosen]) for figure in ("accuracy", "log_loss")]
    return [*(f"{mean:.3f}" for mean in means), f"{100 * short.max():.1f}"]


if __name__ == "__main__":
    main()
