"""Tests of the public names, and of the modules that importing them loads."""

import subprocess
import sys

import pytest

import transferclf
from transferclf import reports


def run(code):
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.strip()


def test_all_is_sorted_and_lists_every_public_name():
    for package in (transferclf, reports):
        assert package.__all__ == sorted(package.__all__)
        for name in package.__all__:
            assert getattr(package, name).__name__ == name
        assert set(package.__all__) <= set(dir(package))


def test_an_unknown_name_raises_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'VGG99'"):
        _ = transferclf.VGG99
    with pytest.raises(AttributeError, match="no attribute 'VGG99'"):
        _ = reports.VGG99


def test_importing_the_package_imports_neither_tensorflow_nor_sklearn():
    loaded = run(
        "import sys, transferclf;"
        "print([n for n in ('tensorflow', 'keras', 'sklearn', 'numpy') if n in sys.modules])"
    )
    assert loaded == "[]"


def test_importing_the_public_names_does_not_import_tensorflow():
    loaded = run(
        "import sys, transferclf\n"
        "for name in transferclf.__all__:\n"
        "    getattr(transferclf, name)\n"
        "    print(name, *{'tensorflow', 'keras'} & set(sys.modules))"
    )
    assert loaded.splitlines() == transferclf.__all__


def test_importing_the_reports_imports_neither_tensorflow_nor_matplotlib():
    loaded = run(
        "import sys; from transferclf import reports\n"
        "for name in reports.__all__:\n"
        "    getattr(reports, name)\n"
        "    print(name, *{'tensorflow', 'keras', 'matplotlib'} & set(sys.modules))"
    )
    assert loaded.splitlines() == reports.__all__


def test_no_module_of_the_reports_hides_a_name(in_another_process):
    told = in_another_process(
        "import importlib; from transferclf import reports\n"
        "for home in sorted(set(reports._HOME.values())): importlib.import_module(home)\n"
        "print([n for n in reports.__all__ if getattr(reports, n).__name__ != n])"
    )
    assert told.strip() == "[]"


def test_parameters_and_images_are_checked_without_tensorflow():
    loaded = run(
        "import sys, numpy as np; from transferclf import TransferClassifier\n"
        "try: TransferClassifier('tiny').fit(np.zeros((0, 8, 8)), [])\n"
        "except ValueError: print('tensorflow' in sys.modules)"
    )
    assert loaded == "False"


def test_the_version_is_the_installed_one():
    from importlib.metadata import version

    assert version("transferclf") == transferclf.__version__
