"""One image by `predict_proba`, compared with the bare compiled network and `keras predict`.

The classifier is MobileNetV2 at 224 × 224 with a linear head. Every image is new, so none is
stored.
"""

from __future__ import annotations

import itertools

import numpy as np
from measuring import Claim, Options, claims_table, ratio_of, start, timing_table, timings_here
from pictures import labelled_images

from transferclf import TransferClassifier

SIDE = 224
BARE, OURS, KERAS = "bare compiled network", "predict_proba", "keras predict of model_"


def main(options: Options) -> None:
    calls = 5 if options.quick else 50
    images, labels = labelled_images(40, SIDE)
    classifier = TransferClassifier(
        "mobilenet_v2", weights=None, random_state=0, image_size=SIDE
    ).fit(images, labels)
    forward, model = classifier.prefix_.forward(), classifier.model_
    fresh = fresh_images(images[0])

    def called(function):
        return lambda: [function(image) for image in itertools.islice(fresh, calls)]

    timed = timings_here(
        {
            BARE: called(lambda image: forward(image.astype(np.float32))),
            OURS: called(classifier.predict_proba),
            KERAS: called(lambda image: model.predict(image.astype(np.float32), verbose=0)),
        },
        options.rounds,
    )
    each = {name: it * (1 / calls) for name, it in timed.items()}
    print(timing_table(each, what="one image", unit=1e-3, name="ms") + "\n")
    print(
        claims_table(
            [
                Claim("times the bare network", ratio_of(timed, OURS, BARE), 1.5, at_least=False),
                Claim("times faster than keras predict", ratio_of(timed, KERAS, OURS), 3),
            ]
        )
    )


def fresh_images(image):
    """Yield X of one image without end; each image differs from all before."""
    for number in itertools.count():
        changed = image.copy()
        changed[0, :4, 0] = list(number.to_bytes(4, "big"))
        yield changed[None]


if __name__ == "__main__":
    start(main)
