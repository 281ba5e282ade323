"""Images behind URLs: fsspec's file system in memory, archives, and a local HTTP server."""

import io
import pickle
import sys
import zipfile
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from remote_helpers import http_server

from transferclf import CNNFeatureExtractor, FeatureStore, TransferClassifier
from transferclf.exceptions import ImageReadError, MissingImageError, TransferclfWarning
from transferclf.images import check_images
from transferclf.images.loading import content_digests, load_all
from transferclf.images.places import reading, remote
from transferclf.images.remarks import DECODED

fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed")


def png(seed=0, side=9):
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def memory():
    """Return fsspec's file system in memory, which is empty before and after."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


@pytest.fixture
def urls(memory):
    for number in range(6):
        # The name alone says that the header need not be read for its depth.
        memory.pipe(f"/photos/{number}.jpg", png(number))
    return [f"memory://photos/{number}.jpg" for number in range(6)]


@pytest.fixture
def server():
    pytest.importorskip("aiohttp", reason="aiohttp is not installed")
    with http_server() as served:
        yield served


@pytest.fixture
def reads(monkeypatch):
    """Return a Counter of the URLs that are read."""
    counts, read = Counter(), remote._bytes_of

    def counted(url):
        counts[url] += 1
        return read(url)

    monkeypatch.setattr(remote, "_bytes_of", counted)
    return counts


def never(*args):
    raise AssertionError("a network was built")


@pytest.fixture
def no_network(monkeypatch):
    from transferclf.features.frozen import Prefix

    monkeypatch.setattr(Prefix, "forward", never)


class TestReading:
    def test_a_url_has_the_pixels_and_the_digest_of_its_file(self, urls, tmp_path):
        path = tmp_path / "0.png"
        path.write_bytes(png(0))
        source = check_images(urls)
        np.testing.assert_array_equal(source.load(0), check_images([path]).load(0))
        assert content_digests(source) == content_digests(check_images(list(map(png, range(6)))))

    def test_files_and_archives_are_read(self, memory, tmp_path):
        (tmp_path / "a.png").write_bytes(png(1))
        with memory.open("/all.zip", "wb") as file, zipfile.ZipFile(file, "w") as archive:
            archive.writestr("deep/b.png", png(2))
        source = check_images([(tmp_path / "a.png").as_uri(), "zip://deep/b.png::memory://all.zip"])
        assert content_digests(source) == content_digests(check_images([png(1), png(2)]))

    def test_fsspec_may_keep_files_on_the_disk(self, server, tmp_path):
        server.files["a.png"] = png()
        fsspec.config.conf["simplecache"] = {"cache_storage": str(tmp_path)}
        try:
            check_images([f"simplecache::{server.url}a.png"]).load(0)
            server.files.clear()
            check_images([f"simplecache::{server.url}a.png"]).load(0)
        finally:
            fsspec.config.conf.pop("simplecache")

    def test_a_url_of_many_schemes_is_told_from_a_path(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        folder = tmp_path / "memory:" / "photos"
        folder.mkdir(parents=True)
        (folder / "a.png").write_bytes(png())
        # The same text means the same in every folder. Paths are written so that they are paths.
        with pytest.raises(MissingImageError):
            check_images(["memory://photos/a.png"]).load(0)
        assert check_images(["./memory://photos/a.png"]).load(0).shape == (9, 9, 3)
        with pytest.raises(MissingImageError, match="a path where there is none"):
            check_images([r"C:\photos\a.png"])

    def test_a_server_is_asked_once_for_each_image_and_by_many_threads(self, server):
        server.delay = 0.02
        server.files.update({f"{n}.png": png(n) for n in range(40)})
        source = check_images([f"{server.url}{n}.png" for n in range(40)])
        load_all(source, (8, 8), "crop")
        assert server.most_at_once > 4
        load_all(source[5:], (8, 8), "crop")
        assert set(server.asked.values()) == {1}
        assert server.sizes_asked == 0

    def test_a_pickled_source_is_read_in_its_new_process(self, urls):
        source = check_images(urls)
        source.load(3)
        data = pickle.dumps(source[2:4])
        assert len(data) < 1500
        copy = pickle.loads(data)
        np.testing.assert_array_equal(copy.load(1), source.load(3))
        assert copy.problem(1, ImageReadError("bad")).place == "3 (memory://photos/3.jpg)"


class TestCountsOfReads:
    def test_a_fit_on_a_cold_store_reads_each_image_once(self, urls, reads):
        classifier = TransferClassifier("tiny", image_size=32, cache=FeatureStore())
        classifier.fit(urls, [0, 1] * 3)
        assert reads == dict.fromkeys(urls, 1)
        classifier.predict(urls)
        assert reads == dict.fromkeys(urls, 2), "a new X is looked at anew"

    def test_images_beyond_the_kept_bytes_are_read_twice(self, urls, reads, monkeypatch):
        monkeypatch.setattr(reading, "KEPT_BYTES", 2 * len(png(0)) + 10)
        extractor = CNNFeatureExtractor("tiny", image_size=32, cache=FeatureStore()).fit([png(9)])
        extractor.transform(urls)
        assert sorted(reads.values()) == [1, 1, 2, 2, 2, 2]

    def test_only_a_few_headers_are_read_beside_the_images(self, memory, reads):
        for number in range(40):
            memory.pipe(f"/{number}.jpg", png())
        X = [f"memory://{number}.jpg" for number in range(40)]
        extractor = CNNFeatureExtractor("tiny", image_size=32, cache=None)
        extractor.fit(X)
        assert sum(reads.values()) == DECODED


class TestFaults:
    def test_all_faults_come_together_before_the_network(self, server, no_network):
        server.files.update(good=png(), cut=png(1), text=b"<html>no</html>", empty=b"")
        server.cut.add("cut")
        server.statuses.update(secret=403, moved=410, broken=500)
        names = ["good", "missing", "secret", "cut", "text", "empty", "moved", "broken"]
        X = [f"{server.url}{name}" for name in names]
        with pytest.raises(ImageReadError) as raised:
            TransferClassifier("tiny", image_size=32, cache=None).fit(X, [0, 1] * 4)
        assert raised.value.indices == [1, 2, 3, 4, 5, 6, 7]
        faults = dict(zip(names[1:], raised.value.problems, strict=True))
        assert faults["missing"].startswith(f"image 1 ({X[1]}): expected a file, got a URL where")
        assert "no permission (status 403)" in faults["secret"]
        assert "the link has expired" in faults["secret"]
        assert "expected a readable file, got ClientPayloadError" in faults["cut"]
        assert "an HTML page" in faults["text"]
        assert "an empty file" in faults["empty"]
        assert "a URL where there is none" in faults["moved"]
        assert "the status 500 of the server" in faults["broken"]

    def test_a_server_without_answer_is_given_up(self, server, monkeypatch):
        monkeypatch.setattr(remote, "TIMEOUT", 0.2)
        names = [f"{n}.png" for n in range(64)]
        server.silent.update(names)
        with pytest.raises(ImageReadError) as raised:
            load_all(check_images([server.url + name for name in names]), (8, 8), "crop")
        assert len(raised.value.indices) == 64
        last = raised.value.problems[-1]
        assert "expected an answer within 0.2 seconds, got none" in last
        assert "not read, because 8 files before it got no answer, one after another" in last
        assert sum(server.asked.values()) < 48

    def test_images_without_a_file_are_skipped_and_those_nobody_could_try_are_not(
        self, server, monkeypatch
    ):
        monkeypatch.setattr(remote, "TIMEOUT", 0.2)
        monkeypatch.setattr(reading, "UNANSWERED", 3)
        names = [f"{n}.png" for n in range(32)]
        server.files.update({name: png(n) for n, name in enumerate(names)})
        server.statuses.update({"3.png": 404, "5.png": 403})
        source = check_images([server.url + name for name in names])
        classifier = TransferClassifier("tiny", image_size=32, cache=None, on_error="skip")
        with pytest.warns(TransferclfWarning, match=r"2 of 32 images of X are left out"):
            classifier.fit(source, [0, 1] * 16)
        assert classifier.skipped_indices_.tolist() == [3, 5]
        again = check_images([server.url + name for name in names])
        server.silent.update(names)
        with pytest.raises(ImageReadError, match="not read, because 3 files before it got no"):
            classifier.predict_proba(again)
        server.silent.clear()  # the server is back, and is asked again
        with pytest.warns(TransferclfWarning, match=r"2 of 32 images cannot be used, and get NaN"):
            told = classifier.predict_proba(again)
        assert np.flatnonzero(np.isnan(told).any(axis=1)).tolist() == [3, 5]

    def test_a_server_that_is_not_there_is_named(self, server):
        url = "http://127.0.0.1:9/a.png"
        pytest.importorskip("aiohttp")
        with pytest.raises(ImageReadError, match=rf"image 0 \({url}\): .*ClientConnector"):
            load_all(check_images([url]), (8, 8), "crop")

    def test_large_files_are_not_read_to_their_end(self, server, memory, monkeypatch):
        monkeypatch.setattr(remote, "LARGEST", 1000)
        server.files["a.png"] = png(side=100)
        memory.pipe("/a.png", png(side=100))
        with memory.open("/all.zip", "wb") as file, zipfile.ZipFile(file, "w") as archive:
            archive.writestr("zeros", bytes(10**7), zipfile.ZIP_DEFLATED)
        for url in (f"{server.url}a.png", "memory://a.png", "zip://zeros::memory://all.zip"):
            with pytest.raises(ImageReadError, match="at most 1000 bytes behind a URL"):
                load_all(check_images([url]), (8, 8), "crop")

    def test_a_decompression_bomb_is_refused(self, memory):
        head = png()
        bomb = head[:16] + (60_000).to_bytes(4, "big") * 2 + head[24:]
        memory.pipe("/bomb.png", bomb)
        with pytest.raises(ImageReadError, match="image 0"):
            load_all(check_images(["memory://bomb.png"]), (8, 8), "crop")

    def test_schemes_without_their_package_are_named_at_once(self, urls, monkeypatch):
        from fsspec.registry import known_implementations

        # A module of None cannot be imported.
        monkeypatch.setitem(sys.modules, "gcsfs", None)
        strange = {
            "class": "no_such_module.System", "err": "Install strangefs",
        }  # fmt: skip
        X = [
            urls[0],
            "gs://bucket/a.png",
            "nothing://a.png",
            "strange://a.png",
            "zip://a::what://b",
        ]
        monkeypatch.setitem(known_implementations, "strange", strange)
        remote.scheme_problem.cache_clear()
        with pytest.raises(ImageReadError) as raised:
            check_images(X)
        remote.scheme_problem.cache_clear()
        assert raised.value.indices == [1, 2, 3, 4]
        assert "the package that reads gs:// URLs, got none" in raised.value.problems[0]
        assert "the unknown scheme nothing://" in raised.value.problems[1]
        assert "Install strangefs" in raised.value.problems[2]
        assert "the unknown scheme what://" in raised.value.problems[3]

    def test_without_fsspec_the_extra_is_named(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "fsspec", None)
        remote.scheme_problem.cache_clear()
        with pytest.raises(ImageReadError, match='extra "remote".*: pip install aiohttp fsspec'):
            check_images(["s3://bucket/a.png"])
        remote.scheme_problem.cache_clear()

    def test_secrets_in_urls_are_not_shown(self, server):
        secret = "0123456789abcdef0123456789abcdef"
        server.statuses["a.png"] = 403
        url = f"{server.url}a.png?id=7&Signature={secret}".replace("//", "//me:hidden@")
        with pytest.raises(ImageReadError) as raised:
            load_all(check_images([url]), (8, 8), "crop")
        assert "me:...@" in str(raised.value)
        assert "id=7&Signature=..." in str(raised.value)
        assert secret not in str(raised.value)
        assert "hidden" not in str(raised.value)
