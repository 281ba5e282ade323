"""Tests of audit: class names, splits, shapes, progress and time."""

import time
import unicodedata

import numpy as np
import pytest
from head_helpers import probabilities
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import ExifTags, Image

from transferclf import CNNFeatureExtractor
from transferclf.exceptions import InvalidParameterError
from transferclf.heads.linear import fit_linear
from transferclf.objectives import Classes
from transferclf.reports import audit
from transferclf.reports.auditing import labels as judging
from transferclf.reports.auditing.labels import (
    judged_labels,
    missing_classes,
    similar_names,
    skeleton,
)
from transferclf.reports.auditing.readable import Facts, seen_shares
from transferclf.reports.tables import rows_of
from transferclf.training.judging import held_out_probabilities


def noise(rng, *shapes):
    return [rng.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]


# Classes that a split lacks.


def test_classes_missing_from_a_split_are_listed_with_their_splits(rng):
    labels = ["fox", "hare", "fox", "Vulpes", "hare", "hare", "owl"]
    splits = ["train", "train", "train", "test", "test", "valid", "valid"]
    found = audit(noise(rng, *[(32, 32)] * 7), labels, splits=splits)
    assert rows_of(found.missing_classes) == [
        {"label": "fox", "count": 2, "splits": "train", "missing_from": "test, valid"},
        {"label": "Vulpes", "count": 1, "splits": "test", "missing_from": "train, valid"},
        {"label": "owl", "count": 1, "splits": "valid", "missing_from": "train, test"},
    ]
    text = str(found)
    assert "classes that are not in every split: 3 classes" in text
    assert "  fox (2 images in train): not in test, valid\n" in text
    assert "missing_classes=3" in repr(found)


@pytest.mark.parametrize(
    ("labels", "splits"),
    [
        (["a", "b"], None),
        (["a", "b"], ["train", "train"]),
        (["a", "a"], ["train", "test"]),
        ([1, 2, 1, 2], ["x", "x", "y", "y"]),
        ([], []),
    ],
)
def test_complete_splits_give_no_missing_classes(labels, splits):
    assert missing_classes(labels, splits) == []


def test_splits_without_labels_give_no_missing_classes(rng):
    found = audit(noise(rng, (32, 32), (32, 32)), splits=["train", "test"])
    assert len(found.missing_classes) == len(found.similar_names) == 0
    assert list(found.missing_classes.columns) == ["label", "count", "splits", "missing_from"]


def test_labels_of_unreadable_images_are_audited(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    found = audit([str(tmp_path / "a.png")] * 2, ["Owl", "owl"], splits=["train", "test"])
    assert len(found.missing_classes) == 2
    assert len(found.similar_names) == 1


# Names that look alike.


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Red fox", "red fox"),
        ("red fox", "red_fox"),
        ("red-fox", "redfox"),
        (" red fox", "red fox\n"),
        ("caf\u00e9", "cafe\u0301"),
        ("STRASSE", "straße"),
        ("ﬁnch", "finch"),
        ("\uff11\uff12", "12"),
        ("a\u200bb", "ab"),
        ("a\u00a0b", "a b"),
        ("İstanbul", "i\u0307stanbul"),
    ],
)
def test_similar_names_are_look_alikes(one, other):
    assert similar_names([one, other, one]) == [
        {"label": one, "count": 2, "other_label": other, "other_count": 1}
    ]


@pytest.mark.parametrize(
    "labels",
    [
        ["cat", "bat"],
        ["img1", "img10"],
        ["-", "_"],
        ["", "-"],
        ["", " "],
        [1, -1],
        [1.0, 1.5],
        ["a", "ä"],
        ["cat", "cats"],
        [True, False],
    ],
)
def test_different_names_are_no_look_alikes(labels):
    assert similar_names(labels) == []


@example("\xa0")
@given(st.text(min_size=1, max_size=12))
def test_ways_to_write_a_name_have_one_skeleton(name):
    bones = skeleton(name)
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        assert skeleton(unicodedata.normalize(form, name)) == bones
    assert skeleton(f"{name} ") in (bones, f"{bones} ")


def test_the_text_shows_how_look_alikes_differ(rng):
    labels = ["caf\u00e9", "cafe\u0301", "plain", "plain "]
    text = str(audit(noise(rng, *[(32, 32)] * 4), labels))
    assert "names that look alike: 2 pairs" in text
    assert r"'caf\xe9' (1) ~ 'cafe\u0301' (1)" in text
    assert "'plain' (1) ~ 'plain ' (1)" in text


# Shapes that the crop cuts.


def test_images_cropped_by_more_than_half_are_listed(rng):
    shapes = [(32, 160), (160, 32), (32, 40), (32, 63), (32, 65), (32, 32)]
    found = audit(noise(rng, *shapes), list("aabbcc"))
    np.testing.assert_allclose(found.seen, [0.2, 0.2, 0.8, 32 / 63, 32 / 65, 1.0])
    rows = rows_of(found.cropped)
    assert [row["index"] for row in rows] == [0, 1, 4]
    assert (rows[1]["width"], rows[1]["height"], rows[1]["seen"]) == (32, 160, 0.2)
    text = str(found)
    assert "cut by more than half: 3 images" in text
    assert "image 0 (a): 160 x 32, 20% of it is seen" in text
    assert "The network sees 50% of the median image" in text


@pytest.mark.parametrize("resize", ["pad", "stretch"])
def test_other_resize_modes_do_not_crop(rng, resize):
    extractor = CNNFeatureExtractor(resize=resize, image_size=32)
    found = audit(noise(rng, (32, 160), (32, 32)), extractor=extractor)
    assert found.seen.tolist() == [1.0, 1.0]
    assert "cut by" not in str(found)


def test_the_input_can_be_a_rectangle(rng):
    extractor = CNNFeatureExtractor(image_size=(32, 64))
    found = audit(noise(rng, (40, 80), (64, 32)), extractor=extractor)
    assert found.seen.tolist() == [1.0, 0.25]


def test_the_shape_of_a_photograph_respects_its_orientation(rng, tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    for name, options in (("turned", {"exif": exif}), ("plain", {})):
        Image.fromarray(noise(rng, (32, 96))[0]).save(tmp_path / f"{name}.jpg", **options)
    paths = [str(tmp_path / f"{name}.jpg") for name in ("turned", "plain")]
    found = audit(paths, extractor=CNNFeatureExtractor(image_size=(32, 96)))
    np.testing.assert_allclose(found.seen, [1 / 9, 1])
    (row,) = rows_of(found.cropped)
    assert (row["width"], row["height"]) == (32, 96)
    assert [row["width"] for row in rows_of(found.sizes)] == [96]  # the sizes in the files


def test_unreadable_images_have_no_visible_share(tmp_path, rng):
    found = audit([*noise(rng, (32, 32)), str(tmp_path / "none.png")])
    assert found.seen[0] == 1
    assert np.isnan(found.seen[1])


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 500), st.integers(1, 500))
def test_the_share_that_is_seen_is_a_share(height, width, rows, columns):
    facts = [Facts(width, height, "RGB", "PNG"), Facts(height, width, "RGB", "PNG", True)]
    share, turned = seen_shares(facts, (rows, columns), "crop")
    assert share == turned
    assert 0 < share <= 1 + 1e-12
    proportions = width * rows / (height * columns)
    assert share == pytest.approx(min(proportions, 1 / proportions))


# Progress and time.


@pytest.mark.parametrize("verbose", [0, 1, True])
def test_verbose_shows_progress(rng, capsys, verbose):
    images = noise(rng, *[(32, 32)] * 12)
    audit(images, ["a", "b"] * 6, verbose=verbose)
    shown = capsys.readouterr().out
    for part in ("features: ", "images compared", "labels judged"):
        assert (part in shown) == bool(verbose)


@pytest.mark.parametrize("verbose", [-1, "yes", 0.5, None])
def test_a_wrong_verbose_raises_an_error(rng, verbose):
    with pytest.raises(InvalidParameterError, match="verbose"):
        audit(noise(rng, (32, 32)), verbose=verbose)


def clusters(rng, n_samples, n_features, n_classes, spread):
    centres = rng.standard_normal((n_classes, n_features))
    labels = np.arange(n_samples) % n_classes
    noise = spread * rng.standard_normal((n_samples, n_features))
    return (centres[labels] + noise).astype(np.float32), labels


def test_held_out_probabilities_equal_those_of_optimal_heads(rng):
    features, labels = clusters(rng, 300, 20, 4, 2.0)
    fold_of = np.arange(300) // 60
    told = []
    said = held_out_probabilities(features, labels, 4, fold_of, l2=0.1, advance=told.append)
    assert told == [60] * 5
    np.testing.assert_allclose(said.sum(axis=1), 1, rtol=1e-6)
    for fold in range(5):
        out = fold_of == fold
        # The penalty against the sum of the losses is that of all 300 images.
        options = {"l2": 0.1 * 300 / 240, "sample_weight": np.ones(240)}
        head = fit_linear(features[~out], labels[~out], Classes.numbered(4), **options)
        np.testing.assert_allclose(said[out], probabilities(head, features[out]), atol=0.03)


def test_classes_in_one_fold_only_get_no_probability(rng):
    features, labels = clusters(rng, 60, 5, 3, 0.1)
    labels[labels == 2] = 7
    fold_of = np.where(labels == 7, 0, np.arange(60) // 3 % 3)
    said = held_out_probabilities(features, labels, 8, fold_of, l2=0.1)
    assert np.isnan(said[labels == 7]).all()
    assert (said[labels != 7].argmax(axis=1) == labels[labels != 7]).all()
    one = held_out_probabilities(features, np.zeros(60, int), 1, fold_of, l2=0.1)
    assert np.isnan(one).all()


def test_the_penalty_is_chosen_on_a_stratified_part(rng, monkeypatch):
    features, labels = clusters(rng, 400, 8, 4, 0.5)
    labels[:300] = 0
    chosen, fitted = [], []

    def choose(part, its_labels, n_classes, **options):
        chosen.append((len(part), np.bincount(its_labels).tolist(), options["groups"].tolist()))
        return 0.5

    def fit(*arguments, l2, **options):
        fitted.append(l2)
        return held_out_probabilities(*arguments, l2=l2, **options)

    monkeypatch.setattr(judging, "PENALTY_IMAGES", 100)
    monkeypatch.setattr(judging, "choose_l2", choose)
    monkeypatch.setattr(judging, "held_out_probabilities", fit)
    groups = np.arange(400) + 1000
    judged_labels(features, labels, 4, groups)
    ((size, shares, its_groups),) = chosen
    assert size == 100
    np.testing.assert_allclose(shares, np.bincount(labels) / 4, atol=1)
    assert set(its_groups) < set(groups.tolist())
    # The penalty against the sum of the losses is that of the part.
    assert fitted == [0.5 * 100 / 400]


def test_the_penalty_is_chosen_on_all_of_few_images(rng, monkeypatch):
    sizes = []
    monkeypatch.setattr(judging, "choose_l2", lambda part, *_, **__: sizes.append(len(part)) or 1.0)
    features, labels = clusters(rng, 120, 4, 3, 0.5)
    judged_labels(features, labels, 3, np.arange(120))
    assert sizes == [120]


def test_swapped_labels_are_found_among_many_classes(rng):
    features, labels = clusters(rng, 1200, 40, 30, 1.2)
    wrong = rng.choice(1200, 60, replace=False)
    swapped = labels.copy()
    swapped[wrong] = (labels[wrong] + rng.integers(1, 30, 60)) % 30
    judged = judged_labels(features, swapped, 30, np.arange(1200))
    first = np.argsort(judged.quality)[:120]
    assert np.isin(wrong, first).mean() >= 0.95
    assert (judged.suggested[wrong] == labels[wrong]).mean() >= 0.9


@pytest.mark.slow
def test_judging_costs_less_than_half_of_optimal_heads(rng):
    features, labels = clusters(rng, 1500, 400, 30, 4.0)
    fold_of = np.arange(1500) % 5
    begin = time.process_time()
    held_out_probabilities(features, labels, 30, fold_of, l2=0.003)
    middle = time.process_time()
    for fold in range(5):
        out = fold_of == fold
        weights = np.ones(np.count_nonzero(~out))
        classes = Classes.numbered(30)
        fit_linear(features[~out], labels[~out], classes, l2=0.003, sample_weight=weights)
    assert middle - begin < 0.5 * (time.process_time() - middle)
