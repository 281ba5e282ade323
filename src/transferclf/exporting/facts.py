"""The facts that travel inside an exported file: names of the outputs, and what the input is."""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from transferclf.exceptions import ArchiveError
from transferclf.graphs.digests import version_of
from transferclf.images.geometry import RESIZE_MODES, ResizeMode

if TYPE_CHECKING:
    from transferclf.estimators.classifier import TransferClassifier
    from transferclf.estimators.extractor import CNNFeatureExtractor
    from transferclf.estimators.regressor import TransferRegressor

    Exportable = TransferClassifier | TransferRegressor | CNNFeatureExtractor

# Names of the output by what it is.
OUTPUTS = {
    "classes": "probabilities",
    "labels": "probabilities",
    "numbers": "values",
    "features": "features",
}
LONGEST = 2**24  # characters of a file's facts
MEMBER = "transferclf.json"  # the facts in a zip
# Errors of damaged zips; RuntimeError is for encrypted ones and unknown kinds of compression.
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError)


@dataclass(frozen=True)
class Facts:
    """What a program has to know to use an exported file.

    Attributes
    ----------
    task : {"classes", "labels", "numbers", "features"}
        What the outputs are: probabilities of classes, of which one is right; of labels, of which
        any number is; values; or features.
    names : tuple of str, int or float
        Name of each output: the classes, the labels or the names of the numbers.
    size : (int, int)
        Height and width that the network needs.
    resize : {"crop", "stretch", "pad"}
        How an image of another size gets this size.
    takes_any_size : bool
        Whether the file resizes images itself. Otherwise they must have `size`.
    pixels : str
        What the numbers of the input are.
    backbone : str
        Name of the network.
    version : str
        Version of this package that wrote the file.
    digest : str
        Digest of the network and of what was learned, in hexadecimal digits.
    quantize : {None, "float16", "int8"}
        Number format of the weights, other than float32.
    """

    task: str
    names: tuple[Any, ...]
    size: tuple[int, int]
    resize: ResizeMode
    takes_any_size: bool
    backbone: str
    version: str
    digest: str
    quantize: str | None = None
    pixels: str = "RGB, 0 to 255, uint8, shape (n, height, width, 3)"

    @property
    def output(self) -> str:
        """Name of the output in the file."""
        return OUTPUTS[self.task]

    def text(self) -> str:
        """Return the facts as JSON."""
        return json.dumps(asdict(self), ensure_ascii=True)

    @classmethod
    def from_text(cls, text: str | None) -> Facts:
        """Read the facts from JSON. ArchiveError is raised if it does not hold them."""
        try:
            if text is None or len(text) > LONGEST:
                raise ValueError("it has none, or too many")
            read = json.loads(text)
            facts = cls(**read)
            if facts.task not in OUTPUTS or facts.resize not in RESIZE_MODES:
                raise ValueError(f"task {facts.task!r:.50}, resize {facts.resize!r:.50}")
            height, width = map(int, facts.size)
            if min(height, width) < 1:
                raise ValueError(f"size {facts.size!r:.50}")
            return cls(**read | {"names": tuple(facts.names), "size": (height, width)})
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            raise ArchiveError(
                f"expected a file that transferclf.export wrote, with facts about its classes; "
                f"got other facts: {error!s:.200}"
            ) from None


def facts_in_zip(file: Path | IO[bytes], name: str) -> Facts:
    """Return the facts in a zip. ArchiveError is raised if it is none, or has no facts."""
    try:
        with zipfile.ZipFile(file) as packed:
            if MEMBER not in packed.namelist() or packed.getinfo(MEMBER).file_size > LONGEST:
                return Facts.from_text(None)
            return Facts.from_text(packed.read(MEMBER).decode())
    except (*DAMAGED, UnicodeDecodeError) as error:
        raise ArchiveError(f"{name} has no facts about its classes: {error!s:.200}") from None


def facts_of(estimator: Exportable, takes_any_size: bool, quantize: str | None) -> Facts:
    """Return the facts of a fitted estimator."""
    prefix, head = estimator.prefix_, getattr(estimator, "head_", None)
    if head is None:
        task, names = "features", estimator.get_feature_names_out().tolist()
    else:
        objective = head.suffix.objective
        task, names = objective.outputs, objective.output_names().tolist()
    return Facts(
        task=task,
        names=tuple(names),
        size=prefix.size,
        resize=estimator.resize_,
        takes_any_size=takes_any_size,
        backbone=prefix.backbone.name,
        version=version_of("transferclf"),
        digest=_digest(estimator),
        quantize=quantize,
    )


def _digest(estimator: Exportable) -> str:
    """Return the digest of the network and of all that was learned."""
    digest = hashlib.sha256(estimator.prefix_.whole().digest.encode())
    head = getattr(estimator, "head_", None)
    if head is not None:
        learned: Mapping[str, list] = {"": list(head.weights), **head.tuned()}
        for name in sorted(learned):
            digest.update(name.encode())
            for values in learned[name]:
                digest.update(values.tobytes())
    return digest.hexdigest()
