"""Fixtures and options of all tests.

Most tests draw small images. Tests marked `realdata` read photographs and ImageNet weights from the
folder TRANSFERCLF_DATA, or from ``shared/data`` beside the checkout.
"""

import gc
import os
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from process_helpers import OtherProcess

SHARED = Path(__file__).resolve().parents[2] / "shared"
DATA = Path(os.environ.get("TRANSFERCLF_DATA", SHARED / "data"))

# Keras reads KERAS_HOME when it is imported, so this cannot wait for a fixture.
if "KERAS_HOME" not in os.environ and (SHARED / "keras").is_dir():
    os.environ["KERAS_HOME"] = str(SHARED / "keras")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Trainers of earlier modules that are kept: tests of later ones may use networks of the same shape.
MOST_TRAINERS, FEWEST_TRAINERS = 48, 16

os.environ["MPLBACKEND"] = "Agg"  # before the first import: a later change closes figures

# No deadline, because the machine may be busy. With `CI` set, every run tries the same examples, so
# that a failure comes from the change; elsewhere each run tries others.
settings.register_profile(
    "patient",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="CI" in os.environ,
)
settings.load_profile("patient")


def pytest_sessionstart(session):
    """Freeze TensorFlow's million objects, so that garbage collection does not visit them."""
    if session.config.getoption("dist", "no") != "no":
        return  # the workers run the tests
    import keras  # noqa: F401

    gc.collect()
    gc.freeze()


def pytest_addoption(parser):
    parser.addoption(
        "--few-parameters",
        type=int,
        metavar="N",
        help="run at most N parameter sets of each test function, spread evenly over its list; "
        "modules and tests marked `every_parameter` are left whole",
    )


def spread(count: int, most: int) -> set[int]:
    """Return `most` indices below `count`, evenly spread from the first to the last."""
    if most >= count:
        return set(range(count))
    if most == 1:
        return {0}
    return {round(i * (count - 1) / (most - 1)) for i in range(most)}


def keep_few_parameters(config, items, most: int) -> None:
    functions = defaultdict(list)
    for item in items:
        if hasattr(item, "callspec") and "every_parameter" not in item.keywords:
            functions[item.nodeid.split("[")[0]].append(item)
    left_out = {
        item
        for sets in functions.values()
        for i, item in enumerate(sets)
        if i not in spread(len(sets), most)
    }
    config.hook.pytest_deselected(items=[item for item in items if item in left_out])
    items[:] = [item for item in items if item not in left_out]


@pytest.hookimpl(trylast=True)  # after `-m` and `-k` have chosen
def pytest_collection_modifyitems(config, items):
    most = config.getoption("few_parameters")
    if most is not None:
        if most < 1:
            raise pytest.UsageError("--few-parameters must be at least 1")
        keep_few_parameters(config, items, most)
    if DATA.is_dir():
        return
    skip = pytest.mark.skip(reason=f"real images are not at {DATA}; set TRANSFERCLF_DATA")
    for item in items:
        if "realdata" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def data() -> Path:
    """Return the folder with the real images, for tests marked `realdata`."""
    return DATA


@pytest.fixture(scope="session")
def in_another_process():
    """Run a script in a process that has not run TensorFlow, and return what it prints."""
    process = OtherProcess()
    yield process
    process.close()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(autouse=True, scope="module")
def _many_networks(request):
    """Keep all networks of a module in memory, because its tests alternate between many.

    Dropping a trainer costs a collection of all garbage, in a process that has seen thousands of
    tests. Therefore the oldest are dropped together, after the module. A module that measures
    memory has `keeps_few_networks = True`.
    """
    from transferclf.features import frozen
    from transferclf.training import trainer

    if getattr(request.module, "keeps_few_networks", False):
        yield
        return
    before = frozen.FORWARDS_KEPT, trainer.TRAINERS_KEPT
    frozen.FORWARDS_KEPT, trainer.TRAINERS_KEPT = 16, 200
    yield
    frozen.FORWARDS_KEPT, trainer.TRAINERS_KEPT = before
    if len(trainer._trainers) > MOST_TRAINERS:
        drop_trainers(FEWEST_TRAINERS)


def drop_trainers(kept: int) -> None:
    """Drop all trainers but those that were used last."""
    from transferclf.engines.backend import release_kernels
    from transferclf.training import trainer

    while len(trainer._trainers) > kept:
        trainer._trainers.popitem(last=False)
    gc.collect()
    release_kernels()


@pytest.fixture(autouse=True)
def _no_figures():
    """Close all figures, so that tests do not see those of other tests."""
    yield
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")


@pytest.fixture(autouse=True)
def _empty_store():
    """Empty the store that all estimators share before each test."""
    from transferclf.features import shared_store

    shared_store().clear()
