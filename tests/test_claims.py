"""The log of claims: who may compute what, claims that end, and logs that are torn or refused."""

import os
import subprocess
import sys
import threading
import time

import pytest
from counting import open_files
from hypothesis import given
from hypothesis import strategies as st
from sharing_helpers import Sums, extract, pictures, sums
from test_extraction_work import by_pickle, by_threads

from transferclf import CNNFeatureExtractor
from transferclf.features import FeatureStore, claims
from transferclf.features.claim_log import NAME, Record, decoded, encoded
from transferclf.features.claims import Claims
from transferclf.features.work import in_process

A, B, C, D = (bytes([letter]) * 8 for letter in b"abcd")
OTHER_HOST = b"otherone"


def record(names=(), worker=b"worker 1", host=OTHER_HOST, process=1, start=0, lease=60, **facts):
    facts = {"n_finished": 0, "leaves": 0} | facts
    return Record(worker, host, process, start, lease, names=tuple(names), **facts)


def add(folder, *records, seconds_ago=0):
    """Append records as another worker does, and let the log be as old as that."""
    path = folder / NAME
    with open(path, "ab") as file:
        file.write(b"".join(map(encoded, records)))
    os.utime(path, (time.time() - seconds_ago,) * 2)


@pytest.fixture
def folder(tmp_path):
    return tmp_path


class TestClaims:
    def test_the_first_claim_counts(self, folder):
        with Claims(folder) as one, Claims(folder) as two:
            assert one.claim([A, B]) == {A, B}
            assert two.claim([B, C]) == {C}
            assert one.claim([C, D]) == {D}
            assert two.taken([A, B, D]) == {A, B, D}

    def test_a_claim_ends_when_its_features_are_stored(self, folder):
        with Claims(folder) as one, Claims(folder) as two:
            one.claim([A, B])
            two.claim([C])
            one.taken([])  # it knows of the other worker now
            one.finish([A])
            assert two.taken([A, B]) == {A, B}  # a claim ends as a whole
            two.has_news = False
            one.finish([B])
            assert two.taken([A, B]) == set()
            assert two.has_news

    def test_a_claim_of_which_nothing_was_granted_ends(self, folder):
        with Claims(folder) as one, Claims(folder) as two, Claims(folder) as three:
            two.claim([D])
            one.claim([A])
            assert two.claim([A]) == set()  # it has not read of the claim before it makes its own
            one.finish([A])
            two.finish([D])
            assert three.taken([A, D]) == set()

    def test_two_workers_do_not_wait_for_claims_that_neither_was_granted(self, folder):
        add(folder, record([A], lease=1))
        with Claims(folder) as one, Claims(folder) as two:
            one.claim([B])
            two.claim([C])
            one.finish([B])
            two.finish([C])
            add(folder, record([D], b"worker 2", lease=1))  # neither has read of it
            assert one.claim([D]) == two.claim([D]) == set()
            time.sleep(1.1)
            one.taken([])
            assert two.taken([D]) == set()

    def test_a_worker_that_leaves_gives_up_its_claims(self, folder):
        one, two = Claims(folder), Claims(folder)
        one.claim([A])
        two.claim([B])
        one.close()
        assert two.taken([A]) == set()
        assert two.claim([A]) == {A}
        two.close()

    def test_the_last_worker_removes_a_large_log(self, folder):
        one, two = Claims(folder), Claims(folder)
        for number in range(10_000):
            one.claim([number.to_bytes(8, "big")])
            if (folder / NAME).stat().st_size > claims._LARGE:
                break
        two.claim([A])
        one.close()
        assert (folder / NAME).exists()
        assert two.taken([bytes(8)]) == set()
        two.close()
        assert not (folder / NAME).exists()

    def test_a_log_that_is_removed_meanwhile_is_made_anew(self, folder):
        one, two = Claims(folder), Claims(folder)
        one.claim([A])
        os.unlink(folder / NAME)
        two.claim([B])
        assert one.claim([B, C]) == {C}
        assert two.taken([C]) == {C}
        one.close()
        two.close()

    def test_claims_of_a_process_that_has_ended_do_not_count(self, folder):
        ended = subprocess.Popen([sys.executable, "-c", ""])
        ended.wait()
        ours = claims._host()
        add(folder, record([A], host=ours, process=ended.pid, lease=1000))
        add(folder, record([B], b"worker 2", ours, os.getpid(), claims._start_of(os.getpid())))
        with Claims(folder) as one:
            assert one.claim([A, B]) == {A}

    @pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="no start of processes")
    def test_a_later_process_of_the_same_number_is_another_one(self, folder):
        add(folder, record([A], host=claims._host(), process=os.getpid(), start=1))
        with Claims(folder) as one:
            assert one.claim([A]) == {A}

    def test_claims_of_another_host_end_with_their_lease(self, folder):
        add(folder, record([A], lease=1), record([B], b"worker 2", lease=50))
        with Claims(folder) as one:
            assert one.claim([A, B]) == set()
            time.sleep(1.1)
            add(folder, record(worker=b"worker 2", lease=1))
            assert one.taken([A, B]) == {B}  # worker 2 has shown that it goes on
            assert one.claim([A, B]) == {A}

    def test_a_log_that_nobody_wrote_to_for_long_holds_nobody_up(self, folder):
        add(folder, record([A], lease=60), seconds_ago=100)
        with Claims(folder) as one:
            assert one.claim([A]) == {A}

    def test_no_lease_is_without_end(self, folder):
        add(folder, record([A], lease=2**32 - 1), seconds_ago=4000)
        with Claims(folder) as one:
            assert one.claim([A]) == {A}

    def test_a_slow_worker_asks_for_a_longer_lease(self, folder, monkeypatch):
        monkeypatch.setattr(claims, "LEASE", 0.0)
        with Claims(folder) as slow:
            slow.claim([A])
            time.sleep(0.6)
            slow.claim([B])
            first, second = decoded((folder / NAME).read_bytes())[0]
        assert (first.lease, second.lease) == (1, 3)

    def test_waiting_ends_with_the_news(self, folder):
        with Claims(folder) as one, Claims(folder) as two:
            one.claim([A])
            two.claim([B])
            two.has_news = False
            one.taken([])
            threading.Timer(0.05, lambda: one.finish([A])).start()
            began = time.monotonic()
            two.wait(60)
            assert time.monotonic() - began < 30
            assert two.taken([A]) == set()

    def test_threads_are_granted_each_name_once(self, folder):
        granted = []

        def work():
            with Claims(folder) as mine:
                for number in range(200):
                    granted.extend(mine.claim([number.to_bytes(8, "big")]))
                done.wait(30)

        done = threading.Barrier(4)
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(granted) == len(set(granted)) == 200


class TestLog:
    @given(st.lists(st.lists(st.binary(min_size=8, max_size=8), max_size=5)), st.data())
    def test_records_are_read_in_any_parts(self, claimed, data):
        records = [record(names, n_finished=number) for number, names in enumerate(claimed)]
        written = b"".join(map(encoded, records))
        found, rest = [], b""
        while written:
            size = data.draw(st.integers(1, 200))
            more, rest = decoded(rest + written[:size])
            found, written = found + more, written[size:]
        assert found == records

    @given(st.binary(max_size=300), st.integers(1, 75), st.binary(max_size=20))
    def test_reading_goes_on_after_damage(self, before, cut, after):
        torn = before + encoded(record([A, B, C]))[:-cut] + after
        assert decoded(torn + encoded(record([D])))[0][-1] == record([D])


REFUSED = {
    "a folder": lambda path: path.mkdir(),
    "a pipe": lambda path: os.mkfifo(path),
    "a link": lambda path: path.symlink_to(path.parent / "elsewhere"),
    "a socket": lambda path: path.symlink_to("/dev/full"),
}


def shown(folder):
    return sorted(path.name for path in folder.rglob("*") if path.suffix != ".features")


@pytest.mark.parametrize("kind", REFUSED)
def test_a_folder_that_takes_no_log_is_used_without_one(tmp_path, kind):
    X, prefix, kept = pictures(70), Sums(), FeatureStore(tmp_path)
    path = tmp_path / "transferclf-features-1" / NAME
    path.parent.mkdir()
    try:
        REFUSED[kind](path)
    except (AttributeError, OSError):
        pytest.skip(f"no {kind} on this system")
    before = shown(tmp_path)
    assert (extract(X, prefix, kept) == sums(X)).all()
    assert prefix.computed == kept.info().entries == 70
    assert shown(tmp_path) == before


@pytest.mark.parametrize("content", [b"", b"tcC1" * 1000, os.urandom(5000), b"\0" * 3_000_000])
def test_a_foreign_log_does_no_harm(tmp_path, content):
    path = tmp_path / "transferclf-features-1" / NAME
    path.parent.mkdir()
    path.write_bytes(content)
    X, prefix = pictures(70), Sums()
    assert (extract(X, prefix, FeatureStore(tmp_path)) == sums(X)).all()
    assert prefix.computed == 70
    assert not path.exists() or path.stat().st_size <= claims._LARGE + 1000


def test_a_disk_without_room_for_claims_does_no_harm(tmp_path, monkeypatch):
    class Full(claims.FileIO):
        def write(self, data):
            return super().write(data[:10])

    monkeypatch.setattr(claims, "FileIO", Full)
    X, prefix = pictures(70), Sums()
    assert (extract(X, prefix, FeatureStore(tmp_path)) == sums(X)).all()
    assert prefix.computed == 70


def test_rows_that_a_worker_on_another_host_promised_are_computed_in_the_end(tmp_path):
    X, prefix, kept = pictures(70), Sums(), FeatureStore(tmp_path)
    known = FeatureStore(tmp_path / "other")
    extract(X, Sums(), known)
    names = [digest[:8] for digest in known._disk._places]
    (tmp_path / "transferclf-features-1").mkdir()
    add(tmp_path / "transferclf-features-1", record(names[:40], lease=1))
    assert (extract(X, prefix, kept) == sums(X)).all()
    assert prefix.computed == 70


def test_rows_that_cannot_be_read_are_computed(tmp_path, monkeypatch):
    X, prefix, kept = pictures(70), Sums(), FeatureStore(tmp_path)
    monkeypatch.setattr(kept, "holds", lambda keys, refresh=True: set(keys))
    assert (extract(X, prefix, kept) == sums(X)).all()
    assert prefix.computed == 70


@pytest.mark.parametrize("run", [by_pickle, by_threads])
def test_other_maps_share_too(tmp_path, run):
    X, kept = pictures(300), FeatureStore(tmp_path)
    rows = []
    threads = [
        threading.Thread(target=lambda: rows.append(extract(X, Sums(), kept, run)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(rows) == 3
    assert all((each == sums(X)).all() for each in rows)
    assert kept.info().entries == 300


def test_extractions_in_threads_of_one_process_compute_each_image_once(tmp_path):
    X, prefixes = pictures(400), [Sums() for _ in range(3)]
    orders = [slice(None), slice(None, None, -1), slice(7, None)]
    kept = FeatureStore(tmp_path)
    threads = [
        threading.Thread(target=extract, args=(X[order], prefix, kept))
        for prefix, order in zip(prefixes, orders, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(prefix.computed for prefix in prefixes) == 400


def test_an_error_gives_up_the_claims(tmp_path):
    class Failing(Sums):
        def __call__(self, pixels):
            if self.n_batches == 1:
                raise KeyboardInterrupt
            return super().__call__(pixels)

    X, kept = pictures(100), FeatureStore(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        extract(X, Failing(), kept)
    assert decoded((tmp_path / "transferclf-features-1" / NAME).read_bytes())[0][-1].leaves
    assert open_files(tmp_path / "transferclf-features-1") == [
        str(file.resolve()) for file in tmp_path.rglob("*.features")
    ]
    prefix = Sums()
    extract(X, prefix, kept)
    assert prefix.computed == 68


def test_claims_cost_one_process_few_calls_for_a_batch(tmp_path, monkeypatch):
    """Four calls for a batch: to write, to find the place, to read, and to see the name."""
    calls = []
    for name in ("stat", "open", "unlink", "makedirs"):
        real = getattr(os, name)
        monkeypatch.setattr(
            claims.os, name, lambda *args, real=real, **more: calls.append(1) or real(*args, **more)
        )

    class Counted(claims.FileIO):
        def read(self, size=-1):
            calls.append(1)
            return super().read(size)

        def seek(self, *args):
            calls.append(1)
            return super().seek(*args)

        def write(self, data):
            calls.append(1)
            return super().write(data)

    monkeypatch.setattr(claims, "FileIO", Counted)
    counts = []
    for n_batches in (10, 20):
        calls.clear()
        with Claims(tmp_path / str(n_batches)) as mine:
            for number in range(n_batches):
                names = [(32 * number + each).to_bytes(8, "big") for each in range(32)]
                assert mine.claim(names) == set(names)
                mine.finish(names)
        counts.append(len(calls))
    assert counts[1] - counts[0] <= 10 * 4
    assert counts[0] - (counts[1] - counts[0]) <= 10


@pytest.mark.parametrize("run", [in_process, CNNFeatureExtractor()._extractor("crop").run])
def test_images_are_claimed_shortly_before_they_are_computed(tmp_path, run):
    claimed = []

    class Watched(Sums):
        def __call__(self, pixels):
            records, _ = decoded((tmp_path / "transferclf-features-1" / NAME).read_bytes())
            claimed.append(sum(len(each.names) for each in records))
            return super().__call__(pixels)

    extract(pictures(640), Watched(), FeatureStore(tmp_path), run)
    assert claimed[0] <= 5 * 32
    assert claimed[-1] == 640


def test_a_store_in_memory_and_one_with_all_rows_need_no_claims(tmp_path, monkeypatch):
    X, kept = pictures(70), FeatureStore(tmp_path)
    extract(X, Sums(), kept)

    def refuse(self):
        pytest.fail("a log was opened")

    monkeypatch.setattr(Claims, "_open", refuse)
    for each in (kept, FeatureStore(), None):
        assert (extract(X, Sums(), each) == sums(X)).all()
