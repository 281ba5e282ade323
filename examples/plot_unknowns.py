"""Animals of other kinds, sports and blood cells: none of the animals that a classifier knows.

    python examples/plot_unknowns.py                           # about a minute
    python examples/plot_unknowns.py --full --cache features   # MobileNetV2, 25 kinds of animals

A classifier of some kinds of animals is shown photographs of other kinds, of sports, and of blood
cells. By itself it names an animal for each, often surely. `UnknownRejector` keeps 95 % of new
images of the known kinds. The images are in ``FOLDER/caltech_animals35/CLASS/IMAGE``,
``FOLDER/sports10/test/CLASS/IMAGE`` and ``FOLDER/blood_cells4/test_simple/CLASS/IMAGE``.
"""

import numpy as np
from common import (
    add_cache,
    backbone_to_be_had,
    images_of,
    options,
    pyplot,
    show,
    some_of_each_class,
    table,
    weights_note,
)
from sklearn.model_selection import train_test_split

from transferclf import TransferClassifier, UnknownRejector
from transferclf.reports import UnknownDisplay, evaluate

# Network, side in pixels, share of the kinds that are known, and images of each kind.
SIZES = {
    "quick": ("tiny", 32, 0.7, 20),
    "default": ("tiny", 96, 0.7, 30),
    "full": ("mobilenet_v2", 160, 0.7, None),
}
HEADER = (
    "unknown images",
    "number",
    "AUROC",
    "rejected",
    "named at 90 % by the classifier alone",
)


def main():
    parser = options(__doc__)
    add_cache(parser, "memory")
    arguments = parser.parse_args()
    backbone, image_size, share, number = SIZES[arguments.size]
    X, y = images_of(arguments.data / "caltech_animals35")
    X, y = some_of_each_class(X, y, number or len(y), arguments.seed)
    backbone, image_size = backbone_to_be_had(backbone, image_size, X)
    classifier = TransferClassifier(backbone, image_size=image_size, cache=arguments.cache)

    kinds = np.random.default_rng(arguments.seed).permutation(np.unique(y))
    is_known = np.isin(y, kinds[: round(share * len(kinds))])
    X_train, X_test, y_train, y_test = train_test_split(
        X[is_known], y[is_known], test_size=0.3, stratify=y[is_known], random_state=arguments.seed
    )
    rejector = UnknownRejector(classifier, random_state=arguments.seed).fit(X_train, y_train)

    unknown = {
        "other animals": X[~is_known],
        "sports": images_of(arguments.data / "sports10", "test")[0],
        "blood cells": images_of(arguments.data / "blood_cells4", "test_simple")[0],
    }
    rows = []
    for name, images in unknown.items():
        labels = [*y_test, *["unknown"] * len(images)]
        found = evaluate(rejector, [*X_test, *images], labels)
        is_sure = rejector.predict_proba(images).max(axis=1) >= 0.9
        rows.append((name, len(images), found.auroc, found.rejected, float(is_sure.mean())))
    text = table(HEADER, rows) + "\n" + note(found, len(y_train), backbone, image_size, arguments)
    show(text, arguments.output)
    if arguments.figure:
        draw(rejector, X_test, y_test, unknown, arguments.figure)


def note(found, n_train, backbone, image_size, arguments):
    less = "" if arguments.size == "full" else " This is a reduced run; --full does more."
    return (
        f"{n_train:,} images to learn from; of {found.n_known} others of the same kinds "
        f"{found.coverage:.3f} are kept, where 0.95 were asked for, and {found.accuracy_kept:.3f} "
        f"of these named right. Backbone {backbone}{weights_note(backbone)}, {image_size} pixels, "
        f"seed {arguments.seed}.{less}\n"
    )


def draw(rejector, X, y, unknown, path):
    """Histograms of the scores, for each sort of unknown images."""
    plt = pyplot()
    figure, axes = plt.subplots(
        len(unknown), figsize=(6.4, 2.6 * len(unknown)), sharex=True, layout="constrained"
    )
    for ax, (name, images) in zip(axes, unknown.items(), strict=True):
        labels = [*y, *["unknown"] * len(images)]
        UnknownDisplay.from_estimator(rejector, [*X, *images], labels, ax=ax)
        ax.set_title(name)
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    main()
