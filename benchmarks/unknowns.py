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
from scipy.linalg import cholesky, solve_triangular
from scipy.special import log_softmax, logsumexp
from sklearn.covariance import ledoit_wolf
from sklearn.metrics import euclidean_distances, roc_auc_score
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


# --- the scores of others, from features of known images and their labels


def all_scores(known, y, others):
    numbers = np.unique(y, return_inverse=True)[1]
    return {
        **ours(known, numbers, others),
        "k-nearest-neighbour cosine": nearest_neighbours(known, others),
        **mahalanobis(known, numbers, others),
        **of_the_head(known, y, others),
    }


def ours(known, numbers, others):
    normality = Normality.of(known, numbers)
    normality = normality.standardised(held_out_measures(known, numbers, 5, 0))
    measures = normality.measures(others)
    return {
        "UnknownRejector": normality.scores_of(measures),
        "its closeness alone": measures[:, 0],
    }


def nearest_neighbours(known, others):
    cosines = normalize(others) @ normalize(known).T
    return np.sort(cosines, axis=1)[:, -min(NEIGHBOURS, len(known))]


def mahalanobis(known, numbers, others):
    """Distances by covariances within classes and of all images, shrunk by Ledoit and Wolf."""
    scaler = StandardScaler().fit(known)
    known, others = scaler.transform(known), scaler.transform(others)
    means = np.array([known[numbers == number].mean(axis=0) for number in np.unique(numbers)])
    to_means = squared_distances(known - means[numbers], others, means).min(axis=1)
    to_centre = squared_distances(known, others, np.zeros((1, known.shape[1])))[:, 0]
    return {"Mahalanobis": -to_means, "relative Mahalanobis": to_centre - to_means}


def squared_distances(residuals, others, means):
    covariance, _ = ledoit_wolf(residuals, assume_centered=True)
    root = cholesky(covariance, lower=True)
    others, means = (solve_triangular(root, rows.T, lower=True).T for rows in (others, means))
    return euclidean_distances(others, means, squared=True)


def of_the_head(known, y, others):
    objective, targets = objective_for(y, len(y))
    head = fit_linear(known, targets, objective, l2=0.01, sample_weight=np.ones(len(y)))
    logits = head.scores(others)
    return {
        "energy": logsumexp(logits, axis=1),
        "maximum logit": logits.max(axis=1),
        "maximum softmax": log_softmax(logits, axis=1).max(axis=1),
    }


# --- the first table


def comparison(features, draws):
    columns = {}
    for name, n_known, n_each, others in COMPARED:
        for seed in range(draws):
            known, unknown = parts(features, name, n_known, n_each, others, seed)
            every = np.concatenate([known[2], *unknown.values()])
            for score, values in all_scores(*known[:2], every).items():
                for other, auroc in aurocs(values, len(known[2]), unknown).items():
                    label = f"{name}{f' {n_each} each' if n_each else ''} / {other}"
                    columns.setdefault(label, {}).setdefault(score, []).append(auroc)
    header = ["score", "mean", *columns]
    rows = []
    for score in next(iter(columns.values())):
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
