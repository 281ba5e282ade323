"""The memory that control groups leave: limits of containers and of batch systems."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transferclf.training import control_groups, memory

SECOND = ("memory.max", "memory.current", "inactive_file")
FIRST = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
IN_JOB = "0::/slurm/job_1/step_0\n"


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Return the folder of groups; the process is in none."""
    monkeypatch.setattr(control_groups, "OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(control_groups, "GROUPS", tmp_path / "groups")
    (tmp_path / "groups").mkdir()
    return tmp_path / "groups"


def is_in(groups, text):
    (groups.parent / "own").write_text(text)


def limit(folder, most, used=0, cached=0, names=SECOND):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(f"{most}\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 7\n{names[2]} {cached}\nfile 9\n")


def test_without_groups_there_is_no_limit(groups):
    assert control_groups.room() is None
    is_in(groups, IN_JOB)
    assert control_groups.room() is None
    (groups.parent / "own").write_bytes(b"\xff")  # no text
    assert control_groups.room() is None


def test_the_group_of_the_process_limits(groups):
    is_in(groups, IN_JOB)
    limit(groups / "slurm/job_1/step_0", 1000, 300)
    assert control_groups.room() == 700


def test_a_group_around_it_limits(groups):
    is_in(groups, IN_JOB)
    limit(groups / "slurm/job_1/step_0", "max", 300)
    limit(groups / "slurm/job_1", 1000, 400)
    limit(groups / "slurm", 5000, 100)
    assert control_groups.room() == 600


def test_another_group_does_not_limit(groups):
    is_in(groups, IN_JOB)
    limit(groups / "slurm/job_2", 10)
    assert control_groups.room() is None


def test_contents_of_files_are_free(groups):
    is_in(groups, "0::/\n")
    limit(groups, 1000, 900, cached=500)
    assert control_groups.room() == 600


def test_a_container_has_its_limit_at_the_root(groups):
    is_in(groups, "0::/docker/0123\n")
    limit(groups, 1000, 100)
    assert control_groups.room() == 900


@pytest.mark.parametrize("controllers", ["memory", "cpu,memory"])
def test_the_first_version(groups, controllers):
    is_in(groups, f"5:devices:/x\n4:{controllers}:/job\n0::/\n")
    limit(groups / "memory/job", 1000, 300, cached=100, names=FIRST)
    limit(groups / "memory", 2**63 - 4096, names=FIRST)
    assert control_groups.room() == 800


def test_a_group_that_is_full_leaves_nothing(groups):
    is_in(groups, "0::/\n")
    limit(groups, 1000, 1200)
    assert control_groups.room() == 0


def test_without_statistics_all_that_is_used_counts(groups):
    is_in(groups, "0::/\n")
    limit(groups, 1000, 300)
    (groups / "memory.stat").write_text("odd line here\n")
    assert control_groups.room() == 700
    (groups / "memory.stat").unlink()
    assert control_groups.room() == 700


@given(text=st.text(alphabet="0123:/.,\nmemory", max_size=60))
def test_odd_groups_raise_nothing(tmp_path_factory, text):
    own = tmp_path_factory.mktemp("odd") / "own"
    own.write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(control_groups, "OWN_GROUPS", own)
        patch.setattr(control_groups, "GROUPS", own.parent / "groups")
        assert control_groups.room() is None


def test_the_smaller_of_both_is_free(groups, monkeypatch):
    is_in(groups, "0::/\n")
    limit(groups, 4_000_000, 1_000_000)
    monkeypatch.setattr(memory, "_available", lambda: 5_000_000)
    assert memory.free_memory() == 3_000_000
    assert memory.bytes_of("auto") == 1_500_000
    monkeypatch.setattr(memory, "_available", lambda: 2_000_000)
    assert memory.free_memory() == 2_000_000
    monkeypatch.setattr(memory, "_available", lambda: None)
    assert memory.free_memory() == 3_000_000
