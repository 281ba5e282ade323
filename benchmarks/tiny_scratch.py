"""The bundled network, frozen, compared with the same network trained from scratch.

    TRANSFERCLF_DATA=... python benchmarks/tiny_scratch.py [--sets ...] [--epochs 20]

Both use the images of `accuracy.py` and default parameters. The frozen network computes all
features (nothing is stored), and `l2` is chosen by the training images. The other network trains
all its layers with Adam. Prints a Markdown table.
"""

import argparse
import time

from accuracy import SETS

from transferclf import TransferClassifier

HEADER = (
    "images", "frozen", "from scratch", "frozen, CPU s", "from scratch, CPU s", "times as fast",
)  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--epochs", type=int, default=20, help="epochs from scratch")
    arguments = parser.parse_args()
    print(f"| {' | '.join(HEADER)} |\n|{'---|' * len(HEADER)}", flush=True)
    for name in arguments.sets:
        print(line(name, arguments.epochs), flush=True)


def line(name, epochs):
    X, X_test, y, y_test = SETS[name]()
    common = {"cache": None, "random_state": 0}
    if name == "digits":
        common["pixel_range"] = (0, 16)
    scores, seconds = [], []
    for options in (
        {},
        {
            "weights": None,
            "trainable_layers": "all",
            "epochs": epochs,
            "lr_schedule": "cosine",
        },
    ):
        classifier = TransferClassifier("tiny", **options, **common)
        start = time.process_time()
        classifier.fit(X, y)
        seconds.append(time.process_time() - start)
        scores.append(classifier.score(X_test, y_test))
    return (
        f"| {name} | {scores[0]:.3f} | {scores[1]:.3f} | {seconds[0]:.1f} | {seconds[1]:.0f} | "
        f"{seconds[1] / seconds[0]:.0f} |"
    )


if __name__ == "__main__":
    main()
