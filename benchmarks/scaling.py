"""The cost of one image among 1,000 to 8,000 images."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from measuring import Claim, Options, Timing, claims_table, number, start, table, timings_here
from pictures import jpeg_of, labelled_images

from transferclf import CNNFeatureExtractor

SIDE = 32


def main(options: Options) -> None:
    counts = [100, 200] if options.quick else [1000, 2000, 4000, 8000]
    images, _ = labelled_images(counts[-1], SIDE)
    with tempfile.TemporaryDirectory() as folder:
        paths = files(Path(folder), counts[-1])
        kinds = {"arrays": images, "JPEG files": paths}
        timed = {kind: per_image(X, counts, options.rounds) for kind, X in kinds.items()}
    rows = [
        (f"{kind}, {count} images", number(it.cpu * 1e6), number(it.wall * 1e6))
        for kind, each in timed.items()
        for count, it in each.items()
    ]
    print(f"The bundled backbone at {SIDE} pixels; nothing stored.\n")
    print(table(("images", "CPU µs per image, median", "wall µs per image, best"), rows) + "\n")
    print(claims_table(spread(kind, each) for kind, each in timed.items()))


def files(folder: Path, number: int) -> list[Path]:
    """Write small JPEG files that differ in the bytes after the picture."""
    contents = jpeg_of(48, 64)
    paths = [folder / f"{index}.jpg" for index in range(number)]
    for index, path in enumerate(paths):
        path.write_bytes(contents + index.to_bytes(4, "big"))
    return paths


def per_image(X: np.ndarray | list[Path], counts: list[int], rounds: int) -> dict[int, Timing]:
    extractor = CNNFeatureExtractor("tiny", image_size=SIDE, cache=None).fit(X[:1])
    candidates = {
        str(count): lambda count=count: extractor.transform(X[:count]) for count in counts
    }
    timed = timings_here(candidates, rounds)
    return {count: timed[str(count)] * (1 / count) for count in counts}


def spread(kind: str, each: dict[int, Timing]) -> Claim:
    costs = [it.cpu for it in each.values()]
    return Claim(
        f"{kind}: cost of an image, highest / lowest", max(costs) / min(costs), 1.10, at_least=False
    )


if __name__ == "__main__":
    start(main)
