"""Class folders and tables behind URLs, on fsspec's file system in memory and by HTTP."""

import io
import os
import zipfile

import numpy as np
import pytest
from PIL import Image
from remote_helpers import http_server

from transferclf import load_image_folder, load_image_table
from transferclf.datasets.remote_paths import RemotePath
from transferclf.exceptions import ImageError, ImageReadError, InvalidParameterError
from transferclf.images import check_images
from transferclf.images.loading import load_all

fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed")


def png(level):
    file = io.BytesIO()
    Image.new("L", (6, 5), level).save(file, "PNG")
    return file.getvalue()


FILES = {
    "cat/img2.png": png(2),
    "cat/img10.png": png(10),
    "cat/notes.txt": b"a text",
    "dog/b.png": png(30),
    "dog/monday/c.png": png(40),
}


@pytest.fixture
def memory():
    """Return fsspec's file system in memory, with two class folders."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    for name, data in FILES.items():
        system.pipe(f"/bucket/pets/{name}", data)
    yield system
    system.store.clear()


@pytest.fixture
def on_disk(tmp_path):
    for name, data in FILES.items():
        file = tmp_path / "pets" / name
        os.makedirs(file.parent, exist_ok=True)
        file.write_bytes(data)
    return tmp_path / "pets"


def brightness(paths):
    source = check_images(list(paths))
    return [int(source.load(index)[0, 0, 0]) for index in range(len(source))]


@pytest.mark.parametrize("recursive", [False, True])
def test_a_remote_folder_is_read_like_one_on_a_disk(memory, on_disk, recursive):
    url = "memory://bucket/pets"
    with pytest.warns(match="left out"):
        far = load_image_folder(url, recursive=recursive)
    with pytest.warns(match="left out"):
        near = load_image_folder(on_disk, recursive=recursive)
    for name in ("target", "filenames"):
        np.testing.assert_array_equal(far[name], near[name])
    assert far.target_names == near.target_names
    assert far.data[0] == f"{url}/cat/img2.png"
    assert brightness(far.data) == brightness(near.data)
    if recursive:
        np.testing.assert_array_equal(far.groups, near.groups)


def test_splits_and_classes_of_a_remote_folder(memory):
    for split in ("train", "test"):
        memory.pipe(f"/sets/{split}/cat/{split}.png", png(1))
        memory.pipe(f"/sets/{split}/dog/{split}.png", png(1))
    bunch = load_image_folder("memory://sets/", split="test", classes=["dog"])
    assert bunch.data.tolist() == ["memory://sets/test/dog/test.png"]
    with pytest.raises(InvalidParameterError, match="say which with split="):
        load_image_folder("memory://sets")


def test_folders_in_an_archive(memory):
    with memory.open("/all.zip", "wb") as file, zipfile.ZipFile(file, "w") as archive:
        for name, data in FILES.items():
            archive.writestr(f"pets/{name}", data)
    with pytest.warns(match="left out"):
        bunch = load_image_folder("zip://pets::memory://all.zip")
    assert bunch.data[0] == "zip://pets/cat/img2.png::memory://all.zip"
    assert brightness(bunch.data) == [2, 10, 30]


def test_each_folder_is_listed_once(memory, monkeypatch):
    listed, ls = [], type(memory).ls

    def noted(system, path, **kwargs):
        listed.append(path)
        return ls(system, path, **kwargs)

    monkeypatch.setattr(type(memory), "ls", noted)
    with pytest.warns(match="left out"):
        load_image_folder("memory://bucket/pets")
    assert len(listed) == len(set(listed))


def test_a_page_of_links_is_a_folder():
    pytest.importorskip("aiohttp", reason="aiohttp is not installed")

    def page(*links):
        return "".join(f'<a href="{link}">x</a>' for link in links).encode()

    with http_server() as server:
        server.files["pets/"] = page("../", "?C=N", "big%20cat/", "/other/", "http://127.0.0.1/x/")
        # Servers lead from a folder without a slash to the one with it.
        server.files["pets/big%20cat"] = page("1.png")
        server.files["pets/big%20cat/1.png"] = png(7)
        bunch = load_image_folder(f"{server.url}pets/")
        assert bunch.target.tolist() == ["big cat"]
        assert brightness(bunch.data) == [7]


def test_faults_of_remote_folders(memory):
    with pytest.raises(FileNotFoundError, match="got 'memory://bucket/nothing'"):
        load_image_folder("memory://bucket/nothing")
    with pytest.raises(NotADirectoryError):
        load_image_folder("memory://bucket/pets/cat/img2.png")
    memory.pipe("/texts/a/b.txt", b"text")
    with pytest.raises(ImageError, match="No images in 'memory://texts'.*a/b.txt has no known"):
        load_image_folder("memory://texts")
    with pytest.raises(ImageReadError, match="cannot be listed: .*unknown scheme nothing://"):
        load_image_folder("nothing://bucket")


def test_a_folder_without_permission_is_named(memory, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError("Forbidden")

    monkeypatch.setattr(type(memory), "ls", refuse)
    with pytest.raises(ImageReadError, match="memory://bucket cannot be listed: .* no permission"):
        load_image_folder("memory://bucket")


def test_a_remote_table_with_files_beside_it(memory):
    memory.pipe("/bucket/pets/labels.csv", "file,pet\ncat/img2.png,cat\ndog/b.png,dög\n".encode())
    bunch = load_image_table("memory://bucket/pets/labels.csv", "file", "pet")
    assert bunch.data.tolist() == [
        "memory://bucket/pets/cat/img2.png",
        "memory://bucket/pets/dog/b.png",
    ]
    assert bunch.filenames.tolist() == ["cat/img2.png", "dog/b.png"]
    assert bunch.target.tolist() == ["cat", "dög"]
    assert brightness(bunch.data) == [2, 30]


def test_a_table_of_urls_and_paths(memory, on_disk):
    table = on_disk / "labels.csv"
    table.write_text("file,pet\nmemory://bucket/pets/cat/img10.png,cat\ndog/b.png,dog\n")
    bunch = load_image_table(table, "file", "pet")
    assert brightness(bunch.data) == [10, 30]
    assert bunch.filenames.tolist() == ["memory://bucket/pets/cat/img10.png", "dog/b.png"]
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"file": ["cat/img2.png", "dog/gone.png"], "pet": ["cat", "dog"]})
    bunch = load_image_table(frame, "file", "pet", root="memory://bucket/pets")
    with pytest.raises(ImageReadError, match=r"image 1 \(memory://bucket/pets/dog/gone.png\)"):
        load_all(check_images(bunch.data), (4, 4), "crop")


def test_missing_remote_tables_are_an_error(memory):
    with pytest.raises(FileNotFoundError):
        load_image_table("memory://bucket/none.csv", "file", "pet")
    with pytest.raises(IsADirectoryError):
        load_image_table("memory://bucket/pets", "file", "pet")


@pytest.mark.parametrize(
    ("url", "parent", "below"),
    [
        ("s3://b/k/t.csv", "s3://b/k/", "s3://b/k/t.csv/x"),
        ("https://h/t.csv?sig=1", "https://h/", "https://h/t.csv?sig=1/x"),
        ("zip://t.csv::s3://b/all.zip", "zip://::s3://b/all.zip", "zip://t.csv/x::s3://b/all.zip"),
        ("simplecache::s3://b/t.csv", "simplecache::s3://b/", "simplecache::s3://b/t.csv/x"),
    ],
)
def test_paths_in_urls(url, parent, below):
    assert str(RemotePath(url)) == url
    assert str(RemotePath(url) / "x") == below
    assert RemotePath(url).name.startswith("t.csv")
    assert str(RemotePath(url).parent) == parent
