"""The bundled network beside MobileNetV2 at 96 × 96, by every engine.

"Extraction" is `CNNFeatureExtractor.transform` of uint8 images with nothing stored. The bundled
network has its default size. "Network alone" is the same compiled function on float32 batches.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from measuring import (
    Claim,
    Options,
    Timing,
    child_result,
    claims_table,
    number,
    ratio_of,
    start,
    table,
    timings_here,
)
from pictures import labelled_images

ENGINES = ("tensorflow", "onnxruntime", "openvino")
SIZES = {"tiny": None, "mobilenet_v2": 96}
LEAST = 1.3  # promised speed-up over MobileNetV2, for every engine


def main(options: Options) -> None:
    n_images = 32 if options.quick else 256
    rows, claims = [], []
    for engine in ENGINES:
        found = child_result(measured, engine=engine, n_images=n_images, rounds=options.rounds)
        if "left_out" in found:
            print(f"Left out: {found['left_out']}\n")
            continue
        timed = {name: Timing(*it) for name, it in found.items()}
        for what in ("extraction", "network alone"):
            names = [f"{backbone}, {what}" for backbone in SIZES]
            rates = [number(n_images / timed[name].cpu) for name in names]
            ratio = ratio_of(timed, names[1], names[0])
            rows.append((engine, what, *rates, number(ratio)))
            claims.append(Claim(f"{what}, {engine}, times MobileNetV2", ratio, LEAST))
    columns = ("engine", "task", "tiny, images per CPU s", "MobileNetV2", "times as fast")
    print(table(columns, rows) + "\n")
    print(claims_table(claims))


def measured(engine: str, n_images: int, rounds: int) -> dict[str, Any]:
    """Measure, in a new process, both networks in turns; or say why this engine cannot run."""
    from transferclf import CNNFeatureExtractor
    from transferclf.exceptions import TransferclfError

    candidates = {}
    for backbone, side in SIZES.items():
        extractor = CNNFeatureExtractor(
            backbone,
            weights=None,
            random_state=0,
            image_size=side,
            cache=None,
            engine=engine,
        )
        images, _ = labelled_images(n_images, 96)
        try:
            extractor.fit(images[:1])
        except TransferclfError as error:
            return {"left_out": str(error).splitlines()[0]}
        size = extractor.prefix_.size
        forward = extractor.prefix_.forward()
        pixels = labelled_images(n_images, size[0])[0].astype(np.float32)
        # Defaults bind the values now, because the loop changes them.
        candidates[f"{backbone}, extraction"] = lambda e=extractor, x=images: e.transform(x)
        candidates[f"{backbone}, network alone"] = lambda f=forward, x=pixels: f(x)
    return timings_here(candidates, rounds)


if __name__ == "__main__":
    start(main, children=[measured])
