"""The examples in docstrings run, and public names are documented."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

import transferclf
from transferclf import reports

pytestmark = pytest.mark.every_parameter  # every example is a parameter

MODULES = [
    module.name for module in pkgutil.walk_packages(transferclf.__path__, prefix="transferclf.")
]


@pytest.mark.newest
@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name, monkeypatch):
    from transferclf.backbones import registry as backbones

    if name.endswith(("timm_network", "timm_taps")):
        pytest.importorskip("timm")  # all of their functions use it
    # An example may register a backbone, which other examples must not see.
    monkeypatch.setattr(backbones, "_REGISTRY", dict(backbones._REGISTRY))
    outcome = doctest.testmod(
        importlib.import_module(name),
        optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS,
    )
    assert outcome.failed == 0


PUBLIC = [(package, name) for package in (transferclf, reports) for name in package.__all__]


@pytest.mark.parametrize(
    ("package", "name"), PUBLIC, ids=lambda part: getattr(part, "__name__", part)
)
def test_public_names_have_numpydoc_with_an_example(package, name):
    thing = getattr(package, name)
    documentation = inspect.getdoc(thing)
    assert "Examples\n--------" in documentation
    # Users do not construct some classes, such as Evaluation; their attributes are documented.
    if set(inspect.signature(thing).parameters) - {"kwargs"}:
        assert "Parameters\n----------" in documentation


@pytest.mark.parametrize("name", ["CNNFeatureExtractor", "TransferClassifier", "TransferRegressor"])
def test_every_parameter_is_documented_with_its_default(name):
    estimator = getattr(transferclf, name)
    documentation = inspect.getdoc(estimator)
    for parameter in inspect.signature(estimator).parameters.values():
        line = next(
            line for line in documentation.splitlines() if line.startswith(f"{parameter.name} : ")
        )
        default = f'"{parameter.default}"' if isinstance(parameter.default, str) else (
            str(parameter.default)
        )  # fmt: skip
        assert line.endswith(f"default={default}"), line
