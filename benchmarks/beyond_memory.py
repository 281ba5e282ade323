"""Memory for images that are not in memory: a mapped file, and Parquet with JPEG files in it.

    python benchmarks/beyond_memory.py [--quick] [--rows 1000000]

Each measurement is a process of its own. "Growth to the peak" is the largest memory in use minus
the memory in use before, after the network has run once. The growth for a tenth of the images is
measured too: it is flat if both are alike. Features go to a file (`output=PATH`) or to an array,
whose size does not count.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from measuring import (
    Claim,
    Options,
    answer,
    child_result,
    claims_table,
    number,
    peak_bytes,
    resident_bytes,
    table,
)
from PIL import Image

MEGABYTE = 1e6
SIDE, N_CLASSES = 64, 5
WRITTEN_AT_ONCE = 1000


def main(options: Options, n_rows: int | None = None) -> None:
    n_rows = n_rows or (400 if options.quick else 100_000)
    claims = []
    for kind in ("memmap", "parquet", "head"):
        if kind == "parquet" and not has_parquet():
            print("Parquet is left out: pyarrow is not installed.\n")
            continue
        claims += growth(kind, n_rows)
    print(claims_table(claims))


def growth(kind: str, n_rows: int) -> list[Claim]:
    """Compare the growth for a tenth of the rows with that for all of them."""
    rows, grown = [], []
    for n in (n_rows // 10, n_rows):
        found = child_result(MEASURED[kind], kind=kind, n_rows=n)
        grown.append((found["growth"] - found["output"]) / MEGABYTE)
        figures = (found["before"] / MEGABYTE, found["size"] / MEGABYTE, grown[-1])
        rows.append((f"{n} images", *map(number, figures), number(found["seconds"])))
    title = WHAT[kind]
    columns = ("in use before, MB", "images, MB", "growth to the peak, MB", "seconds")
    print(f"{table((title, *columns), rows)}\n")
    return [
        Claim(f"{title}, {n_rows} images: MB to the peak", grown[1], 500, at_least=False),
        Claim(f"{title}: MB more than for a tenth", grown[1] - grown[0], 150, at_least=False),
    ]


def extracted(kind: str, n_rows: int) -> dict[str, float]:
    """Measure the features of images in a file, which go to another file."""
    from transferclf import CNNFeatureExtractor

    with tempfile.TemporaryDirectory(dir=folder()) as place:
        X, size = (mapped if kind == "memmap" else parquet)(Path(place), n_rows)
        output = str(Path(place) / "features.npy")
        extractor = CNNFeatureExtractor("tiny", image_size=SIDE, cache=None)
        extractor.fit(X[:1]).transform(X[:100])
        measure = Measure()
        extractor.set_params(output=output).transform(X)
        return measure.result(size, 0)


def learned(kind: str, n_rows: int) -> dict[str, float]:
    """Measure a fit of the frozen default whose features are more than `max_memory` allows."""
    from transferclf import TransferClassifier

    with tempfile.TemporaryDirectory(dir=folder()) as place:
        X, size = mapped(Path(place), n_rows)
        y = np.arange(n_rows) % N_CLASSES
        small = TransferClassifier("tiny", image_size=SIDE, cache=None, max_iter=2)
        small.set_params(l2=1.0, max_iter=50).fit(X[:100], y[:100])
        classifier = TransferClassifier("tiny", image_size=SIDE, cache=None, max_memory="1MB")
        measure = Measure()
        classifier.fit(X, y)
        return measure.result(size, 0)


class Measure:
    """Memory and time since this object was made."""

    def __init__(self) -> None:
        import time

        self._clock = time.perf_counter
        self.before, self.began = resident_bytes(), self._clock()

    def result(self, size: float, output: float) -> dict[str, float]:
        """Return the figures for :func:`growth`."""
        seconds = self._clock() - self.began
        growth = peak_bytes() - self.before
        return {
            "before": self.before, "growth": growth, "size": size, "output": output,
            "seconds": seconds,
        }  # fmt: skip


def mapped(place: Path, n_rows: int) -> tuple[np.ndarray, int]:
    """Write images of different contents to a file, and map it."""
    path = place / "images.npy"
    file = np.lib.format.open_memmap(path, "w+", np.uint8, (n_rows, SIDE, SIDE, 3))
    del file  # the pages of this mapping would count
    with path.open("r+b") as file:
        file.seek(path.stat().st_size - n_rows * SIDE * SIDE * 3)
        for start in range(0, n_rows, WRITTEN_AT_ONCE):
            file.write(pictures(start, min(WRITTEN_AT_ONCE, n_rows - start)).tobytes())
    return np.load(path, mmap_mode="r"), path.stat().st_size


def parquet(place: Path, n_rows: int) -> tuple[Any, int]:
    """Write JPEG files into a column of a Parquet file, and return it as X."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = place / "images.parquet"
    schema = pa.schema([("image", pa.binary())])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, n_rows, WRITTEN_AT_ONCE):
            images = pictures(start, min(WRITTEN_AT_ONCE, n_rows - start))
            writer.write_table(pa.table({"image": list(map(jpeg, images))}, schema=schema))
    return column(path), path.stat().st_size


def column(path: Path) -> Any:
    """Return the images of a Parquet file as X, mapped into memory."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    # Parquet is compressed, so that its pages cannot be mapped: it is converted to Arrow once.
    arrow = path.with_suffix(".arrow")
    reader = pq.ParquetFile(path)
    with pa.OSFile(str(arrow), "wb") as sink, pa.ipc.new_file(sink, reader.schema_arrow) as writer:
        for batch in reader.iter_batches(WRITTEN_AT_ONCE):
            writer.write_batch(batch)
    return pa.ipc.open_file(pa.memory_map(str(arrow))).read_all()["image"]


def pictures(start: int, count: int) -> np.ndarray:
    """Return noise in large squares; each image has its number in its first pixels."""
    rng = np.random.default_rng(start)
    squares = rng.integers(0, 256, (count, SIDE // 8, SIDE // 8, 3), np.uint8)
    images = squares.repeat(8, axis=1).repeat(8, axis=2)
    numbers = np.arange(start, start + count, dtype=">u4")
    images[:, 0, :4, 0] = numbers.view(np.uint8).reshape(count, 4)
    return images


def jpeg(image: np.ndarray) -> bytes:
    """Return an image as a JPEG file."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=95)
    return file.getvalue()


def has_parquet() -> bool:
    """Whether pyarrow is installed."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        return False
    return True


def folder() -> str:
    """Return a folder for large files, which /tmp is not where it is in memory."""
    from transferclf.features.row_file import temporary_folder

    return temporary_folder()


MEASURED = {"memmap": extracted, "parquet": extracted, "head": learned}
WHAT = {
    "memmap": "features of a mapped array, output=PATH",
    "parquet": "features of a column of JPEG files, output=PATH",
    "head": "fit of the default with max_memory='1MB'",
}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, for a test")
    parser.add_argument("--rounds", type=int, help="is ignored: memory is measured once")
    parser.add_argument("--rows", type=int, help="number of images; default: 100,000")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        answer(given.child, [extracted, learned])
        sys.exit()
    main(Options(given.quick, 1), given.rows)
