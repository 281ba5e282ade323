"""Imports between the rooms of the house go downward only."""

import ast
from pathlib import Path

import pytest

import transferclf

ROOT = Path(transferclf.__file__).parent
LAYERS = {
    "_spelling": 0,
    "exceptions": 0,
    "images": 1,
    "datasets": 2,
    "networks": 3,
    "features": 4,
    "training": 5,
    "_validation": 6,
    "_base": 6,
    "_learning": 6,
    "_recipes": 6,
    "classifier": 6,
    "extractor": 6,
    "imagenet": 6,
    "persistence": 7,
    "reports": 8,
}
MODULES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def room(path):
    return path.relative_to(ROOT).with_suffix("").parts[0]


def imported(path):
    """Full names of all that a module imports, also inside functions and for type checkers."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_downward(path):
    for name in imported(path):
        parts = name.split(".")
        if parts[0] == "transferclf":
            assert LAYERS[parts[1]] <= LAYERS[room(path)], f"{path} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_rooms_know_only_their_own_libraries(path):
    libraries = {name.split(".")[0] for name in imported(path)}
    if path.name != "inference.py":
        assert "tensorflow" not in libraries
    if room(path) in ("images", "datasets"):
        assert "keras" not in libraries
    if room(path) in ("images", "networks", "features"):
        assert "sklearn" not in libraries


def test_every_room_has_a_layer():
    assert {room(path) for path in MODULES} <= set(LAYERS)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_rooms_stay_small(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            has_docstring = ast.get_docstring(node) is not None
            first = node.body[1 if has_docstring and len(node.body) > 1 else 0]
            assert node.end_lineno - first.lineno < 40, f"{node.name} is too long"
