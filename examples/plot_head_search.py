"""Search over networks, widths, activations and optimizers with one pass over the images.

    python examples/plot_head_search.py                             # about two minutes
    python examples/plot_head_search.py --full --cache features     # five networks, 180 settings

A study of pollen grains compared frozen networks, 64 to 256 neurons, three activations and four
optimizers. Here one `GridSearchCV` does this. The convolutions of a frozen network are the same in
all trials, so each image goes through each network once, and the search trains heads only.

The last table shows the cost. It also estimates the cost if each trial computed all features; for
this, one such trial is timed for each network. The images are in
``FOLDER/sports10/{train,valid,test}/CLASS/IMAGE``.
"""

import sys
import time

import numpy as np
from common import (
    add_cache,
    can_be_had,
    images_of,
    options,
    pyplot,
    show,
    size_for,
    table,
    weights_note,
)
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, ParameterGrid, StratifiedKFold

from transferclf import CNNFeatureExtractor, FeatureStore, TransferClassifier

OPTIMIZERS = ["rmsprop", "sgd", "adagrad", "adam"]
GRIDS = {
    "quick": {"hidden_units": [(8,)], "activation": ["relu"], "optimizer": ["sgd", "adam"]},
    "default": {
        "hidden_units": [(64,), (256,)],
        "activation": ["relu", "tanh"],
        "optimizer": OPTIMIZERS,
    },
    "full": {
        "hidden_units": [(64,), (128,), (256,)],
        "activation": ["relu", "sigmoid", "tanh"],
        "optimizer": OPTIMIZERS,
    },
}
# Networks, their input size in pixels, epochs.
SIZES = {
    "quick": (("tiny",), 32, 1),
    "default": (("tiny", "mobilenet_v2_035"), 160, 10),
    "full": (
        ("tiny", "mobilenet_v2_035", "mobilenet_025", "mobilenet_v2", "efficientnet_lite0"),
        160,
        10,
    ),
}
FOLDS = 3


def main():
    parser = options(__doc__)
    add_cache(parser)
    parser.add_argument("--backbones", nargs="+", help="names of list_backbones()")
    arguments = parser.parse_args()
    X, y = images_of(arguments.data / "sports10", "train")
    X_test, y_test = images_of(arguments.data / "sports10", ["valid", "test"])
    backbones, image_size, epochs = SIZES[arguments.size]
    # None keeps the store in memory. Its `misses` count the images that were not stored yet.
    store = FeatureStore(arguments.cache)

    # The search would compute the features too. They are computed here to time them separately.
    extraction = seconds_of_extraction(arguments.backbones or backbones, image_size, store, X)
    if not extraction:
        sys.exit("No network has weights here. Name others of list_backbones(), such as 'tiny'.")
    n_computed = store.info().misses

    classifier = TransferClassifier(epochs=epochs, cache=store, random_state=arguments.seed)
    heads = GRIDS[arguments.size]
    grid = [{"backbone": [name], "image_size": [size], **heads} for name, size in extraction]
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=arguments.seed)
    search = GridSearchCV(classifier, grid, cv=folds, verbose=1)
    start = time.process_time()
    search.fit(X, y)
    seconds = time.process_time() - start
    n_again = store.info().misses - n_computed

    n_trials = len(ParameterGrid(heads)) * FOLDS
    trial_seconds = [
        seconds_of_one_trial(classifier, setting, next(folds.split(X, y)), X, y) for setting in grid
    ]
    costs = [
        ("features, each image once a network", n_computed, sum(extraction.values())),
        (f"{n_trials * len(grid)} heads on stored features", n_again, seconds),
        (
            "the same search without stored features, from one trial a network",
            n_trials * len(grid) * len(y),
            n_trials * sum(trial_seconds),
        ),
    ]
    test_accuracy = search.score(X_test, y_test)
    text = best_table(search) + "\n" + means_table(search, heads) + "\n"
    text += table(("task", "images through a network", "CPU seconds"), costs)
    text += "\n" + note(list(extraction), search, test_accuracy, len(y), arguments)
    show(text, arguments.output)
    if arguments.figure:
        draw(search, arguments.figure)


def seconds_of_extraction(backbones, image_size, store, X):
    """Return the CPU seconds of extraction by (network, size); skip networks without weights."""
    seconds = {}
    for name in backbones:
        if can_be_had(name, image_size, X):
            size = size_for(name, image_size)
            start = time.process_time()
            CNNFeatureExtractor(name, image_size=size, cache=store).fit_transform(X)
            seconds[name, size] = time.process_time() - start
    return seconds


def seconds_of_one_trial(classifier, setting, fold, X, y):
    """Return the CPU seconds of one fit and score that computes all features."""
    first = {name: values[0] for name, values in setting.items()}
    trial = clone(classifier).set_params(**first, cache=None)
    train, test = fold
    start = time.process_time()
    trial.fit(X[train], y[train]).score(X[test], y[test])
    return time.process_time() - start


def best_table(search):
    """Return a table of the best setting of each network."""
    results = search.cv_results_
    rows = []
    for name in dict.fromkeys(results["param_backbone"]):
        of_name = results["param_backbone"] == name
        best = np.argmax(np.where(of_name, results["mean_test_score"], -1))
        setting = results["params"][best]
        head = (setting["hidden_units"][0], setting["activation"], setting["optimizer"])
        rows.append((name, *head, results["mean_test_score"][best]))
    return table(("network", "neurons", "activation", "optimizer", "accuracy"), rows)


def means_table(search, heads):
    """Return a table of mean accuracies of each optimizer, activation and width."""
    results = search.cv_results_
    rows = []
    for name in reversed(heads):
        for value in heads[name]:
            has_value = [params[name] == value for params in results["params"]]
            mean = results["mean_test_score"][has_value].mean()
            rows.append((name, str(value), mean))
    return table(("parameter", "value", "mean accuracy"), rows)


def note(networks, search, test_accuracy, n_images, arguments):
    best = search.best_params_
    less = "" if arguments.size == "full" else " This is a reduced run; --full searches more."
    sizes = ", ".join(f"{name}{weights_note(name)} at {size} pixels" for name, size in networks)
    return (
        f"sports10: {n_images:,} images, accuracy in {FOLDS}-fold cross-validation; {sizes}; seed "
        f"{arguments.seed}. The best setting, {best['backbone']} with {best['hidden_units']}, "
        f"{best['activation']} and {best['optimizer']}, has accuracy {test_accuracy:.3f} on the "
        f"images of valid and test.{less}\n"
    )


def draw(search, path):
    """Draw the accuracy of all settings, by network and optimizer."""
    plt = pyplot()

    results = search.cv_results_
    networks = list(dict.fromkeys(results["param_backbone"]))
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for shift, optimizer in enumerate(OPTIMIZERS):
        chosen = results["param_optimizer"] == optimizer
        places = [networks.index(name) + 0.15 * shift for name in results["param_backbone"][chosen]]
        axes.plot(places, results["mean_test_score"][chosen], "o", alpha=0.6, label=optimizer)
    axes.set(ylabel="accuracy in cross-validation", title="widths and activations of heads")
    axes.set_xticks(np.arange(len(networks)) + 0.225, networks)
    axes.legend(loc="lower right")
    axes.grid(axis="y", alpha=0.3)
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    main()
