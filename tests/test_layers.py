"""Rooms import only rooms that the table of CONTRIBUTING.md allows; the table has no cycle."""

import ast
import re
from pathlib import Path

import pytest

import transferclf

ROOT = Path(transferclf.__file__).parent
CONTRIBUTING = Path(__file__).parents[1] / "CONTRIBUTING.md"
MODULES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")
NAME = re.compile(r"`(\w+)(?:\.py|/)?`")


def room(path):
    return path.relative_to(ROOT).with_suffix("").parts[0]


EACH_ROOM = pytest.mark.parametrize("name", sorted({room(path) for path in MODULES}))


def modules_of(name):
    return [path for path in MODULES if room(path) == name]


def allowed():
    """Return the rooms that each room may import, from the lowest to the highest in the table."""
    lines = CONTRIBUTING.read_text().partition("| room |")[2].partition("\n\n")[0].splitlines()
    rooms = [line.split("|") for line in lines if NAME.match(line.strip("| "))]
    return {NAME.search(first)[1]: set(NAME.findall(last)) for _, first, _, last, _ in rooms}


def imported(path):
    """Return the full names of all imports of a module, in functions and for type checkers too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module


def rooms_imported(path):
    parts = [name.split(".") for name in imported(path)]
    return {names[1] for names in parts if names[0] == "transferclf" and len(names) > 1}


def test_the_table_lists_every_room_once_and_in_the_order_of_imports():
    table = allowed()
    assert set(table) == {room(path) for path in MODULES}
    below = set()
    for name, others in table.items():
        assert others <= below, f"{name} imports a room that stands below it in the table"
        below.add(name)


def test_every_import_in_the_table_is_used():
    used = {name: set() for name in allowed()}
    for path in MODULES:
        used[room(path)] |= rooms_imported(path)
    assert {name: others - {name} for name, others in used.items()} == allowed()


@EACH_ROOM
def test_rooms_import_only_rooms_of_the_table(name):
    for path in modules_of(name):
        assert rooms_imported(path) - {name} <= allowed()[name], path


@EACH_ROOM
def test_rooms_import_only_their_own_libraries(name):
    forbidden = set()
    if name in ("images", "datasets"):
        forbidden |= {"keras"}
    if name in ("images", "graphs", "engines", "backbones", "augmentation", "features"):
        forbidden |= {"sklearn"}
    for path in modules_of(name):
        libraries = {imports.split(".")[0] for imports in imported(path)}
        # One file holds all private API of TensorFlow and Keras.
        own = {"tensorflow"} if name != "engines" and path.name != "_private.py" else set()
        assert libraries & (forbidden | own) == set(), path


@EACH_ROOM
def test_modules_and_functions_stay_small(name):
    for path in modules_of(name):
        text = path.read_text()
        assert len(text.splitlines()) <= 400, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                has_docstring = ast.get_docstring(node) is not None
                first = node.body[1 if has_docstring and len(node.body) > 1 else 0]
                assert node.end_lineno - first.lineno < 40, f"{path}: {node.name} is too long"
