"""The feature store: reads and writes in memory and on disk, compared with SQLite and joblib.

A vector has 1280 numbers, like the features of MobileNetV2. Another store than the writing one
reads the files, which are still in the system's page cache.
"""

from __future__ import annotations

import hashlib
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from measuring import Claim, Options, Timing, claims_table, start, timing_table, timings_here

from transferclf.features import FeatureStore

WIDTH = 1280
BATCH = 1000


def main(options: Options) -> None:
    n_vectors = 2000 if options.quick else 10_000
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(n_vectors, WIDTH)).astype(np.float32)
    keys = [hashlib.sha256(str(number).encode()).digest() for number in range(n_vectors)]
    entries = dict(zip(keys, vectors, strict=True))
    asked = [keys[index] for index in rng.permutation(n_vectors)]
    with tempfile.TemporaryDirectory() as folder:
        stores = {
            "memory store": FeatureStore(),
            "disk store": FeatureStore(Path(folder) / "store"),
            "SQLite": SQLiteTable(Path(folder) / "table.sqlite"),
        }
        read = reads(stores, entries, asked, Path(folder), options.rounds)
        written = writes(stores, vectors[:BATCH], options.rounds)
    print(timing_table(read, what="reading one vector", unit=1e-6, name="µs") + "\n")
    print(timing_table(written, what=f"writing {BATCH} new vectors", unit=1e-3, name="ms") + "\n")
    print(claims_table(claims(read, written)))


def claims(read: dict[str, Timing], written: dict[str, Timing]) -> list[Claim]:
    reading, writing = (
        "disk store, {} at a time: µs by {} time",
        "disk store, a batch: ms by {} time",
    )
    return [
        Claim(reading.format("1", "CPU"), read["disk store, 1 at a time"].cpu * 1e6, 10, False),
        Claim(reading.format("1", "wall"), read["disk store, 1 at a time"].wall * 1e6, 10, False),
        Claim(
            reading.format("1000", "CPU"), read["disk store, 1000 at a time"].cpu * 1e6, 10, False
        ),
        Claim(writing.format("CPU"), written["disk store"].cpu * 1e3, 50, False),
        Claim(writing.format("wall"), written["disk store"].wall * 1e3, 50, False),
    ]


class SQLiteTable:
    """The same store, written plainly with SQLite."""

    def __init__(self, path: Path):
        self._connection = sqlite3.connect(path)
        self._connection.execute("CREATE TABLE entries (key BLOB PRIMARY KEY, value BLOB)")

    def get_many(self, keys: list[bytes]) -> dict[bytes, np.ndarray]:
        """Return the vectors of these keys."""
        query = "SELECT value FROM entries WHERE key = ?"
        rows = ((key, self._connection.execute(query, (key,)).fetchone()) for key in keys)
        return {key: np.frombuffer(row[0], np.float32) for key, row in rows}

    def put_many(self, entries: dict[bytes, np.ndarray]) -> None:
        """Store these vectors."""
        rows = [(key, value.tobytes()) for key, value in entries.items()]
        with self._connection:
            self._connection.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?)", rows)


def reads(
    stores: dict[str, Any],
    entries: dict[bytes, np.ndarray],
    asked: list[bytes],
    folder: Path,
    rounds: int,
) -> dict[str, Timing]:
    """Return the seconds for one vector, read one by one and in batches, in random order."""
    candidates: dict[str, Callable[[], Any]] = {}
    for name, store in stores.items():
        store.put_many(entries)
        reader = FeatureStore(store.path) if getattr(store, "path", None) else store
        candidates[f"{name}, 1 at a time"] = lambda reader=reader: read_by(reader, asked, 1)
        candidates[f"{name}, {BATCH} at a time"] = lambda reader=reader: read_by(
            reader, asked, BATCH
        )
    memory = joblib.Memory(folder / "joblib", verbose=0)
    cached, few = memory.cache(lambda key: entries[key]), asked[:BATCH]
    candidates["joblib.Memory"] = lambda: [cached(key) for key in few]
    timed = timings_here(candidates, rounds)
    numbers = {name: len(few) if "joblib" in name else len(asked) for name in timed}
    return {name: timed[name] * (1 / numbers[name]) for name in timed}


def read_by(store: Any, keys: list[bytes], step: int) -> None:
    for begin in range(0, len(keys), step):
        batch = keys[begin : begin + step]
        found = store.get_many(batch)
        if len(found) != len(batch):
            raise RuntimeError(f"expected {len(batch)} vectors, got {len(found)}")


def writes(stores: dict[str, Any], vectors: np.ndarray, rounds: int) -> dict[str, Timing]:
    """Return the seconds for writing a batch of new keys."""
    fresh = iter(range(10**9))

    def write(store: Any) -> None:
        number = next(fresh)
        names = (f"{number} {index}" for index in range(len(vectors)))
        keys = [hashlib.sha256(name.encode()).digest() for name in names]
        store.put_many(dict(zip(keys, vectors, strict=True)))

    return timings_here(
        {name: lambda store=store: write(store) for name, store in stores.items()}, rounds
    )


if __name__ == "__main__":
    start(main)
