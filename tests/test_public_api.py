"""What the package shows, and what importing it costs."""

import subprocess
import sys

import pytest

import transferclf


def run(code):
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.strip()


def test_all_is_sorted_and_is_what_there_is():
    assert transferclf.__all__ == sorted(transferclf.__all__)
    for name in transferclf.__all__:
        assert getattr(transferclf, name).__name__ == name
    assert set(transferclf.__all__) <= set(dir(transferclf))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'VGG99'"):
        _ = transferclf.VGG99


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
