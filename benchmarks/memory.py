"""Memory: many paths, many fits, many searches by several processes, and a cut of many images.

"In use" is resident memory. "Growth to the peak" is the largest memory in use minus the memory in
use before. The paths are of JPEG files with different contents. Fits and searches are measured
after some rounds, because allocators take memory during the first ones. For the cut, all memory of
the process counts, with Python and its libraries.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from measuring import (
    Claim,
    Options,
    child_result,
    claims_table,
    number,
    peak_bytes,
    resident_bytes,
    start,
    table,
)
from pictures import jpeg_of, labelled_images

MEGABYTE, GIGABYTE = 1e6, 1e9
SIDE, N_CLASSES = 32, 5
FILES_IN_FOLDER = 1000


def main(options: Options) -> None:
    n_paths, n_fits, n_searches = (2000, 8, 2) if options.quick else (100_000, 200, 8)
    claims = many_paths(n_paths)
    claims += many_fits(n_fits)
    claims += many_searches(n_searches)
    claims += cut(300 if options.quick else 20_000)
    print(claims_table(claims))


def many_paths(n_paths: int) -> list[Claim]:
    rows, claims = [], []
    for cache in (None, "path"):
        found = child_result(extracted, n_paths=n_paths, cache=cache)
        name = f"{n_paths} JPEG paths, cache={'PATH' if cache else 'None'}"
        growth = found["growth"] - found["output"]
        figures = (found["before"], found["output"], growth)
        rows.append((name, *(number(it / MEGABYTE) for it in figures)))
        claims.append(
            Claim(f"{name}: MB to the peak, without the output", growth / MEGABYTE, 300, False)
        )
    columns = ("MB", "in use before", "output", "growth to the peak, without the output")
    print(f"The bundled backbone at {SIDE} pixels.\n\n{table(columns, rows)}\n")
    return claims


def extracted(n_paths: int, cache: str | None) -> dict[str, float]:
    """Measure, in a new process, the memory for features of many files."""
    from transferclf import CNNFeatureExtractor

    with tempfile.TemporaryDirectory() as folder:
        paths = files(Path(folder), n_paths)
        store = str(Path(folder) / "store") if cache else None
        extractor = CNNFeatureExtractor("tiny", image_size=SIDE, cache=store)
        extractor.fit(paths[:1]).transform(paths[:100])
        before = resident_bytes()
        features = extractor.transform(paths)
        growth = peak_bytes() - before
    return {"before": before, "growth": growth, "output": features.nbytes}


def files(folder: Path, number: int, pictures: Sequence[bytes] = ()) -> list[str]:
    """Write JPEG files of these pictures in turns; they differ in the bytes after the picture."""
    pictures = pictures or [jpeg_of(48, 64)]
    paths = []
    for index in range(number):
        inside = folder / str(index // FILES_IN_FOLDER)
        inside.mkdir(exist_ok=True)
        path = inside / f"{index}.jpg"
        path.write_bytes(pictures[index % len(pictures)] + index.to_bytes(4, "big"))
        paths.append(str(path))
    return paths


def many_fits(n_fits: int) -> list[Claim]:
    rows, claims = [], []
    for kind in ("linear", "hidden", "shapes", "fine_tuned"):
        found = child_result(fitted, kind=kind, n_fits=n_fits)
        growth = (found["after"] - found["before"]) / MEGABYTE
        name = f"{n_fits} fits, {found['what']}"
        rows.append((name, *(number(found[key] / MEGABYTE) for key in ("before", "after"))))
        claims.append(Claim(f"{name}: MB", growth, 100, at_least=False))
    print(table(("MB in use", "before", "after"), rows) + "\n")
    return claims


def fitted(kind: str, n_fits: int) -> dict[str, Any]:
    """Measure, in a new process, fits one after the other, each with other parameters."""
    from transferclf import TransferClassifier

    X, y = labelled_images(60, SIDE, N_CLASSES)

    def fit(index: int) -> None:
        options = PARAMETERS[kind](index)
        TransferClassifier("tiny", image_size=SIDE, epochs=2, **options).fit(X, y).predict(X)

    for index in range(12):
        fit(index)
    before = resident_bytes()
    for index in range(12, 12 + n_fits):
        fit(index)
    return {"before": before, "after": resident_bytes(), "what": WHAT[kind]}


WHAT = {
    "linear": "linear heads, each with another l2",
    "hidden": "one hidden layer, each with another learning rate",
    "shapes": "hidden layers, each with another width",
    "fine_tuned": "last layer fine-tuned, each with another learning rate",
}
N_WIDTHS = 211  # a prime, so that the widths of as many fits differ
PARAMETERS = {
    "linear": lambda index: {"l2": 1e-3 * (1 + index)},
    "hidden": lambda index: {"hidden_units": (32,), "learning_rate": 1e-5 * (1 + index)},
    # Wide and narrow ones in turns: the memory of ever wider layers is no growth.
    "shapes": lambda index: {"hidden_units": (8 + 97 * index % N_WIDTHS,)},
    "fine_tuned": lambda index: {
        "trainable_layers": 1,
        "fine_tune_epochs": 1,
        "fine_tune_learning_rate": 1e-6 * (1 + index),
    },
}


def many_searches(n_searches: int) -> list[Claim]:
    found = child_result(searched, n_searches=n_searches)
    rows, claims = [], []
    for who in ("parent", "workers"):
        first, last = found[who][1], found[who][-1]
        rows.append((who, number(first / MEGABYTE), number(last / MEGABYTE)))
        what = f"{n_searches} searches, n_jobs=2, after the first: MB, {who}"
        claims.append(Claim(what, (last - first) / MEGABYTE, 100, at_least=False))
    print(
        table(("MB in use, searches with n_jobs=2", "after the first", "at the end"), rows) + "\n"
    )
    return claims


def searched(n_searches: int) -> dict[str, list[int]]:
    """Return, from a new process, the memory of parent and two workers after each search."""
    from sklearn.model_selection import GridSearchCV

    from transferclf import TransferClassifier

    X, y = labelled_images(60, SIDE, N_CLASSES)
    in_use: dict[str, list[int]] = {"parent": [], "workers": []}
    with tempfile.TemporaryDirectory() as folder:
        classifier = TransferClassifier(
            "tiny", image_size=SIDE, hidden_units=(16,), epochs=2, cache=folder
        )
        for number_of in range(n_searches + 1):
            rates = np.array([1.0, 2.0, 3.0]) * 1e-4 * (1 + number_of)
            GridSearchCV(classifier, {"learning_rate": rates}, cv=4, n_jobs=2).fit(X, y)
            in_use["parent"].append(resident_bytes())
            in_use["workers"].append(sum(map(resident_bytes, workers())))
    return in_use


def cut(n_images: int) -> list[Claim]:
    """Compare fine-tuning with activations at the cut in a file and in memory."""
    rows, found = [], {}
    for max_memory in ("1GB" if n_images > 1000 else "1MB", "1TB"):
        found[max_memory] = child_result(tuned, n_images=n_images, max_memory=max_memory)
        peak, cpu = found[max_memory]["peak"] / GIGABYTE, found[max_memory]["cpu"]
        rows.append((f"max_memory={max_memory!r}", number(peak), number(cpu)))
    title = f"{n_images} images of {LARGE} pixels, trainable_layers='block4'"
    print(f"{table((title, 'peak, GB', 'CPU s'), rows)}\n")
    read, held = found.values()
    is_same = read["weights"] == held["weights"]
    return [
        Claim(f"{title}, {rows[0][0]}: GB at the peak", read["peak"] / GIGABYTE, 2, False),
        Claim("1 if both have the same weights, bit for bit", float(is_same), 1),
    ]


LARGE, N_PICTURES = 128, 50


def tuned(n_images: int, max_memory: str) -> dict[str, Any]:
    """Measure, in a new process, the memory for fine-tuning above a cut."""
    from transferclf import TransferClassifier

    pictures = [jpeg_of(LARGE, LARGE, seed) for seed in range(N_PICTURES)]
    labels = np.arange(n_images) % N_PICTURES % N_CLASSES
    with tempfile.TemporaryDirectory() as folder:
        paths = files(Path(folder), n_images, pictures)
        classifier = TransferClassifier(
            "tiny",
            image_size=LARGE,
            trainable_layers="block4",
            fine_tune_epochs=2,
            fine_tune_learning_rate=1e-4,
            augmentation=None,
            random_state=0,
            max_memory=max_memory,
        )
        began = time.process_time()
        classifier.fit(paths, labels)
        cpu = time.process_time() - began
    weights = b"".join(values.tobytes() for values in classifier.head_.parameters)
    digest = hashlib.sha256(weights).hexdigest()
    return {"peak": peak_bytes(), "cpu": cpu, "weights": digest}


def workers() -> list[str]:
    """Return the processes that this one has started; empty except on Linux."""
    process = os.getpid()
    try:
        return Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except FileNotFoundError:
        return []


if __name__ == "__main__":
    start(main, [extracted, fitted, searched, tuned])
