"""A search by several processes with an empty store on disk: how often each image is computed.

The search has three penalties and five folds. Each search is in a new process with a new folder;
its wall time includes starting the workers, and TensorFlow in each of them. It is compared with a
search in one process whose store was filled before by `transferclf.warm`, filling included. Images
computed are the records in the folder, of which each is one image through the network.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from measuring import (
    Claim,
    Options,
    child_result,
    claims_table,
    number,
    start,
    table,
    usage_of,
)
from pictures import labelled_images

N_CLASSES, FOLDS, L2 = 4, 5, [0.01, 0.1, 1.0]
ALLOWED = 1.05  # images computed, times the distinct images


def main(options: Options) -> None:
    backbone, side, n_images = ("tiny", 64, 160) if options.quick else ("mobilenet_v2", 128, 4000)
    asked = {"backbone": backbone, "side": side, "n_images": n_images}
    searches = {
        "n_jobs=1, store warmed first": {"n_jobs": 1, "is_warmed": True},
        "n_jobs=1, cold store": {"n_jobs": 1, "is_warmed": False},
        "n_jobs=2, cold store": {"n_jobs": 2, "is_warmed": False},
        "n_jobs=4, cold store": {"n_jobs": 4, "is_warmed": False},
    }
    found = {
        name: [child_result(search, **asked, **each) for _ in range(options.rounds)]
        for name, each in searches.items()
    }
    walls = {name: min(it["wall"] for it in each) for name, each in found.items()}
    shares = {name: max(it["computed"] for it in each) / n_images for name, each in found.items()}
    rows = [(name, number(shares[name]), number(walls[name])) for name in searches]
    print(f"{backbone}, {n_images} images of {side} pixels, {len(L2)} settings, {FOLDS} folds.\n")
    print(table(("search", "images computed / distinct images", "wall s, best"), rows) + "\n")
    print(claims_table(claims(shares, walls)))


def claims(shares: dict[str, float], walls: dict[str, float]) -> list[Claim]:
    computed = [
        Claim(f"{name}: images computed / distinct", share, ALLOWED, at_least=False)
        for name, share in shares.items()
    ]
    ratio = walls["n_jobs=2, cold store"] / walls["n_jobs=1, store warmed first"]
    what = "n_jobs=2, cold store: wall time / that of n_jobs=1 with the store warmed first"
    return [*computed, Claim(what, ratio, 1.0, at_least=False)]


def search(backbone: str, side: int, n_images: int, n_jobs: int, is_warmed: bool) -> dict[str, Any]:
    """Measure a search in this new process, and count the images that all processes computed."""
    from sklearn.model_selection import GridSearchCV

    from transferclf import TransferClassifier, warm

    X, y = labelled_images(n_images, side, N_CLASSES)
    with tempfile.TemporaryDirectory() as folder:
        classifier = TransferClassifier(
            backbone, weights=None, random_state=0, image_size=side, cache=folder
        )
        grid = GridSearchCV(classifier, {"l2": L2}, cv=FOLDS, n_jobs=n_jobs, error_score="raise")

        def run() -> None:
            if is_warmed:
                warm(X, grid)
            grid.fit(X, y)

        return {"wall": usage_of(run).wall, "computed": n_records(Path(folder))}


def n_records(folder: Path) -> int:
    """Return the number of records in a store, each copy of a row counted."""
    from transferclf.features import segments

    count = 0
    for path in folder.rglob("*.features"):
        with open(path, "rb", buffering=0) as file:
            blocks = segments.places_in(file, 0, path.stat().st_size)
            count += sum(len(places) for places, _ in blocks)
    return count


if __name__ == "__main__":
    start(main, [search])
