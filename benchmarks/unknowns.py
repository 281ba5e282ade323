"""Scores that tell images of unknown kinds from known ones, on real images.

    TRANSFERCLF_DATA=... KERAS_HOME=... python benchmarks/unknowns.py [--cache FOLDER]

Each column of the first table is the mean over draws of the known classes: AUROC of held-out images
of these against images of the other classes ("near") or of another set. "5 each" learns from five
images of each class. The score of UnknownRejector was chosen by these. The second table has what
UnknownRejector reaches on animals, which nothing was chosen by: AUROC, and the share of held-out
known images that it keeps where 0.9, 0.95 and 0.99 are asked for. Prints Markdown.
"""

import argparse
import os
from pathlib import Path

import numpy as np
from scipy.special import log_softmax, logsumexp
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler, normalize

from transferclf import CNNFeatureExtractor, TransferClassifier, UnknownRejector, load_image_folder
from transferclf.estimators.strangeness import Normality, held_out_measures, offset_of
from transferclf.heads.linear import fit_linear
from transferclf.objectives import objective_for

DATA = Path(os.environ.get("TRANSFERCLF_DATA", Path(__file__).parents[2] / "shared" / "data"))
BACKBONES = {
    "mobilenet_v2": {"image_size": 160},
    "tiny": {},
}
FOLDERS = {
    "sports10": ("sports10", "train"),
    "cifar10": ("cifar10_subset", "test"),
    "blood_smear": ("blood_smear", None),
    "blood_cells4": ("blood_cells4", "test"),
    "imagenet": ("imagenet_samples", None),
    "animals": ("caltech_animals35", None),
}
# Known set, number of its classes that are known, images of each to learn from, other sets.
COMPARED = (
    ("sports10", 7, None, ("imagenet", "cifar10")),
    ("sports10", 7, 5, ("imagenet", "cifar10")),
    ("cifar10", 7, 60, ("sports10", "imagenet")),
    ("cifar10", 7, 5, ("sports10", "imagenet")),
    ("blood_smear", None, None, ("blood_cells4", "imagenet")),
)
KNOWN_ANIMALS = 25
COVERAGES = (0.9, 0.95, 0.99)
MOST_UNKNOWN = 600  # images of another set
NEIGHBOURS = 5  # in the k-nearest-neighbour distance as published


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", default="memory", help="a folder that keeps features")
    parser.add_argument("--backbones", nargs="+", choices=BACKBONES, default=list(BACKBONES))
    parser.add_argument("--draws", type=int, default=3, help="of known classes, for each column")
    arguments = parser.parse_args()
    for backbone in arguments.backbones:
        network = {"backbone": backbone, "cache": arguments.cache, **BACKBONES[backbone]}
        features = Features(network)
        print(f"\n{backbone}\n\n{comparison(features, arguments.draws)}", flush=True)
        print(f"\n{animals(network, arguments.draws)}", flush=True)


class Features:
    """Features and labels of the sets, each computed when it is asked for first."""

    def __init__(self, network):
        self.extractor = CNNFeatureExtractor(**network)
        self.known = {}

    def __getitem__(self, name):
        if name not in self.known:
            bunch = images_of(name)
            self.known[name] = self.extractor.fit_transform(bunch.data), bunch.target
        return self.known[name]


def some(rows):
    return rows[np.random.default_rng(0).permutation(len(rows))[:MOST_UNKNOWN]]


def images_of(name):
    folder, split = FOLDERS[name]
    return load_image_folder(DATA / folder, split=split)


# --- the scores: from features of known images, their labels and features of others


def unknown_rejector(known, y, others):
    return learned(known, y).scores(others)


def closeness(known, y, others):
    return learned(known, y).measures(others)[:, 0]


def learned(known, y):
    numbers = np.unique(y, return_inverse=True)[1]
    return Normality.of(known, numbers).standardised(held_out_measures(known, numbers, 5, 0))


def nearest_neighbours(known, y, others):
    cosines = normalize(others) @ normalize(known).T
    return np.sort(cosines, axis=1)[:, -min(NEIGHBOURS, len(known))]


def mahalanobis(known, y, others):
    to_means, _ = _distances(known, y, others)
    return -to_means.min(axis=1)


def relative_mahalanobis(known, y, others):
    to_means, to_centre = _distances(known, y, others)
    return -(to_means - to_centre[:, None]).min(axis=1)


def _distances(known, y, others):
    """Squared Mahalanobis distances to the means of the classes and to that of all images."""
    scaler = StandardScaler().fit(known)
    known, others = scaler.transform(known), scaler.transform(others)
    names, numbers = np.unique(y, return_inverse=True)
    means = np.array([known[numbers == number].mean(axis=0) for number in range(len(names))])
    within = LedoitWolf(assume_centered=True).fit(known - means[numbers])
    overall = LedoitWolf(assume_centered=True).fit(known)
    to_means = np.column_stack([within.mahalanobis(others - mean) for mean in means])
    return to_means, overall.mahalanobis(others)


def max_logit(known, y, others):
    return _logits(known, y, others).max(axis=1)


def energy(known, y, others):
    return logsumexp(_logits(known, y, others), axis=1)


def max_softmax(known, y, others):
    return log_softmax(_logits(known, y, others), axis=1).max(axis=1)


def _logits(known, y, others):
    objective, targets = objective_for(y, len(y))
    head = fit_linear(known, targets, objective, l2=0.01, sample_weight=np.ones(len(y)))
    return head.scores(others)


SCORES = {
    "UnknownRejector": unknown_rejector,
    "its closeness alone": closeness,
    "k-nearest-neighbour cosine": nearest_neighbours,
    "Mahalanobis": mahalanobis,
    "relative Mahalanobis": relative_mahalanobis,
    "energy": energy,
    "maximum logit": max_logit,
    "maximum softmax": max_softmax,
}


# --- the first table


def comparison(features, draws):
    columns = {}
    for name, n_known, n_each, others in COMPARED:
        for seed in range(draws):
            known, unknown = parts(features, name, n_known, n_each, others, seed)
            for score, function in SCORES.items():
                found = function(*known[:2], np.concatenate([known[2], *unknown.values()]))
                for other, auroc in aurocs(found, len(known[2]), unknown).items():
                    label = f"{name}{f' {n_each} each' if n_each else ''} / {other}"
                    columns.setdefault(label, {}).setdefault(score, []).append(auroc)
    header = ["score", "mean", *columns]
    rows = []
    for score in SCORES:
        means = [np.mean(column[score]) for column in columns.values()]
        rows.append([score, *(f"{value:.3f}" for value in (np.mean(means), *means))])
    return table(header, rows)


def parts(features, name, n_known, n_each, others, seed):
    """Known features and labels to learn from, held-out ones, and unknown ones by name."""
    rows, labels = features[name]
    chosen = known_classes(labels, n_known, seed)
    is_known = np.isin(labels, chosen)
    train, test = split(labels, np.flatnonzero(is_known), seed)
    if n_each:
        train = np.concatenate([train[labels[train] == label][:n_each] for label in chosen])
    unknown = {other: some(features[other][0]) for other in others}
    if n_known:
        unknown = {"near": some(rows[~is_known])} | unknown
    return (rows[train], labels[train], rows[test]), unknown


def known_classes(labels, number, seed):
    return np.random.default_rng(seed).permutation(np.unique(labels))[:number]


def split(labels, places, seed):
    """Places to learn from and places to hold out; every class in proportion."""
    return train_test_split(places, test_size=0.3, stratify=labels[places], random_state=seed)


def aurocs(scores, n_known, unknown):
    found, start = {}, n_known
    for name, rows in unknown.items():
        both = np.concatenate([scores[:n_known], scores[start : start + len(rows)]])
        found[name] = roc_auc_score(np.arange(len(both)) < n_known, both)
        start += len(rows)
    return found


# --- the second table


def animals(network, draws):
    bunch = images_of("animals")
    others = {name: images_of(name).data for name in ("sports10", "blood_cells4")}
    rows = []
    for seed in range(100, 100 + draws):
        is_known = np.isin(bunch.target, known_classes(bunch.target, KNOWN_ANIMALS, seed))
        train, test = split(bunch.target, np.flatnonzero(is_known), seed)
        rejector = UnknownRejector(TransferClassifier(**network), random_state=seed)
        rejector.fit(bunch.data[train], bunch.target[train])
        known = rejector.score_samples(bunch.data[test])
        unknown = {"near": rejector.score_samples(bunch.data[~is_known])}
        unknown |= {name: rejector.score_samples(images) for name, images in others.items()}
        ranks = aurocs(np.concatenate([known, *unknown.values()]), len(known), unknown)
        offsets = [offset_of(rejector.held_out_scores_, asked) for asked in COVERAGES]
        rows.append([*ranks.values(), *(np.mean(known >= offset) for offset in offsets)])
    header = ["draw", "other animals", *others, *(f"kept of {asked}" for asked in COVERAGES)]
    means = ["mean", *(f"{value:.3f}" for value in np.mean(rows, axis=0))]
    each = [[n, *(f"{value:.3f}" for value in row)] for n, row in enumerate(rows, 1)]
    return table(header, [*each, means])


def table(header, rows):
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


if __name__ == "__main__":
    main()
