"""Extraction: every distinct image goes through the prefix once.

The images flow in batches: threads decode the next ones while the network runs on the last, and
each batch is stored as soon as it is computed, so that nothing is lost when a later one fails.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from transferclf.features.store import FeatureStore
from transferclf.images.geometry import ResizeMode
from transferclf.images.loading import content_digests, load_batches
from transferclf.images.source import ImageSource

if TYPE_CHECKING:
    from transferclf.networks.prefix import Prefix

BATCH_SIZE = 32


def extract(
    source: ImageSource,
    prefix: Prefix,
    store: FeatureStore | None,
    resize: ResizeMode = "crop",
    verbose: int = 0,
) -> np.ndarray:
    """Return the activations of all images, computing only those that are not stored.

    Parameters
    ----------
    source : ImageSource
        The images.
    prefix : Prefix
        The frozen function; built only if an image is missing from the store.
    store : FeatureStore or None
        Where activations are looked up and kept; None keeps none beyond this call.
    resize : {"crop", "stretch", "pad"}, default="crop"
        How images get to the prefix's size.
    verbose : int, default=0
        1 shows a progress bar while images are computed.

    Returns
    -------
    ndarray of shape (len(source), d), float32

    Raises
    ------
    ImageError
        If images cannot be read; all of them are named.
    """
    keys = activation_keys(source, prefix, resize)
    store = FeatureStore() if store is None else store
    found = store.get_many(keys)
    first_of = {key: index for index, key in reversed(list(enumerate(keys)))}
    missing = sorted(index for key, index in first_of.items() if key not in found)
    if missing:
        found |= _computed(source, missing, keys, prefix, store, resize, verbose)
    return np.stack([found[key] for key in keys])


def activation_keys(source: ImageSource, prefix: Prefix, resize: ResizeMode) -> list[bytes]:
    """What the activations of each image are stored under: its content and what computed them."""
    computed_by = f"{prefix.digest} {resize}".encode()
    return [hashlib.sha256(digest + computed_by).digest() for digest in content_digests(source)]


def _computed(
    source: ImageSource,
    missing: Sequence[int],
    keys: Sequence[bytes],
    prefix: Prefix,
    store: FeatureStore,
    resize: ResizeMode,
    verbose: int,
) -> dict[bytes, np.ndarray]:
    forward = prefix.forward()
    advance = _progress(len(missing), len(source), verbose)
    batches = [missing[start : start + BATCH_SIZE] for start in range(0, len(missing), BATCH_SIZE)]
    computed: dict[bytes, np.ndarray] = {}
    images = load_batches(source, batches, prefix.size, resize)
    for batch, pixels in zip(batches, images, strict=True):
        activations = forward(pixels)
        new = {keys[index]: row for index, row in zip(batch, activations, strict=True)}
        store.put_many(new)
        computed |= new
        advance(len(batch))
    return computed


def _progress(missing: int, total: int, verbose: int) -> Callable[[int], None]:
    """Return a function that moves a progress bar on by so many images."""
    if not verbose:
        return lambda done: None
    import keras

    print(f"extracting features: {missing} images to compute, {total - missing} known", flush=True)
    bar = keras.utils.Progbar(missing, interval=0.5, unit_name="image")
    return lambda done: bar.add(done)
