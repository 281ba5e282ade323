"""Find the files of presets of keras-hub: in a folder, at Kaggle or at Hugging Face.

Nothing here imports Keras or keras-hub, so that stored features are found without them.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import json
import os
from collections.abc import Iterator
from pathlib import Path

from transferclf.exceptions import InvalidParameterError, WeightsError, how_to_install
from transferclf.graphs.digests import file_digest

CONFIG = "config.json"
IMAGE_CONVERTER = "image_converter.json"
PREPROCESSOR = "preprocessor.json"
METADATA = "metadata.json"
WEIGHTS = "model.weights.h5"
SHARDS = "model.weights.json"


def library_folder() -> Path:
    """Return the folder of keras-hub; InvalidParameterError if it is not installed."""
    spec = importlib.util.find_spec("keras_hub")
    if spec is None or not spec.submodule_search_locations:
        raise InvalidParameterError(
            "backbones of keras_hub need the package keras-hub, which is not installed. "
            + how_to_install("keras-hub")
        )
    return Path(next(iter(spec.submodule_search_locations)))


@functools.lru_cache(maxsize=4)
def built_in(models: tuple[str, ...]) -> dict[str, str]:
    """Return the Kaggle handles of keras-hub's own presets for these folders of models, by name.

    They are read from the source of the installed version. Importing keras-hub takes seconds.
    """
    found: dict[str, str] = {}
    for model in models:
        for file in sorted((library_folder() / "src" / "models" / model).glob("*_presets.py")):
            found |= dict(_handles(ast.parse(file.read_text(encoding="utf-8"))))
    return found


def is_built_in(name: str) -> bool:
    """Whether any model of keras-hub, also of texts or sound, has a preset of this name."""
    files = (library_folder() / "src" / "models").glob("*/*_presets.py")
    return any(f'"{name}":' in file.read_text(encoding="utf-8") for file in files)


def _handles(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield pairs of name and handle in entries such as {NAME: {"kaggle_handle": HANDLE}}."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Dict):
            continue
        for key, value in zip(node.keys, node.values, strict=True):
            if not isinstance(key, ast.Constant) or not isinstance(value, ast.Dict):
                continue
            for field, handle in zip(value.keys, value.values, strict=True):
                is_handle = isinstance(field, ast.Constant) and field.value == "kaggle_handle"
                if is_handle and isinstance(handle, ast.Constant):
                    yield str(key.value), str(handle.value)


def preset_file(preset: str, file: str) -> Path | None:
    """Return a file of a preset, or None if the preset has no such file; may download it.

    `preset` is a folder, or a handle that begins with "kaggle://" or "hf://". Raises WeightsError
    if the file is neither there nor can be downloaded.
    """
    scheme, colon, handle = preset.partition("://")
    if not colon:
        path = Path(preset, file)
        return path if path.is_file() else None
    fetch = {"kaggle": _from_kaggle, "hf": _from_hugging_face}.get(scheme)
    if fetch is None:
        raise InvalidParameterError(
            "a preset of keras_hub is a name, a folder, or a handle that begins with 'kaggle://' "
            f"or 'hf://'. Got {preset!r} instead."
        )
    known = _fetched.get((preset, file))
    if known is None or not known.is_file():
        path_or_none = fetch(preset, handle, file)
        if path_or_none is None:
            return None
        known = _fetched[preset, file] = path_or_none
    return known


# Files that were found, so that no file is asked for twice.
_fetched: dict[tuple[str, str], Path] = {}


def read_json(preset: str, file: str) -> dict[str, object] | None:
    """Return the content of a JSON file of a preset, or None if there is none."""
    path = preset_file(preset, file)
    if path is None:
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WeightsError(f"{path} of the preset {preset!r} is damaged: {error}") from error
    return content if isinstance(content, dict) else None


def weights_files(preset: str) -> list[Path]:
    """Return the files with the weights of a preset: one, or an index and its parts."""
    whole = preset_file(preset, WEIGHTS)
    if whole is not None:
        return [whole]
    index, map_of = preset_file(preset, SHARDS), read_json(preset, SHARDS)
    if index is None or map_of is None:
        raise WeightsError(
            f"The preset {preset!r} has no weights: neither {WEIGHTS} nor {SHARDS} is there."
        )
    weights = map_of.get("weight_map")
    named = weights.values() if isinstance(weights, dict) else ()
    names = {name for value in named for name in (value if isinstance(value, list) else [value])}
    parts = [preset_file(preset, str(name)) for name in sorted(names)]
    if not parts or None in parts:
        raise WeightsError(f"The preset {preset!r} lacks a part of its weights that {index} names.")
    return [index, *(part for part in parts if part is not None)]


def weights_digest(preset: str) -> str:
    """Return the digest of the weights of a preset."""
    digests = [file_digest(path) for path in weights_files(preset)]
    return (
        digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    )


def _from_kaggle(preset: str, handle: str, file: str) -> Path | None:
    kagglehub = _imported("kagglehub", preset)
    try:
        return Path(kagglehub.model_download(handle, file))  # type: ignore[attr-defined]
    except Exception as error:  # of the network, of Kaggle's API or of the handle
        if "404" in str(error) or "is not present in the model files" in str(error):
            return None
        folder = Path(
            os.environ.get("KAGGLEHUB_CACHE") or Path.home() / ".cache" / "kagglehub",
            "models",
            *handle.split("/"),
        )
        raise _unavailable(preset, file, f"{folder} (see KAGGLEHUB_CACHE)", error) from error


def _from_hugging_face(preset: str, handle: str, file: str) -> Path | None:
    huggingface_hub = _imported("huggingface_hub", preset)
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    download = huggingface_hub.hf_hub_download  # type: ignore[attr-defined]
    try:
        # A file that is there needs no network, and stays the same.
        return Path(download(handle, file, local_files_only=True))
    except Exception as missing:
        try:
            return Path(download(handle, file))
        except Exception as error:
            offline = isinstance(error, LocalEntryNotFoundError)
            if isinstance(error, EntryNotFoundError) and not offline:
                return None
            folder = f"{huggingface_hub.constants.HF_HUB_CACHE} (see HF_HUB_CACHE)"  # type: ignore[attr-defined]
            raise _unavailable(preset, file, folder, error) from missing


def _imported(library: str, preset: str) -> object:
    try:
        return importlib.import_module(library)
    except ImportError as error:
        raise InvalidParameterError(
            f"the preset {preset!r} needs the package {library}, which is not installed. "
            + how_to_install("keras-hub")
        ) from error


def _unavailable(preset: str, file: str, folder: str, error: Exception) -> WeightsError:
    lines = str(error).strip().splitlines()
    reason = f"{type(error).__name__}: {lines[0][:200] if lines else ''}"
    return WeightsError(
        f"{file} of the preset {preset!r} is not available: it is not in {folder}, and could not "
        f"be downloaded ({reason}). One fit with this backbone on a machine with a network puts "
        "all files there: copy that folder to this machine. Or name another folder with a preset, "
        "backbone='keras_hub:FOLDER', or use backbone='tiny', which needs no download."
    )
