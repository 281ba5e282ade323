"""Accuracy and CPU seconds of fine-tuning, compared with fastai and Keras from the same weights.

    TRANSFERCLF_DATA=... KERAS_HOME=... python benchmarks/fine_tuning_quality.py
        [--sets ...] [--methods ...] [--seeds 0 1 2] [--size 128] [--backbone efficientnet_lite0]
        [--validation] [--results FILE]

"Probe" is the classifier with nothing set but the network and its input size, "ours" has
`trainable_layers="all"` besides, "ours, last block" that of the last block, and "ours, auto" has
"auto". The other methods are in `fine_tuning_peers.py`. All have the same splits, pixels and
weights. Before fastai is measured, its features are compared with ours. `--sets` takes names, and
folders of class folders of your own, which are known by their name: a quarter of these images is
for testing, and at most 100 per class are for training.

CPU seconds are those of loading images, building and training, with two threads; not those of
importing and of predictions. Each measurement is in a new process. Figures are means over seeds.

With `--validation`, the accuracy is of a quarter of the training images, which a seed chooses, and
the test images are not used. Recipes are chosen so. With `--results`, each measurement is appended
to a file, and those that are there already are not repeated. The file knows nothing of changes to
the package. Prints Markdown tables.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import fine_tuning_peers as peers
import numpy as np
from accuracy import SETS, image_set
from fine_tuning_peers import Predict, Setting
from measuring import Claim, answer, child_result, claims_table, table, usage_of
from sklearn.model_selection import train_test_split

# Waiting threads sleep. They would take CPU seconds from other work of the machine, and count them.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "2",
    "OMP_WAIT_POLICY": "PASSIVE",
    "TF_NUM_INTEROP_THREADS": "2",
    "TF_NUM_INTRAOP_THREADS": "2",
}
SIZES = {"cifar10": 64}  # of sets whose images are too small for `--size`
LAST_BLOCKS = {"efficientnet_lite0": "block7", "MobileNetV2": "block_16", "tiny": "block4"}
CHOICES = ("probe", "ours, last block", "ours")  # of which "auto" takes one
UNCLAIMED = ("digits",)  # measured beside the other sets, without a claim
HELD_OUT = 0.25
COMPARED, TOLERANCE = 12, 1e-3  # images whose features are compared, and their largest difference


class Method(NamedTuple):
    """A function from images, labels and a setting to predictions, and what it imports."""

    fit: Callable[..., Predict]
    modules: tuple[str, ...]
    options: Mapping[str, Any] = {}


class Split(NamedTuple):
    """Training images and held-out images."""

    X: np.ndarray
    X_held: np.ndarray
    y: np.ndarray
    y_held: np.ndarray


class Figures(NamedTuple):
    """Mean accuracy and CPU seconds of a method on a set."""

    accuracy: float
    cpu: float


def ours(X: np.ndarray, y: np.ndarray, setting: Setting, **options: Any) -> Predict:
    from transferclf import TransferClassifier

    backbone, size, seed = setting
    classifier = TransferClassifier(backbone, image_size=size, random_state=seed, **options)
    return classifier.fit(X, y).predict


def last_block(X: np.ndarray, y: np.ndarray, setting: Setting) -> Predict:
    return ours(X, y, setting, trainable_layers=LAST_BLOCKS[setting.backbone])


OURS = ("tensorflow", "openvino", "transferclf.training.learning")
KERAS = ("tensorflow", "keras")
METHODS = {
    "probe": Method(ours, OURS),
    "ours": Method(ours, OURS, {"trainable_layers": "all"}),
    "ours, last block": Method(last_block, OURS),
    "ours, auto": Method(ours, OURS, {"trainable_layers": "auto"}),
    "fastai": Method(peers.fastai, ("torch", "timm", "fastai.vision.all")),
    "Keras guide": Method(peers.keras_guide, KERAS),
    "Keras guide, folded": Method(peers.keras_guide, KERAS, {"is_folded": True}),
    "plain full fine-tuning": Method(peers.keras_plain, KERAS),
}


def main() -> None:
    arguments = parsed()
    if arguments.child:
        answer(arguments.child, (measure, our_features, fastai_features))
        return
    os.environ.update(ENVIRONMENT)
    left_out = {name: why for name in arguments.methods if (why := reason(name, arguments))}
    found = {name: means(name, arguments, left_out) for name in arguments.sets}
    print(quality_table(found, arguments.methods, left_out) + "\n")
    print(claims_table(claims(found)))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", type=image_set, default=list(SETS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--size", type=int, default=128, help="side of the network's input")
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--validation", action="store_true", help="leave the test images alone")
    parser.add_argument("--results", type=Path, help="file of measurements, to go on from")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def reason(name: str, arguments: argparse.Namespace) -> str | None:
    """Return why a method cannot be measured here, or None."""
    packages = [module.partition(".")[0] for module in METHODS[name].modules]
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        return f"{' and '.join(missing)} cannot be imported"
    if name == "fastai" and not peers.has_timm_network(arguments.backbone):
        return f"{arguments.backbone} is not in timm"
    if name == "ours, last block" and arguments.backbone not in LAST_BLOCKS:
        return f"the last block of {arguments.backbone} is not known here"
    return None


# --- measuring


def means(
    name: str, arguments: argparse.Namespace, left_out: Mapping[str, str]
) -> dict[str, Figures]:
    """Return the figures of each method on a set, as means over the seeds."""
    methods = [method for method in arguments.methods if method not in left_out]
    runs: dict[str, list[Figures]] = {method: [] for method in methods}
    for seed in arguments.seeds:
        setting = Setting(arguments.backbone, SIZES.get(name, arguments.size), seed)
        for method, figures in measured(name, methods, setting, arguments):
            runs[method].append(figures)
    return {method: Figures(*np.mean(each, axis=0).tolist()) for method, each in runs.items()}


def measured(
    name: str, methods: Sequence[str], setting: Setting, arguments: argparse.Namespace
) -> Iterator[tuple[str, Figures]]:
    """Yield the figures of each method on the same split, also those measured before."""
    what = {"set": name, "validation": arguments.validation, **setting._asdict()}
    known = results(arguments.results, what)
    with tempfile.TemporaryDirectory() as folder:
        images = str(write(split_of(name, setting.seed, arguments.validation), folder))
        if "fastai" in methods and "fastai" not in known:
            check_features(images, setting)
        for method in methods:
            if method not in known:
                found = child_result(measure, method=method, images=images, setting=setting)
                known[method] = Figures(**found)
                record = json.dumps(what | {"method": method} | found)
                print(record, file=sys.stderr, flush=True)
                if arguments.results:
                    with arguments.results.open("a") as file:
                        file.write(record + "\n")
            yield method, known[method]


def results(file: Path | None, what: Mapping[str, Any]) -> dict[str, Figures]:
    """Return the figures of methods from a file of earlier measurements."""
    lines = file.read_text().splitlines() if file and file.exists() else []
    records = [json.loads(line) for line in lines]
    return {
        it["method"]: Figures(it["accuracy"], it["cpu"])
        for it in records
        if all(it[key] == value for key, value in what.items())
    }


def split_of(name: str, seed: int, validation: bool) -> Split:
    """Return the training and test part of a set, or two parts of its training part."""
    X, X_test, y, y_test = SETS[name]()
    if validation:
        parts = train_test_split(X, y, test_size=HELD_OUT, stratify=y, random_state=seed)
        X, X_test, y, y_test = parts
    return Split(plain(X), plain(X_test), y, y_test)


def plain(X: np.ndarray) -> np.ndarray:
    """Return paths as texts, and scikit-learn's digits as RGB images that every library takes."""
    if X.ndim == 1:
        return X.astype(str)
    return np.repeat(np.round(X * (255 / 16)).astype(np.uint8)[..., None], 3, axis=-1)


def write(split: Split, folder: str) -> Path:
    file = Path(folder, "split.npz")
    np.savez(file, **split._asdict())
    return file


def read(file: str) -> Split:
    with np.load(file) as arrays:
        return Split(**arrays)


def measure(method: str, images: str, setting: Sequence[Any]) -> dict[str, float]:
    """Measure one method in this process, from a file with a split."""
    split, (fit, modules, options) = read(images), METHODS[method]
    for module in modules:
        importlib.import_module(module)
    fitted: list[Predict] = []
    usage = usage_of(lambda: fitted.append(fit(split.X, split.y, Setting(*setting), **options)))
    accuracy = np.mean(fitted[0](split.X_held) == split.y_held)
    return {"accuracy": float(accuracy), "cpu": usage.cpu}


# --- the same features


def check_features(images: str, setting: Setting) -> None:
    """Raise AssertionError unless fastai's network has the features of ours."""
    ours, theirs = (
        np.array(child_result(function, images=images, setting=setting))
        for function in (our_features, fastai_features)
    )
    difference = np.abs(ours - theirs).max()
    if not difference <= TOLERANCE:
        raise AssertionError(
            f"expected features that differ by at most {TOLERANCE}, got {difference:.2g}"
        )


def our_features(images: str, setting: Sequence[Any]) -> list[list[float]]:
    from transferclf import CNNFeatureExtractor

    backbone, size, _ = setting
    extractor = CNNFeatureExtractor(backbone, image_size=size, cache=None)
    return extractor.fit_transform(read(images).X[:COMPARED]).tolist()


def fastai_features(images: str, setting: Sequence[Any]) -> list[list[float]]:
    return peers.fastai_features(read(images).X[:COMPARED], Setting(*setting)).tolist()


# --- tables


def quality_table(
    found: Mapping[str, Mapping[str, Figures]],
    methods: Sequence[str],
    left_out: Mapping[str, str],
) -> str:
    """Return a table with a row per set and a column per method, and the means over sets."""
    rows = [(name, *cells(each, methods, left_out)) for name, each in found.items()]
    measured = [method for method in methods if method not in left_out]
    mean = {
        method: Figures(*np.mean([each[method] for each in found.values()], axis=0).tolist())
        for method in measured
    }
    rows.append(("mean", *cells(mean, methods, left_out)))
    return table(("accuracy, CPU s", *methods), rows)


def cells(
    figures: Mapping[str, Figures], methods: Sequence[str], left_out: Mapping[str, str]
) -> list[str]:
    return [
        left_out.get(method) or f"{figures[method].accuracy:.3f}, {figures[method].cpu:.0f}"
        for method in methods
    ]


def claims(found: Mapping[str, Mapping[str, Figures]]) -> list[Claim]:
    """Return the claims about the measured sets, without those about methods that are not there."""
    made = []
    if gains := points_above("fastai", found):
        made += [Claim(f"{name}: points above fastai", it, 0) for name, it in gains.items()]
        made.append(Claim("points above fastai, mean", mean_of(gains), 2))
        cpu = np.array([(found[name]["ours"].cpu, found[name]["fastai"].cpu) for name in gains])
        total, largest = np.divide(*cpu.sum(axis=0)), np.max(cpu[:, 0] / cpu[:, 1])
        made.append(Claim("CPU seconds, share of fastai's", float(total), 0.6, False))
        made.append(Claim("CPU seconds, share of fastai's, largest", float(largest), 0.6, False))
    if gains := points_above("probe", found):
        made.append(Claim("points above the probe, least", min(gains.values()), -0.5))
        made.append(Claim("points above the probe, mean", mean_of(gains), 1.5))
    choices = [points_above(other, found, "ours, auto") for other in CHOICES]
    if all(choices):
        least = min(gain for gains in choices for gain in gains.values())
        made.append(Claim("points of 'auto' above the best choice, least", least, -0.5))
    return made


def points_above(
    other: str, found: Mapping[str, Mapping[str, Figures]], method: str = "ours"
) -> dict[str, float]:
    """Return by how many points of accuracy a method is better on each set with a claim."""
    return {
        name: round(100 * (found[name][method].accuracy - found[name][other].accuracy), 6)
        for name in found
        if name not in UNCLAIMED and {method, other} <= found[name].keys()
    }


def mean_of(gains: Mapping[str, float]) -> float:
    return round(float(np.mean([*gains.values()])), 6)


if __name__ == "__main__":
    main()
