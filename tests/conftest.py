"""Where the tests get images and weights from.

Most draw small pictures. Those marked `realdata` read photographs and ImageNet weights from
outside the project: from the folder TRANSFERCLF_DATA, or from ``shared/data`` beside the checkout.
"""

import gc
import os
from pathlib import Path

import numpy as np
import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"
DATA = Path(os.environ.get("TRANSFERCLF_DATA", SHARED / "data"))

# Keras reads KERAS_HOME when it is imported, so this cannot wait for a fixture.
if "KERAS_HOME" not in os.environ and (SHARED / "keras").is_dir():
    os.environ["KERAS_HOME"] = str(SHARED / "keras")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def pytest_sessionstart(session):
    """TensorFlow's million objects stay, so that no collection of garbage has to look at them."""
    if session.config.getoption("numprocesses", None):
        return  # the workers run the tests
    import keras  # noqa: F401

    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items):
    if DATA.is_dir():
        return
    skip = pytest.mark.skip(reason=f"real images are not at {DATA}; set TRANSFERCLF_DATA")
    for item in items:
        if "realdata" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder with the real images; only for tests marked `realdata`."""
    return DATA


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _empty_store():
    """Every test starts with nothing in the store that all estimators share."""
    from transferclf.features import shared_store

    shared_store().clear()
