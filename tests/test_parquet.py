"""Parquet files with images: read in blocks, sliced as arrays, and damaged in several ways."""

import io
import pickle

import numpy as np
import pytest
from PIL import Image

from transferclf import CNNFeatureExtractor, FeatureStore, load_image_table
from transferclf.exceptions import ImageError, ImageReadError, InvalidParameterError
from transferclf.images import check_images
from transferclf.images.columns import parquet
from transferclf.images.columns.parquet import ParquetColumn
from transferclf.images.loading import content_digests, load_all

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")


def png(number):
    file = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


FILES = [png(number) for number in range(60)]
LABELS = ["cat", "dog", "owl"] * 20
STRUCT = pa.struct({"bytes": pa.binary(), "path": pa.string()})


def written(path, images=None, **kwargs):
    rows = [{"bytes": each, "path": f"{i}.png"} for i, each in enumerate(FILES)]
    images = pa.array(rows, STRUCT) if images is None else images
    table = pa.table({"image": images, "label": LABELS[: len(images)]})
    options = {"row_group_size": 25, "compression": "none", "use_dictionary": False}
    pq.write_table(table, path, **options | kwargs)
    return str(path)


@pytest.fixture
def file(tmp_path):
    return written(tmp_path / "pets.parquet")


@pytest.fixture
def blocks(monkeypatch):
    """Make blocks small, and return the rows of each block that is decoded."""
    # Threads would be more than three of these small blocks apart.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(parquet, "BLOCK_BYTES", 8 * len(FILES[0]))
    decoded, batches = [], ParquetColumn._batches

    def noted(column, group):
        for batch in batches(column, group):
            decoded.append(len(batch))
            yield batch

    monkeypatch.setattr(ParquetColumn, "_batches", noted)
    return decoded


def test_a_table_of_images_has_the_digests_of_their_files(file):
    bunch = load_image_table(file, "image", "label")
    assert bunch.target.tolist() == LABELS
    assert bunch.filenames[7] == "row 7"
    assert content_digests(bunch.data) == content_digests(check_images(FILES))
    owls = load_image_table(file, "image", "label", classes=["owl"])
    assert content_digests(owls.data) == content_digests(check_images(FILES[2::3]))


def test_plain_bytes_and_paths_are_columns_too(tmp_path):
    bunch = load_image_table(written(tmp_path / "b.pq", pa.array(FILES)), "image", "label")
    assert content_digests(bunch.data) == content_digests(check_images(FILES))
    (tmp_path / "a.png").write_bytes(FILES[0])
    texts = written(tmp_path / "c.parquet", pa.array(["a.png"]))
    bunch = load_image_table(texts, "image", "label")
    assert bunch.data.tolist() == [str(tmp_path / "a.png")]


def test_each_block_is_decoded_once_in_the_order_of_rows(file, blocks):
    source = check_images(ParquetColumn(file, "image"))
    expected = content_digests(check_images(FILES))
    assert content_digests(source) == expected
    assert sum(blocks) == len(FILES)
    assert max(blocks) < 10
    # Any order is read in the order of rows, and any row can be read again.
    shuffled = np.random.default_rng(0).permutation(len(FILES))
    assert content_digests(source[shuffled]) == [expected[row] for row in shuffled]
    assert sum(blocks) == 2 * len(FILES)
    assert source.look(3).digest == expected[3]


def test_a_pickle_has_the_rows_and_no_images(file):
    source = check_images(ParquetColumn(file, "image"))[np.array([40, 2])]
    data = pickle.dumps(source)
    assert len(data) < 1000
    copy = pickle.loads(data)
    assert content_digests(copy) == content_digests(check_images([FILES[40], FILES[2]]))


def test_features_of_a_table_are_those_of_its_files(file):
    store = FeatureStore()
    extractor = CNNFeatureExtractor("tiny", image_size=32, cache=store)
    features = extractor.fit_transform(load_image_table(file, "image", "label").data)
    np.testing.assert_array_equal(extractor.transform(FILES), features)
    assert store.info().entries == len(FILES)


def test_a_file_behind_a_url_is_read(file):
    fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed")
    with open(file, "rb") as local:
        fsspec.filesystem("memory").pipe("/pets.parquet", local.read())
    bunch = load_image_table("memory://pets.parquet", "image", "label")
    assert content_digests(bunch.data) == content_digests(check_images(FILES))


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_images_in_a_file_whose_server_fails_are_not_skipped(file, blocks, monkeypatch, on_error):
    fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed")
    memory = fsspec.implementations.memory
    with open(file, "rb") as local:
        fsspec.filesystem("memory").pipe("/pets.parquet", local.read())
    X = load_image_table("memory://pets.parquet", "image", "label").data
    extractor = CNNFeatureExtractor("tiny", image_size=32, cache=None, on_error=on_error)
    expected = extractor.fit_transform(X)
    with monkeypatch.context() as patched:
        answers, read = iter(range(2)), memory.MemoryFile.read

        def failing(opened, size=-1):
            if next(answers, None) is None:
                raise ConnectionResetError("the server is gone")
            return read(opened, size)

        patched.setattr(memory.MemoryFile, "read", failing, raising=False)
        match = "memory://pets.parquet was not: .* the server is gone"
        with pytest.raises(ImageReadError, match=match):
            extractor.transform(X)
    np.testing.assert_array_equal(extractor.transform(X), expected)


def test_a_damaged_page_is_an_error_with_all_its_rows(tmp_path, file):
    with open(file, "rb") as whole:
        data = bytearray(whole.read())
    # The header of the page of the second row group.
    group = pq.ParquetFile(file).metadata.row_group(1)
    start = group.column(0).data_page_offset
    data[start : start + 40] = b"\xff" * 40
    damaged = tmp_path / "damaged.parquet"
    damaged.write_bytes(data)
    bunch = load_image_table(damaged, "image", "label")
    with pytest.raises(ImageReadError, match="parquet whose row group 1 is damaged") as error:
        load_all(bunch.data, (8, 8), "crop")
    assert list(error.value.indices) == list(range(25, 50))
    assert "damaged.parquet, row 25)" in error.value.problems[0]


def test_files_that_are_no_tables_of_images(tmp_path, file):
    with open(file, "rb") as whole:
        (tmp_path / "cut.parquet").write_bytes(whole.read()[:5000])
    with pytest.raises(ValueError, match="cut.parquet to be a Parquet file, got .* cut off"):
        load_image_table(tmp_path / "cut.parquet", "image", "label")
    with pytest.raises(FileNotFoundError):
        load_image_table(tmp_path / "none.parquet", "image", "label")
    with pytest.raises(InvalidParameterError, match="has no column 'img'"):
        load_image_table(file, "img", "label")
    with pytest.raises(InvalidParameterError, match="has no column 'kind'"):
        load_image_table(file, "image", "kind")
    numbers = written(tmp_path / "numbers.parquet", pa.array([1.5, 2.5]))
    with pytest.raises(ImageError, match="must hold bytes, text .* Got one of type double"):
        load_image_table(numbers, "image", "label")


def test_missing_images_are_named_with_the_file_and_the_row(tmp_path):
    rows = [{"bytes": FILES[0], "path": None}, None, {"bytes": b"text", "path": None}]
    bunch = load_image_table(
        written(tmp_path / "a.parquet", pa.array(rows, STRUCT)), "image", "label"
    )
    with pytest.raises(ImageReadError) as raised:
        content_digests(bunch.data)
    assert "a.parquet, row 1): expected an image in this row, got None" in raised.value.problems[0]
    assert "a.parquet, row 2): expected an image file" in raised.value.problems[1]
