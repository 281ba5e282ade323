"""JPEG files to 224 × 224 pixels, compared with plain Pillow.

Plain Pillow is `Image.open(path).convert("RGB").resize((224, 224), BILINEAR)`. The files are drawn
and have about the size of photographs. The limit decodes each file to an eighth of its size and
does nothing more. All bytes of a file must be read, and reading takes more of the time of larger
files.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
from measuring import Claim, Options, claims_table, ratio_of, start, timing_table, timings_here
from pictures import jpeg_of
from PIL import Image

from transferclf.images import check_images
from transferclf.images.loading import load_batches

SIDE, BATCH = 224, 16
# Height and width, finest structure in pixels, promised speed-up. Sharp files have as much detail
# as those of a good camera, soft files as much as enlarged photographs.
SIZES = {
    "12 megapixels, soft": (3000, 4000, 8, 4.0),
    "12 megapixels, sharp": (3000, 4000, 2, 4.0),
    "1 megapixel, sharp": (864, 1152, 2, 1.6),
}


def main(options: Options) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, (height, width, finest, promised) in SIZES.items():
            if options.quick:
                height, width = height // 4, width // 4
            number = 8 if options.quick else 32
            paths = files(Path(folder), height, width, finest, number)
            compare(name, paths, promised, options.rounds)


def files(folder: Path, height: int, width: int, finest: int, number: int) -> list[Path]:
    """Return files of that size. Two contents are enough, because images are not compared."""
    contents = [jpeg_of(height, width, seed, finest) for seed in range(2)]
    paths = [folder / f"{height}x{width}-{index}.jpg" for index in range(number)]
    for index, path in enumerate(paths):
        path.write_bytes(contents[index % 2])
    return paths


def compare(name: str, paths: list[Path], promised: float, rounds: int) -> None:
    """Print the times of plain Pillow, of one thread and of two threads."""
    mean_bytes = np.mean([path.stat().st_size for path in paths])
    timed = timings_here(
        {
            "plain Pillow": lambda: [plain(path) for path in paths],
            "one thread": lambda: decoded(paths, threads=1),
            "two threads": lambda: decoded(paths, threads=2),
            "limit: decoded to an eighth": lambda: [eighth(path) for path in paths],
        },
        2 * rounds + 1,  # more rounds: other work disturbs wall time
    )
    print(f"{name}, files of {mean_bytes / 1e6:.1f} MB; figures for one image\n")
    each = {key: value * (1 / len(paths)) for key, value in timed.items()}
    print(timing_table(each, unit=1e-3, name="ms") + "\n")
    print(
        claims_table(
            [
                Claim(
                    f"{name}, times faster than plain Pillow in a thread, by CPU time",
                    ratio_of(timed, "plain Pillow", "one thread"),
                    promised,
                ),
                Claim(
                    f"{name}, two threads, times faster than one, by wall time",
                    timed["one thread"].wall / timed["two threads"].wall,
                    1.5,
                ),
            ]
        )
        + "\n"
    )


def plain(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def eighth(path: Path) -> None:
    with Image.open(path) as image:
        image.draft("RGB", (image.width // 8, image.height // 8))
        image.load()


def decoded(paths: list[Path], threads: int) -> int:
    """Decode all files as extraction does, and return the number of images."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    source = check_images(paths)
    starts = range(0, len(paths), BATCH)
    batches = [range(begin, min(begin + BATCH, len(paths))) for begin in starts]
    return sum(len(batch) for batch in load_batches(source, batches, (SIDE, SIDE), "crop"))


if __name__ == "__main__":
    start(main)
