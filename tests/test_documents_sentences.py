"""Measured figures in sentences of pages are those of a record, or have a reason to stand alone.

`benchmarks/results/figures.json` holds the records; `test_documents_measured.py` compares tables.
"""

import re
from statistics import mean, median

import pytest
import rules_helpers
from page_helpers import (
    BENCHMARKS,
    CHOOSING,
    DESIGN,
    EXPECTATIONS,
    FINE_TUNING,
    NEW_SETS,
    OTHER_SETS,
    PAGES,
    RESULTS,
    SCALING,
    TINY,
    TUNED,
    ablations,
    accuracy,
    check_said,
    figure,
    gains,
    matches,
    number,
    of_one_seed,
    of_seeds,
    of_three,
    points_above,
    points_below_the_best,
    read,
    records,
    rows_of,
    sets_of,
)

# --- figures that are repeated


def tuned(images, column, name="fine-tuning"):
    first, *_ = [row for row in rows_of(name) if row["images"].split(",")[0] == images]
    return number(first[column])


def scratch(network):
    return figure("scratch networks, full", network, column="test accuracy")


def standard_error(share, n_images):
    """Return one standard error of a share of images, in points."""
    return 100 * (share * (1 - share) / n_images) ** 0.5


def extreme_gains():
    """Return the least and largest gain under a microscope, and the largest of photographs."""
    cells, photographs = [], []
    for name in TUNED:
        for images, gain in gains(name).items():
            if images.startswith("blood"):
                cells.append(gain)
            elif not images.startswith("cifar"):
                photographs.append(gain)
    return [min(cells), max(cells), max(photographs)]


def points_above_fastai():
    """Return by how many points "auto" is above fastai with one seed, on average of other sets."""
    return mean(
        100 * (of_three("ours, auto", name) - of_one_seed(name, "fastai")[0])
        for name in sets_of(OTHER_SETS)
    )


def costs_of_the_choice():
    """Return the CPU seconds of "auto" as multiples of those of all layers, for each set."""
    seconds = [
        [
            float(row[column].split(", ")[1].removesuffix(" s"))
            for column in ('"auto"', "all layers")
        ]
        for row in rows_of("fine-tuning, choices")
    ]
    return [auto / by_hand for auto, by_hand in seconds]


@pytest.mark.parametrize(("gain", "usual"), [("nothing", 0.25), ("little", 0.5)])
def test_no_share_is_more_accurate_than_the_usual_one(gain, usual):
    assert len(matches(FINE_TUNING, "no share is more accurate than the usual one")) == 1
    shares = {
        share: figure(rules_helpers.GAINS, gain, column=f"share {share:g}")
        for share in rules_helpers.rules().SHARES
    }
    assert shares[usual] == max(shares.values())


@pytest.mark.parametrize("limit", [0.05, 0.15])
def test_what_counts_as_little_hardly_matters(limit):
    assert rules_helpers.with_limit(limit) == pytest.approx(rules_helpers.with_limit(0.1), abs=0.05)


def steps_of_training():
    """Return ratios of CPU seconds: to Keras' steps of both kinds, and of bfloat16."""
    keras = [
        [float(row["measured"]) for row in rows_of("training_step 3") if row["claim"].endswith(end)]
        for end in ("statistics of the batch", "/ Keras")
    ]
    kept = {round(ratio, 2) for ratio in keras[1]}
    low = [
        figure(name, "TransferClassifier, bfloat16", column="ratio of CPU")
        for name in ("training_step", "training_step 2")
    ]
    return [*keras[0], *kept, *low]


def losses_by_few_epochs():
    """Return the points that blood_smear loses by 5 epochs, by two networks, and any other set."""
    networks = ("MobileNetV2", "efficientnet_lite0", "tiny")
    points = [
        sorted(-100 * each for each in ablations(it, "5 epochs", "accuracy")) for it in networks
    ]
    return [points[0][-1], points[1][-1], max(points[0][-2], points[1][-2], points[2][-1])]


def gains_of_last_layers():
    """Return the points gained by training the last layers: the least, the next, the most."""
    gains = sorted(
        100 * (float(row["fine-tuned"]) - float(row["default"])) for row in rows_of("defaults")
    )
    least = rows_of("defaults")[1]
    assert (least["images"], least["backbone"]) == ("sports10", "mobilenet_v2")
    assert gains[0] == 100 * (float(least["fine-tuned"]) - float(least["default"]))
    return [-gains[0], -gains[1], gains[-1]]


N_CELLS = 1200  # test images of blood_cells4


def cells_right():
    """Return the share of right images, as the recipe has it for blood_cells4."""
    shown = figure("blood cells, recipe", "fine-tuned, defaults", column="test")
    return round(shown * N_CELLS) / N_CELLS


# Sentences with figures of a record: the page, a pattern with a group for each figure, the figures.
SENTENCES = [
    (
        EXPECTATIONS,
        r"for (\d+) images by MobileNetV2 at 224 pixels, and for (\d+) by `tiny` at 96",
        lambda: [
            figure("forward", "extraction, openvino", column="images per CPU s, median"),
            figure("tiny_speed", "openvino", "extraction", column="tiny, images per CPU s"),
        ],
    ),
    (
        EXPECTATIONS,
        r"photographs, `tiny` has (0\.\d+) and `efficientnet_lite0` (0\.\d+)",
        lambda: [accuracy("animals35", name) for name in ("tiny", "efficientnet_lite0")],
    ),
    (
        EXPECTATIONS,
        r"blood cells gain (\d+) to (\d+) points",
        lambda: extreme_gains()[:2],
    ),
    (
        EXPECTATIONS,
        r"At an accuracy of 0\.9, its standard error is (\d) points",
        lambda: [standard_error(0.9, 100)],
    ),
    (
        RESULTS,
        r"from (0\.\d+) to (0\.\d+) on blood_cells4, and from (0\.\d+) to (0\.\d+) on animals35",
        lambda: [
            tuned(images, column)
            for images in ("blood_cells4", "animals35")
            for column in ("frozen", "all layers")
        ],
    ),
    (
        FINE_TUNING,
        r"The means are (\d+), (\d+) and (\d+) points above it",
        lambda: [mean(gains(name).values()) for name in TUNED],
    ),
    (
        FINE_TUNING,
        r"has (0\.\d+) frozen and (0\.\d+) with all layers on cats and dogs, and (0\.\d+) and "
        r"(0\.\d+) on cats, dogs and pandas [^.]*\. One of the six runs lost ([\d.]+) points",
        lambda: [
            *(
                of_three(method, images)
                for images in ("catsdogs2", "animals3")
                for method in ("probe", "ours")
            ),
            max(
                100 * (frozen - tuned)
                for images in ("catsdogs2", "animals3")
                for frozen, tuned in zip(
                    *(of_seeds("efficientnet_lite0", images, it)[0] for it in ("probe", "ours")),
                    strict=True,
                )
            ),
        ],
    ),
    (
        FINE_TUNING,
        r"Cells under a microscope gain most, (\d+) to (\d+) points\. The two sets of photographs "
        r"gain up to (\d+), and others \[up to (\d+)\]",
        lambda: [
            *extreme_gains(),
            max(points_above("ours", "probe", sets_of(NEW_SETS) + sets_of(OTHER_SETS)).values()),
        ],
    ),
    (
        FINE_TUNING,
        r"On the smallest set we take ([\d.]+) times as much",
        lambda: [
            of_seeds("efficientnet_lite0", "blood_smear", "ours")[1]
            / of_seeds("efficientnet_lite0", "blood_smear", "fastai")[1]
        ],
    ),
    (
        FINE_TUNING,
        r"the three of xray2 .* are (0\.\d+), (0\.\d+) and (0\.\d+), of 500 test images",
        lambda: of_seeds("efficientnet_lite0", "xray2", "ours")[0],
    ),
    (
        FINE_TUNING,
        r"has (0\.\d+) on cifar10 and (0\.\d+) on blood_smear",
        lambda: [
            of_one_seed(images, "Keras guide, folded")[0] for images in ("cifar10", "blood_smear")
        ],
    ),
    (
        FINE_TUNING,
        r"with 5 epochs, blood_smear loses (\d+) and (\d+) points with MobileNetV2 and "
        r"EfficientNet-Lite0, and no other set more than (\d+)",
        losses_by_few_epochs,
    ),
    (
        FINE_TUNING,
        r"Without one of them, a set loses up to (\d+) points",
        lambda: [
            -100
            * min(
                points
                for change in ("constant learning rate", "no clipping", "no warm-up")
                for backbone in ("MobileNetV2", "efficientnet_lite0")
                for points in ablations(backbone, change, "accuracy")
            )
        ],
    ),
    (
        FINE_TUNING,
        r'There "auto" [^,]*, and is ([\d.]+) and ([\d.]+) points above all layers: (\d+) and '
        r"(\d+) images in three runs",
        lambda: [
            *points_above("ours, auto", "ours", ("sports10", "animals35")).values(),
            *(
                3 * n_images * points_above("ours, auto", "ours", [name])[name] / 100
                for name, n_images in (("sports10", 100), ("animals35", 165))
            ),
        ],
    ),
    (
        FINE_TUNING,
        r"All layers are above the frozen head on each set, by ([\d.]+) points on average "
        r"\(median: ([\d.]+)\)",
        lambda: [
            choose(points_above("ours", "probe", sets_of(NEW_SETS)).values())
            for choose in (mean, median)
        ],
    ),
    (
        FINE_TUNING,
        r"It is ([\d.]+) points below all layers on clothes10 and ([\d.]+) on grocery21",
        lambda: [*points_below_the_best(["clothes10", "grocery21"]).values()],
    ),
    (
        FINE_TUNING,
        r"as all layers, and no more\. It costs ([\d.]+) to ([\d.]+) times",
        lambda: [
            choose(
                of_one_seed(name, "ours, auto")[1] / of_one_seed(name, "ours")[1]
                for name in sets_of(NEW_SETS)
            )
            for choose in (min, max)
        ],
    ),
    (
        FINE_TUNING,
        r"the columns are (0\.\d+), (0\.\d+), (0\.\d+) and (0\.\d+)",
        lambda: [
            mean(of_three(method, name) for name in sets_of(NEW_SETS))
            for method in ("probe", "ours, last block", "ours", "ours, auto")
        ],
    ),
    (
        FINE_TUNING,
        r"all layers is ([\d.]+) points above the frozen head on average \(median: ([\d.]+)\). "
        r"On bees2 it is ([\d.]+)",
        lambda: [
            mean(points_above("ours", "probe", sets_of(OTHER_SETS)).values()),
            median(points_above("ours", "probe", sets_of(OTHER_SETS)).values()),
            -points_above("ours", "probe", ["bees2"])["bees2"],
        ],
    ),
    (
        FINE_TUNING,
        r"It is ([\d.]+) points below the frozen network on bees2, and ([\d.]+) below all layers "
        r"on scenes15",
        lambda: [*points_below_the_best(["bees2", "scenes15"]).values()],
    ),
    (
        FINE_TUNING,
        r'fastai is below "auto" on each set, by ([\d.]+) points on average. '
        r"It takes ([\d.]+) times",
        lambda: [
            points_above_fastai(),
            sum(of_one_seed(name, "fastai")[1] for name in sets_of(OTHER_SETS))
            / sum(of_one_seed(name, "ours")[1] for name in sets_of(OTHER_SETS)),
        ],
    ),
    (
        FINE_TUNING,
        r"A step takes (0\.\d+) of the CPU time of Keras' `train_on_batch` [^.]* and (0\.\d+) for "
        r"`tiny`\.[^.]* it is (0\.\d+) for both\. [^.]* takes (0\.\d+) and (0\.\d+) of "
        r"the time in single",
        steps_of_training,
    ),
    (
        FINE_TUNING,
        r"standard error of 100 images is ([\d.]+) points",
        lambda: [standard_error(0.97, 100)],
    ),
    (
        FINE_TUNING,
        r"or at most ([\d.]+) points below",
        lambda: [max(points_below_the_best(sets_of("fine-tuning, choices")).values())],
    ),
    (
        FINE_TUNING,
        r"It costs ([\d.]+) to ([\d.]+) times as much as all layers by hand",
        lambda: [choose(costs_of_the_choice()) for choose in (min, max)],
    ),
    (
        RESULTS,
        r"One image is ([\d.]+) points, and one standard error is about ([\d.]+) points",
        lambda: [100 / 330, standard_error(figure("animals", "frozen", column="accuracy"), 330)],
    ),
    (
        RESULTS,
        r"last layers adds little\. One image is (\d) points",
        lambda: [100 / 50],
    ),
    (
        RESULTS,
        r"One standard error of 2,500 test images is ([\d.]+) points",
        lambda: [standard_error(scratch("base, augmented"), 2500)],
    ),
    (
        RESULTS,
        r"make (\d+) of its (\d+) errors on `test`",
        lambda: [74 + 34 + 19, N_CELLS * (1 - cells_right())],
    ),
    (
        RESULTS,
        r"Without this photograph, accuracy would be (0\.\d+)",
        lambda: [N_CELLS * cells_right() / (N_CELLS - 74)],
    ),
    (
        RESULTS,
        r"0\.921 needs (0\.\d+) of all other images right",
        lambda: [0.921 * N_CELLS / (N_CELLS - 74)],
    ),
    (
        RESULTS,
        r"Of the copies of the other 65 photographs, (0\.\d+) are right",
        lambda: [(N_CELLS * cells_right() - 1 - 3) / (N_CELLS - 74 - 35 - 22)],
    ),
    (
        RESULTS,
        r"seem to be copies of the same photograph; they cost (\d) points",
        lambda: [100 * figure("blood cells, confusion", "monocyte", column="neutrophil") / N_CELLS],
    ),
    (
        RESULTS,
        r"confusion matrix, with (0\.\d+) of the images right",
        lambda: [
            sum(number(row[row["`test`"]]) for row in rows_of("blood cells, confusion")) / N_CELLS
        ],
    ),
    (
        CHOOSING,
        r"gains (\d+) points on 35 kinds of animals",
        lambda: [
            100 * (tuned("animals35", "frozen") - tuned("animals35", "frozen", "fine-tuning, tiny"))
        ],
    ),
    (
        CHOOSING,
        r"MobileNetV2 has (0\.\d+) at 160 pixels and (0\.\d+) at 224",
        lambda: [
            accuracy("animals35", "mobilenet_v2"),
            figure("animals", "frozen", column="accuracy"),
        ],
    ),
    (
        "docs/tutorials/first_fine_tuning.md",
        r"pays: (\d+) to (\d+) points on two sets",
        lambda: extreme_gains()[:2],
    ),
    (
        "docs/how_to/crop_stretch_pad.md",
        r"(0\.\d+) with the crop and (0\.\d+) stretched",
        lambda: [
            figure("animals", "frozen", column="accuracy"),
            figure("animals", "frozen, stretched instead of cropped", column="accuracy"),
        ],
    ),
    (
        "docs/tutorials/unknowns.md",
        r"about (\d+) held-out known images, so that one standard error of the shares is ([\d.]+) "
        r"to ([\d.]+) points",
        lambda: [470, standard_error(0.99, 470), standard_error(0.9, 470)],
    ),
    (
        RESULTS,
        r"has (0\.\d+) with the best of thirteen penalties, .* and (0\.\d+) with the default",
        lambda: [
            accuracy("animals35", "mobilenet_v2", "its accuracy"),
            accuracy("animals35", "mobilenet_v2"),
        ],
    ),
    (
        RESULTS,
        r"at 160 the test accuracy is (0\.\d+)",
        lambda: [accuracy("animals35", "mobilenet_v2")],
    ),
    (
        RESULTS,
        r"for the one that has (0\.\d+)",
        lambda: [figure("blood cells, all images", "fine-tuned", column="test")],
    ),
    (
        RESULTS,
        r"so (0\.\d+) is not from an untouched",
        lambda: [figure("blood cells, all images", "fine-tuned", column="test")],
    ),
    (
        RESULTS,
        r"so (0\.\d+) is not a fair score",
        lambda: [figure("stacking", "stacked logistic regressions", column="accuracy")],
    ),
    (
        RESULTS,
        r"varied images \(([\d.]+) points above",
        lambda: [
            100 * (scratch("base, augmented") - scratch("base: two blocks of two convolutions"))
        ],
    ),
    (
        RESULTS,
        r"is ([\d.]+) points below the head alone for MobileNetV2 on sports10, and elsewhere at "
        r"most ([\d.]+) points below and up to ([\d.]+) above",
        gains_of_last_layers,
    ),
    (
        RESULTS,
        r"`tiny`, frozen, has (0\.\d+) after 240 images",
        lambda: [figure("defaults", "cifar10, 300 a class", "tiny", column="default")],
    ),
    (
        "docs/how_to/backbones.md",
        r"instead of (0\.\d+) of the test images of animals35 were right, and (0\.\d+) of sports10",
        lambda: [
            accuracy("animals35", "efficientnet_lite0"),
            accuracy("sports10", "efficientnet_lite0"),
        ],
    ),
    (
        "docs/how_to/backbones.md",
        r"nothing else set: (0\.\d+) on sports10 and (0\.\d+) on animals35",
        lambda: [
            accuracy("sports10", "efficientnet_lite0"),
            accuracy("animals35", "efficientnet_lite0"),
        ],
    ),
    *rules_helpers.SENTENCES,
]


@pytest.mark.parametrize(("page", "pattern", "exact"), SENTENCES, ids=range(len(SENTENCES)))
def test_a_sentence_has_the_figures_of_its_record(page, pattern, exact):
    check_said(page, pattern, *exact())


# --- figures that are in no record

LOOKS_MEASURED = re.compile(
    r"(?<![\w.])0\.\d{3}(?!\d)"  # an accuracy
    r"|\b\d[\d.,]*\s+times\s+(?:as|faster|less|the)\b"
    r"|\b\d[\d.,]*\s+CPU\s+s(?:econds)?\b"
    r"|\b\d[\d.]*\s+points?\b"
)

# Sentences whose figures are in no record: the page, a part of the sentence, and the reason. Their
# page says how they were measured, or where they were published.
PUBLISHED, BY_HAND = "published by others", "measured once by hand, as the page says"

ALONE = [
    (
        FINE_TUNING,
        "with it, blood_smear had 0.824",
        "measured by the same command before the rule was replaced",
    ),
    (BENCHMARKS, "took 2.72 CPU s on TensorFlow", "a run after that of the table, by hand"),
    (DESIGN, "the cosine is at least 0.999", "the bound of tests/test_extraction_fidelity.py"),
    (DESIGN, "a cosine of 0.998 to a plain resize", "the bound of the test that it names"),
    (DESIGN, "in float32 stays above 0.999", "the bound of tests/test_engines_forward.py"),
    (DESIGN, "then took 0.61 times the CPU time", BY_HAND),
    (RESULTS, "accuracies of 0.844 (frozen), 0.871 and 0.864", PUBLISHED),
    (RESULTS, "(0.912, against 0.907 at 160)", BY_HAND),
    (RESULTS, "has an accuracy of 0.970 on the images of `valid`", "printed by its example"),
    (RESULTS, "A first version had 0.930", "of an earlier version of the example"),
    (RESULTS, "283 CPU seconds", "printed by benchmarks/blood_cells.py"),
    (RESULTS, "0.312 with the sizes of the first table", BY_HAND),
    (RESULTS, "(0.250 on `test`)", BY_HAND),
    (RESULTS, "had 0.958 for a recipe that had 0.690 on `test`", BY_HAND),
    (RESULTS, "rest had 0.847", BY_HAND),
    (RESULTS, "after we saw the 0.690", BY_HAND),
    (
        RESULTS,
        "had 0.692, augmented 0.652, augmented and whitened 0.660, and deeper 0.627",
        BY_HAND,
    ),
    (TINY, "accuracies are 0.860, 0.685, 0.707, 0.523 and 0.978", BY_HAND),
    (TINY, "had 0.690 on sports10, and took 13 times as long", BY_HAND),
    (
        TINY,
        "was 1.38 to 1.45 times as fast by ONNX",
        "on another processor than that of the record",
    ),
    (TINY, "was 1.85 to 1.96 times as fast", "on another processor than that of the record"),
    (TINY, "fell to 0.682 and digits to 0.987", BY_HAND),
    (TINY, "are 0.910, 0.694, 0.720, 0.605 and 0.993", BY_HAND),
    ("docs/how_to/backbones.md", "`crop_fraction=0.875`", "a setting"),
    ("docs/how_to/backbones.md", "With that crop 0.945", BY_HAND),
    ("docs/how_to/backbones.md", "is 0.900 with the crop and 0.875 without", BY_HAND),
    (SCALING, "took 4.17 seconds, 1.87 times as fast", BY_HAND),
    (
        "docs/tutorials/folder_to_model.md",
        "One of 60 photographs is 1.7 points",
        "a quotient: 100 / 60",
    ),
    ("docs/tutorials/unknowns.md", "within 0.001", BY_HAND),
    ("docs/tutorials/unknowns.md", "up to 0.011 worse, and of cifar10 up to 0.013 better", BY_HAND),
]


def prose(page):
    """Return a page with blanks in the place of its blocks of code and its tables."""

    def blank(match):
        return re.sub(r"[^\n]", " ", match[0])

    text = re.sub(r"^(```+).*?^\1\s*$", blank, read(page), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"^\|.*$", blank, text, flags=re.MULTILINE)


def spans(page, patterns):
    return [match.span() for pattern in patterns for match in matches(page, pattern)]


def cells(page):
    """Return all figures of the records that stand on a page."""
    return {
        shown
        for record in records().values()
        if page in record["pages"]
        for row in record["rows"]
        for cell in row
        for shown in re.findall(r"\d[\d.,]*\d|\d", cell)
    }


@pytest.mark.parametrize("page", PAGES)
def test_a_figure_in_a_sentence_is_in_a_record(page):
    patterns = [pattern for where, pattern, _ in SENTENCES if where == page]
    patterns += [re.escape(part).replace(r"\ ", " ") for where, part, _ in ALONE if where == page]
    known, recorded = spans(page, patterns), cells(page)
    unknown = [
        prose(page)[max(0, match.start() - 50) : match.end() + 20]
        for match in LOOKS_MEASURED.finditer(prose(page))
        if not any(start <= match.start() < end for start, end in known)
        and (not match[0].startswith("0.") or match[0] not in recorded)
    ]
    assert unknown == [], "compare it in SENTENCES, or give a reason in ALONE"


@pytest.mark.parametrize(("page", "part", "reason"), ALONE, ids=range(len(ALONE)))
def test_a_sentence_without_a_record_is_there(page, part, reason):
    assert len(matches(page, re.escape(part).replace(r"\ ", " "))) == 1
    assert reason


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("it has 0.912 there", ["0.912"]),
        ("a rate of 0.9 and 1e-3", []),
        ("1.7 times as much", ["1.7 times as"]),
        ("416 CPU\nseconds", ["416 CPU\nseconds"]),
        ("two are 1.3 points apart", ["1.3 points"]),
        ("version 0.123.4 of v0.123", ["0.123"]),
    ],
)
def test_figures_that_look_measured_are_found(text, found):
    assert LOOKS_MEASURED.findall(text) == found
