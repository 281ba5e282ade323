"""Images in a bucket of S3, as a local server of moto imitates it."""

import io

import numpy as np
import pytest
from PIL import Image

from transferclf import load_image_folder
from transferclf.exceptions import ImageError, ImageReadError
from transferclf.images import check_images
from transferclf.images.loading import content_digests, load_all

s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed")
moto = pytest.importorskip("moto.server", reason="moto[server] is not installed")


def png(level):
    file = io.BytesIO()
    Image.new("L", (6, 5), level).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def bucket():
    """Return the file system of a server with one bucket of two class folders."""
    import fsspec

    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    options = {
        "key": "key",
        "secret": "secret",
        "client_kwargs": {"region_name": "eu-west-1"},
        "endpoint_url": f"http://{host}:{port}",
    }
    fsspec.config.conf["s3"] = options
    system = fsspec.filesystem("s3")
    system.mkdir("pets")
    for name, level in {"cat/1.png": 10, "cat/2.png": 20, "dog/1.png": 30}.items():
        system.pipe(f"pets/{name}", png(level))
    system.pipe("pets/notes/a.txt", b"text")
    yield system
    fsspec.config.conf.pop("s3")
    server.stop()


def test_a_folder_in_a_bucket_is_read(bucket):
    with pytest.warns(match="left out"):
        bunch = load_image_folder("s3://pets")
    assert bunch.data.tolist() == [
        "s3://pets/cat/1.png",
        "s3://pets/cat/2.png",
        "s3://pets/dog/1.png",
    ]
    assert bunch.target.tolist() == ["cat", "cat", "dog"]
    source = check_images(bunch.data)
    assert content_digests(source) == content_digests(check_images([png(10), png(20), png(30)]))
    assert np.all(source.load(2) == 30)


def test_faults_in_a_bucket_are_named_together(bucket):
    bucket.pipe("pets/empty.png", b"")
    X = ["s3://pets/cat/1.png", "s3://pets/none.png", "s3://nowhere/1.png", "s3://pets/empty.png"]
    with pytest.raises(ImageReadError) as raised:
        load_all(check_images(X), (4, 4), "crop")
    assert raised.value.indices == [1, 2, 3]
    texts = raised.value.problems
    assert (
        texts[0] == "image 1 (s3://pets/none.png): expected a file, got a URL where there is none"
    )
    assert "image 2 (s3://nowhere/1.png): expected a file, got a URL" in texts[1]
    assert texts[2] == "image 3 (s3://pets/empty.png): expected an image file, got an empty file"


def test_folders_without_images_are_an_error(bucket):
    with pytest.raises(ImageError, match="No images in 's3://pets/notes'"):
        load_image_folder("s3://pets/notes")
    with pytest.raises(FileNotFoundError):
        load_image_folder("s3://nowhere")


def test_a_bucket_without_permission_is_named(bucket, monkeypatch):
    async def refuse(*args, **kwargs):
        raise PermissionError("Access Denied")

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", refuse)
    bucket.invalidate_cache()
    with pytest.raises(ImageReadError, match="got no permission"):
        load_all(check_images(["s3://pets/cat/1.png"]), (4, 4), "crop")
