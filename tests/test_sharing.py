"""Processes that fill one store at the same time: each image is computed by one of them."""

import os

import pytest
from sharing_helpers import run_workers

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")

MOST = 1.05  # times the distinct images


@pytest.mark.parametrize("n_workers", [2, 4])
def test_workers_that_start_together_compute_each_image_once(tmp_path, n_workers):
    codes, computed, stored = run_workers(tmp_path, n_workers, 400)
    assert codes == [0] * n_workers
    assert 400 <= sum(computed) <= MOST * 400
    assert 400 <= stored <= MOST * 400
    assert sum(count > 0 for count in computed) > 1  # nobody has claimed everything


def test_the_images_of_a_worker_that_is_killed_are_computed_by_the_others(tmp_path):
    """It dies where most is lost: when a batch is computed, and not stored yet."""
    codes, computed, stored = run_workers(tmp_path, 3, 960, signal="SIGKILL", stop_at=3)
    assert codes == [-9, 0, 0]
    assert computed.count(96) >= 1
    assert 960 <= sum(computed) <= MOST * 960
    assert stored == 960


def test_a_worker_that_stands_still_holds_nobody_up(tmp_path):
    codes, computed, _ = run_workers(
        tmp_path, 3, 320, folds=[None], signal="SIGSTOP", stop_at=1, lease=1
    )
    assert codes == [-9, 0, 0]
    assert 320 <= sum(computed) <= 320 + 4 * 32  # its batches in work are computed twice at worst


def test_many_processes_can_use_one_store_at_once(tmp_path):
    codes, computed, stored = run_workers(tmp_path, 16, 320, folds=[None], pause=0)
    assert codes == [0] * 16
    assert sum(computed) == stored == 320


@pytest.mark.slow
def test_a_hundred_processes_can_use_one_store_at_once(tmp_path):
    codes, computed, stored = run_workers(tmp_path, 100, 960)
    assert codes == [0] * 100
    assert 960 <= stored <= sum(computed) <= MOST * 960
