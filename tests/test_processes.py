"""Tests of searches in several processes: they share the store on disk and import little."""

import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from sharing_helpers import n_stored
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV

from transferclf import TransferClassifier

N = 60
GRID = {"l2": [1e-3, 1e-1]}


@pytest.fixture
def digits():
    data = load_digits()
    return data.images[:N], data.target[:N] % 3


def tiny(**changes):
    parameters = {"image_size": 32, "pixel_range": (0, 16), "random_state": 0}
    return TransferClassifier("tiny", **(parameters | changes))


def run_python(code, *arguments):
    """Run a script in a new process, and return its output, read as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


SEARCH = """
    import json, sys
    import numpy as np
    from sklearn.datasets import load_digits
    from sklearn.model_selection import GridSearchCV
    from transferclf import TransferClassifier
    from transferclf.features import store_for

    def score(estimator, X, y):
        return {
            "accuracy": estimator.score(X, y),
            "tensorflow": float("tensorflow" in sys.modules or "keras" in sys.modules),
        }

    data = load_digits()
    X, y = data.images[:60], data.target[:60] % 3
    classifier = TransferClassifier(
        "tiny", image_size=32, pixel_range=(0, 16), random_state=0, cache=sys.argv[1]
    )
    search = GridSearchCV(
        classifier, {"l2": [1e-3, 1e-1]}, cv=3, scoring=score, refit="accuracy",
        n_jobs=int(sys.argv[2]),
    ).fit(X, y)
    print(json.dumps({
        "workers": search.cv_results_["mean_test_tensorflow"].max(),
        "parent": "tensorflow" in sys.modules or "keras" in sys.modules,
        "scores": search.cv_results_["mean_test_accuracy"].tolist(),
        "misses": store_for(sys.argv[1]).info().misses,
        "proba": search.predict_proba(X).tolist(),
    }))
"""


@pytest.mark.slow
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_search_with_a_warm_store_needs_no_tensorflow(digits, tmp_path, n_jobs):
    images, labels = digits
    here = GridSearchCV(tiny(cache=tmp_path), GRID, cv=3).fit(images, labels)
    there = run_python(SEARCH, tmp_path, n_jobs)
    assert not there["parent"]
    assert there["workers"] == 0
    assert there["misses"] == 0
    assert there["scores"] == here.cv_results_["mean_test_score"].tolist()
    np.testing.assert_array_equal(there["proba"], here.predict_proba(images))


@pytest.mark.slow
def test_all_processes_fill_a_cold_store(digits, tmp_path):
    images, labels = digits
    grid = [{"hidden_units": [()]}, {"hidden_units": [(8,)], "epochs": [2]}]
    serial = GridSearchCV(tiny(), grid, cv=2).fit(images, labels)
    parallel = GridSearchCV(tiny(cache=tmp_path), grid, cv=2, n_jobs=2).fit(images, labels)
    assert N <= n_stored(tmp_path) <= 1.05 * N
    np.testing.assert_allclose(
        parallel.cv_results_["mean_test_score"], serial.cv_results_["mean_test_score"]
    )
    np.testing.assert_allclose(
        parallel.predict_proba(images), serial.predict_proba(images), atol=1e-5
    )
    before = parallel.best_estimator_.prefix_.forward().images_seen
    tiny(cache=tmp_path).fit(images, labels)
    assert parallel.best_estimator_.prefix_.forward().images_seen == before
