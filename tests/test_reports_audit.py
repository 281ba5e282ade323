"""Tests of audit: it finds planted faults, and hard cases do not stop it."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from image_helpers import in_kind
from PIL import Image, ImageEnhance, ImageFilter
from scipy.special import softmax
from sklearn.datasets import load_digits
from sklearn.model_selection import GroupKFold

from transferclf import CNNFeatureExtractor, load_image_folder
from transferclf.exceptions import ImageError, InvalidParameterError, MissingImageError
from transferclf.features import shared_store
from transferclf.reports import audit
from transferclf.reports.auditing.duplicates import neighbourhood
from transferclf.reports.auditing.labels import judged_labels, suspects
from transferclf.reports.tables import rows_of


def drawn(n, rng):
    """Return pictures of a few large blots each, in many colours."""
    images = []
    for _ in range(n):
        small = rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)
        picture = Image.fromarray(small).resize((64, 48), Image.Resampling.NEAREST)
        images.append(picture.filter(ImageFilter.GaussianBlur(1)))
    return images


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """40 files with copies, near copies, a copy in the other split, and a file that is no image."""
    folder = tmp_path_factory.mktemp("planted")
    pictures = drawn(40, np.random.default_rng(0))
    pictures[21] = pictures[20].crop((2, 1, 63, 47))
    pictures[23] = ImageEnhance.Brightness(pictures[22]).enhance(0.9)
    pictures[39] = pictures[24]
    paths = [folder / f"{number:02}.png" for number in range(40)]
    for path, picture in zip(paths, pictures, strict=True):
        picture.save(path)
    pictures[24].save(folder / "39.jpg", quality=90, subsampling=0)
    paths[39] = folder / "39.jpg"
    for copy, original in ((11, 10), (12, 10), (35, 5)):
        paths[copy].write_bytes(paths[original].read_bytes())
    paths[30].write_bytes(b"not an image")
    paths[31].write_bytes(paths[3].read_bytes()[:400])
    labels = np.array(["blot", "splash"])[np.arange(40) % 2]
    splits = ["train"] * 30 + ["test"] * 10
    return [str(path) for path in paths], labels, splits


@pytest.fixture(scope="module")
def found(planted):
    paths, labels, splits = planted
    return audit(paths, labels, splits=splits)


def pairs(table):
    return {(row["index"], row["other_index"], row["kind"]) for row in rows_of(table)}


def test_planted_copies_are_found(found):
    rows = rows_of(found.exact_duplicates)
    groups = {}
    for row in rows:
        groups.setdefault(row["group"], []).append(row["index"])
    assert sorted(groups.values()) == [[5, 35], [10, 11, 12]]


def test_planted_near_copies_are_found_and_no_others(found):
    assert pairs(found.near_duplicates) == {(20, 21, "near"), (22, 23, "near"), (24, 39, "near")}
    similarities = [row["similarity"] for row in rows_of(found.near_duplicates)]
    assert similarities == sorted(similarities, reverse=True)
    assert min(similarities) >= 0.9


def test_copies_in_two_splits_are_found(found):
    assert pairs(found.leaks) == {(5, 35, "exact"), (24, 39, "near")}
    first = rows_of(found.leaks)[0]
    assert (first["split"], first["other_split"], first["kind"]) == ("train", "test", "exact")


def test_copies_with_different_labels_are_found(found):
    assert pairs(found.label_conflicts) == {
        (10, 11, "exact"),
        (12, 11, "exact"),
        (20, 21, "near"),
        (22, 23, "near"),
        (24, 39, "near"),
    }
    assert {row["label"] != row["other_label"] for row in rows_of(found.label_conflicts)} == {True}


def test_unreadable_files_are_named_and_the_others_are_audited(found, planted):
    rows = rows_of(found.unreadable)
    assert [row["index"] for row in rows] == [30, 31]
    assert [row["file"] for row in rows] == [planted[0][30], planted[0][31]]
    assert "no known image format" in rows[0]["problem"]
    assert rows[1]["problem"].startswith("expected a whole image")
    assert np.isnan(found.quality[[30, 31]]).all()
    assert np.isfinite(found.quality).sum() == 38
    assert sum(row["count"] for row in rows_of(found.sizes)) == 38
    assert rows_of(found.sizes)[0] == {
        "width": 64, "height": 48, "mode": "RGB", "format": "PNG", "count": 36,
    }  # fmt: skip


def test_groups_keep_copies_together(found):
    assert list(np.flatnonzero(found.groups == -1)) == [30, 31]
    readable = np.flatnonzero(found.groups >= 0)
    for a, b in ((10, 11), (10, 12), (5, 35), (20, 21), (24, 39)):
        assert found.groups[a] == found.groups[b]
    assert len(set(found.groups[readable])) == 38 - 6
    for train, test in GroupKFold(3).split(readable, groups=found.groups[readable]):
        assert not set(found.groups[readable[train]]) & set(found.groups[readable[test]])


def test_the_text_has_the_findings_and_advice(found):
    text = str(found)
    assert text.startswith("40 images, 2 classes, 2 splits")
    for line in ("unreadable: 2 images", "leaks between splits: 2 pairs", "sizes: 3 kinds"):
        assert line in text
    assert "05.png (splash, train) = " in text.replace("\n", " ")
    assert "GroupKFold" in text
    assert "leaks=2" in repr(found)


@pytest.mark.parametrize("kind", ["arrays", "PIL", "paths"])
def test_every_kind_of_images_gives_the_same(kind, tmp_path, rng):
    images = np.stack([np.asarray(picture) for picture in drawn(8, rng)])
    images[6] = images[1]
    X = in_kind(images, kind, tmp_path)
    result = audit(X, splits={"a": [0, 1, 2, 3], "b": np.arange(8) > 3})
    assert pairs(result.leaks) == {(1, 6, "exact")}
    (size,) = rows_of(result.sizes)
    assert (size["width"], size["height"], size["count"]) == (64, 48, 8)
    assert (rows_of(result.leaks)[0]["file"] != "") == (kind == "paths")


def test_audit_uses_stored_features(planted):
    paths = [path for path in planted[0] if not path.endswith(("30.png", "31.png"))]
    CNNFeatureExtractor().fit_transform(paths)
    before = shared_store().info().misses
    audit(paths)
    assert shared_store().info().misses == before


@pytest.fixture(scope="module")
def digits():
    images, labels = load_digits().images[:240], load_digits().target[:240]
    rng = np.random.default_rng(0)
    wrong = rng.choice(240, 12, replace=False)
    swapped = labels.copy()
    swapped[wrong] = (labels[wrong] + rng.integers(1, 10, 12)) % 10
    extractor = CNNFeatureExtractor(pixel_range=(0, 16), image_size=32)
    return audit(images, swapped, extractor=extractor), labels, swapped, wrong


def test_swapped_labels_come_first(digits):
    found, labels, swapped, wrong = digits
    first = np.argsort(found.quality)[:24]
    assert np.isin(wrong, first).mean() >= 0.8
    rows = rows_of(found.label_errors)
    assert np.isin(wrong, [row["index"] for row in rows]).mean() >= 0.8
    right = [row["suggested"] == labels[row["index"]] for row in rows if row["index"] in wrong]
    assert np.mean(right) >= 0.8
    assert [row["label"] for row in rows] == [swapped[row["index"]] for row in rows]
    probabilities = [row["probability"] for row in rows]
    assert probabilities == sorted(probabilities)


def test_few_right_labels_are_suspected(digits):
    found, _, _, wrong = digits
    suspected = [row["index"] for row in rows_of(found.label_errors)]
    assert len(set(suspected) - set(wrong)) <= 0.05 * 228


def test_copies_with_wrong_labels_are_suspected(rng):
    features = np.repeat(rng.standard_normal((20, 5)), 2, axis=0)
    features[:20, 0] += 8
    labels = np.repeat([0, 1], 20)
    labels[[6, 7]] = 1  # an image and its copy, both wrong
    groups = np.repeat(np.arange(20), 2)
    judged = judged_labels(features, labels, 2, groups)
    assert set(np.flatnonzero(judged.is_suspect)) == {6, 7}


def test_suspects_equal_an_example_worked_out_by_hand():
    probabilities = np.array([
        [0.9, 0.1, 0.0],  # labelled 0
        [0.6, 0.4, 0.0],  # 0: 1 has its average probability, but less than the label
        [0.2, 0.7, 0.1],  # 0: 1 exceeds its average and the label
        [0.3, 0.1, 0.6],  # 0: 2 equals its average, which is enough
        [0.2, 0.3, 0.5],  # 0: 2 exceeds the label, but not its average
        [0.4, 0.6, 0.0],  # 1
        [0.5, 0.2, 0.3],  # 1: 0 exceeds its average and the label
        [0.2, 0.2, 0.6],  # 2
    ])  # fmt: skip
    labels = np.array([0, 0, 0, 0, 0, 1, 1, 2])
    # The average probability of the own label is 0.44 for 0, 0.4 for 1 and 0.6 for 2.
    expected = [False, False, True, True, False, False, True, False]
    assert suspects(probabilities, labels).tolist() == expected


@pytest.mark.parametrize("n_classes", [2, 5])
def test_suspects_follow_the_definition_of_confident_learning(n_classes):
    rng = np.random.default_rng(n_classes)
    labels = rng.integers(n_classes, size=400)
    scores = rng.normal(size=(400, n_classes)) + 2 * np.eye(n_classes)[labels]
    probabilities = softmax(scores, axis=1)
    swapped = np.where(rng.random(400) < 0.1, rng.integers(n_classes, size=400), labels)
    found = suspects(probabilities, swapped)
    assert 10 < found.sum() < 200
    # Northcutt et al., equation 1: the threshold of a class is the mean of its own probabilities.
    thresholds = [probabilities[swapped == k, k].mean() for k in range(n_classes)]
    for row, label, is_suspect in zip(probabilities, swapped, found, strict=True):
        confident = [k for k in range(n_classes) if k != label and row[k] >= thresholds[k]]
        assert is_suspect == (bool(confident) and row.argmax() != label)


def test_classes_without_labels_do_not_count():
    rng = np.random.default_rng(0)
    labels = np.r_[np.zeros(20, int), np.full(30, 3)]  # no sample has label 1 or 2
    probabilities = rng.dirichlet([1, 0.2, 0.2, 1], 50)
    of_known = probabilities[:, [0, 3]] / probabilities[:, [0, 3]].sum(axis=1, keepdims=True)
    expected = suspects(of_known, labels // 3)
    assert 0 < expected.sum() < 50
    np.testing.assert_array_equal(suspects(probabilities, labels), expected)
    assert not suspects(np.ones((3, 1)), np.zeros(3, int)).any()


def test_an_odd_image_is_found(rng):
    images = np.stack([np.asarray(picture) for picture in drawn(30, rng)]) // 8 + 100
    images[17] = np.kron(np.indices((48, 64)).sum(0) % 2, np.ones((1, 1)))[..., None] * 255
    rows = rows_of(audit(images.astype(np.uint8)).odd_ones)
    assert [row["index"] for row in rows] == [17]
    assert rows[0]["deviations"] > 3.5


def test_hard_cases():
    two = audit(np.arange(2 * 32 * 32, dtype=np.uint8).reshape(2, 32, 32), ["a", "b"])
    assert np.isnan(two.quality).all()
    same = audit(np.full((9, 20, 20), 7, np.uint8), [0, 0, 0, 0, 1, 1, 1, 1, 1], splits=["s"] * 9)
    assert len(same.exact_duplicates) == 9
    assert (same.groups == 0).all()
    assert len(same.leaks) == len(same.near_duplicates) == len(same.label_errors) == 0
    assert 0 < len(same.label_conflicts) <= 9
    one = audit(np.zeros((1, 20, 20), np.uint8))
    assert "Nothing was found" in str(one)
    assert one.classes is one.splits is None


def test_one_class_and_classes_of_one(rng):
    images = drawn(12, rng)
    assert np.isnan(audit(images, ["a"] * 12).quality).all()
    labels = ["a"] * 6 + ["b"] * 5 + ["alone"]
    found = audit(images, labels)
    assert list(np.flatnonzero(np.isnan(found.quality))) == [11]
    assert np.isnan(found.distance[11])
    assert 11 not in [row["index"] for row in rows_of(found.label_errors)]
    assert np.isnan(audit(images, list(range(12))).quality).all()


def test_unreadable_files_alone_are_audited(tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    paths[0].write_bytes(b"no")
    paths[1].write_bytes(b"")
    found = audit(paths, ["a", "b", "a"], splits=["train", "train", "test"])
    assert [row["index"] for row in rows_of(found.unreadable)] == [0, 1, 2]
    assert [row["split"] for row in rows_of(found.unreadable)] == ["train", "train", "test"]
    assert (found.groups == -1).all()
    assert "unreadable: 3 images" in str(found)
    assert "Nothing was found" not in str(found)


def test_missing_files_and_other_objects_are_named(tmp_path, rng):
    X = [*drawn(3, rng), str(tmp_path / "gone.png"), 5, np.full((4, 4), np.nan), str(tmp_path)]
    found = audit(X)
    rows = rows_of(found.unreadable)
    assert [row["index"] for row in rows] == [3, 4, 5, 6]
    assert "there is none" in rows[0]["problem"]
    assert found.n_images == 7
    bad = np.ones((4, 8, 8))
    bad[2, 0, 0] = np.nan
    assert [row["index"] for row in rows_of(audit(bad).unreadable)] == [2]


@pytest.fixture
def paths(tmp_path, rng):
    """Twelve files; the first five are truncated."""
    paths = [str(tmp_path / f"{number}.png") for number in range(12)]
    for number, image in enumerate(drawn(12, rng)):
        Image.fromarray(np.asarray(image)).save(paths[number])
        if number < 5:
            whole = Path(paths[number]).read_bytes()
            Path(paths[number]).write_bytes(whole[: len(whole) // 2])
    return paths


@pytest.mark.parametrize("kind", ["list", "column", "frame"])
def test_the_sound_files_of_any_table_are_audited(paths, kind):
    column = np.array(paths, dtype=object)[:, None]
    X = {"list": paths, "column": column, "frame": pd.DataFrame(column, columns=["path"])}[kind]
    found = audit(X, ["a", "b"] * 6)
    assert [row["index"] for row in rows_of(found.unreadable)] == [0, 1, 2, 3, 4]
    assert np.isfinite(found.distance[5:]).all()
    assert (found.groups[5:] >= 0).all()


def test_many_damaged_files_take_two_fits(paths, monkeypatch):
    fits, fit = [], CNNFeatureExtractor.fit
    monkeypatch.setattr(
        CNNFeatureExtractor, "fit", lambda self, X, y=None: fits.append(len(X)) or fit(self, X, y)
    )
    audit(paths)
    assert fits == [12, 7]


def test_a_split_can_be_empty(rng):
    images = drawn(4, rng)
    found = audit(images, splits={"train": [0, 1, 2, 3], "test": []})
    assert len(found.leaks) == 0


@pytest.mark.parametrize("X", ["photo.png", np.zeros((4, 30)), np.zeros((0, 8, 8)), [], 3])
def test_values_that_are_no_images_raise_an_error(X):
    with pytest.raises((ImageError, MissingImageError)):
        audit(X)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"splits": ["a"]}, "each of the 3 images. Got 1"),
        ({"splits": {"a": [0, 1]}}, "1 are in none, the first is image 2"),
        ({"splits": {"a": [0, 7]}}, "positions from 0 to 2"),
        ({"splits": {"a": ["x"]}}, "must be positions"),
        ({"splits": {"a": [True] * 4}}, "or a mask of 3"),
        ({"extractor": "tiny"}, "CNNFeatureExtractor or None. Got 'tiny'"),
        ({"threshold": 1.5}, "at most 1"),
        ({"n_neighbors": 0}, "n_neighbors"),
    ],
)
def test_wrong_parameters_raise_an_error(arguments, message):
    with pytest.raises(InvalidParameterError, match=message):
        audit(np.zeros((3, 8, 8), np.uint8), **arguments)


def test_wrong_labels_raise_an_error():
    with pytest.raises(ValueError, match="one label per image"):
        audit(np.zeros((3, 8, 8), np.uint8), [0, 1])
    with pytest.raises(ValueError, match="no label for 1 of 3"):
        audit(np.zeros((3, 8, 8), np.uint8), ["a", None, "b"])


def test_rows_are_images_for_an_extractor_with_an_image_shape():
    rows = load_digits().data[[0, 1, 0]]
    extractor = CNNFeatureExtractor(image_shape=(8, 8), pixel_range=(0, 16), image_size=32)
    found = audit(rows, extractor=extractor)
    assert [row["index"] for row in rows_of(found.exact_duplicates)] == [0, 2]
    assert not hasattr(extractor, "n_features_out_")  # audit fits a clone


def test_hostile_names_stay_on_one_line(tmp_path, rng):
    name = "evil\n\x1b[31m$x$<script>" + "y" * 100
    path = tmp_path / f"{name}.png"
    drawn(1, rng)[0].save(path)
    found = audit([path, path], [name, "b" * 200])
    text = str(found)
    assert "\x1b" not in text
    assert all(len(line) < 200 for line in text.splitlines())
    assert rows_of(found.exact_duplicates)[0]["file"] == str(path)


def test_the_error_without_pandas_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pandas.*pip install jinja2 matplotlib pandas"):
        audit([])


def test_empty_tables_are_data_frames_too():
    found = audit(np.zeros((1, 20, 20), np.uint8))
    assert list(found.leaks)[:4] == ["index", "file", "label", "split"]
    assert found.leaks.shape == (0, 10)
    assert found.sizes["count"].tolist() == [1]


@pytest.mark.parametrize("block", [1, 50, 10**6])
def test_the_size_of_blocks_does_not_change_the_result(block, rng, monkeypatch):
    from transferclf.reports.auditing import duplicates

    features = rng.standard_normal((40, 6)).astype(np.float32)
    features[30] = features[3]
    features[31] = features[4] * 1.01
    digests = [bytes([number]) for number in range(40)]
    digests[30] = digests[3]
    labels, splits = np.arange(40) % 3, np.arange(40) // 20
    monkeypatch.setattr(duplicates, "BLOCK_NUMBERS", block)
    found = neighbourhood(features, digests, labels, splits, threshold=0.9, n_neighbors=3)

    centred = features - features.mean(axis=0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    cosine = unit @ unit.T
    cosine[3, 30] = cosine[30, 3] = 1
    np.fill_diagonal(cosine, -np.inf)
    np.testing.assert_allclose(found.of_all.similarity, cosine.max(axis=1), rtol=1e-5)
    for neighbours, kinds in ((found.of_other_label, labels), (found.of_other_split, splits)):
        others = np.where(kinds[:, None] == kinds, -np.inf, cosine)
        np.testing.assert_array_equal(neighbours.nearest, others.argmax(axis=1))
    same = np.where(labels[:, None] == labels, cosine, -np.inf)
    nearest = np.sort(same, axis=1)[:, -3:]
    np.testing.assert_allclose(found.distance, 1 - nearest.mean(axis=1), rtol=1e-4, atol=1e-6)
    assert found.groups[3] == found.groups[30]
    assert found.groups[4] == found.groups[31]
    linked = cosine >= 0.9
    for i, j in zip(*np.nonzero(linked), strict=True):
        assert found.groups[i] == found.groups[j]
    assert len(set(found.groups)) >= 40 - np.count_nonzero(np.triu(linked))


@pytest.mark.realdata
def test_photographs_with_planted_faults(data, tmp_path):
    """Audit a sample of sports10 with 5 % swapped labels and changed copies in another split."""
    sports = load_image_folder(data / "sports10", split="train")
    rng = np.random.default_rng(0)
    chosen = np.sort(rng.choice(len(sports.data), 700, replace=False))
    names, labels = np.unique(sports.target[chosen], return_inverse=True)
    paths = sports.data[chosen].tolist()
    wrong = rng.choice(700, 35, replace=False)
    swapped = labels.copy()
    swapped[wrong] = (labels[wrong] + rng.integers(1, 10, 35)) % 10
    copies, originals = [], rng.choice(700, 40, replace=False)
    for number, original in enumerate(originals):
        picture = Image.open(paths[original]).convert("RGB")
        changed = [
            lambda p: p,
            lambda p: p.resize((p.width // 2, p.height // 2)),
            lambda p: ImageEnhance.Brightness(p).enhance(0.8),
            lambda p: p.crop((3, 3, p.width - 3, p.height - 3)),
        ][number % 4](picture)
        copies.append(tmp_path / f"{number}.jpg")
        changed.save(copies[-1], quality=50)
    found = audit(
        [*paths, *copies],
        names[[*swapped, *labels[originals]]],
        splits=["train"] * 700 + ["test"] * 40,
    )
    first = np.argsort(found.quality[:700])[:70]
    assert np.isin(wrong, first).mean() >= 0.8
    leaks = {(row["index"], row["other_index"]) for row in rows_of(found.leaks)}
    leaked = {max(pair): min(pair) for pair in leaks}
    hits = [leaked.get(700 + number) == original for number, original in enumerate(originals)]
    assert np.mean(hits) >= 0.9
