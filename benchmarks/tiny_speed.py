"""The bundled network beside MobileNetV2 at 96 × 96, by every engine.

Features of uint8 images, nothing stored, by `CNNFeatureExtractor.transform`: the bundled network
at its own size. "Network alone" is the same compiled function on float32 batches. The second table
is what 3 x 3 convolutions on small maps, of which its last is one, gain as matrix products: 32 maps
at a time, compiled by TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable
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
LEAST = 2.0  # times as fast as MobileNetV2, with the default engine
CHANNELS, MAP_SIDES = (128, 256, 512), (2, 3, 4)


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
            if engine == ENGINES[0]:
                claims.append(Claim(f"{what}, {engine}, times MobileNetV2", ratio, LEAST))
    columns = ("engine", "what", "tiny, images a CPU s", "MobileNetV2", "times as fast")
    print(table(columns, rows) + "\n")
    found = child_result(convolutions, calls=1 if options.quick else 20, rounds=options.rounds)
    timed = {name: Timing(*it) for name, it in found.items()}
    print(gains(timed) + "\n")
    gain = ratio_of(timed, "convolution, 256 on 3", "products, 256 on 3")
    claims.append(Claim("256 channels on 3 x 3, times the convolution", gain, 1.5))
    print(claims_table(claims))


def gains(timed: dict[str, Timing]) -> str:
    """Times as fast as TensorFlow's convolution, by channels and side."""
    rows = []
    for side in MAP_SIDES:
        kinds = [f"{channels} on {side}" for channels in CHANNELS]
        ratios = [ratio_of(timed, f"convolution, {it}", f"products, {it}") for it in kinds]
        rows.append((f"{side} x {side}", *map(number, ratios)))
    return table(("map", *(f"{it} channels, times as fast" for it in CHANNELS)), rows)


def convolutions(calls: int, rounds: int) -> dict[str, Any]:
    """In a new process: 3 x 3 convolutions on small maps, and the same as matrix products."""
    import keras

    from transferclf.networks.inference import compiled
    from transferclf.networks.smallmaps import SmallMapConv2D

    def several(layer: Any, shape: tuple[int, ...]) -> Callable[[], None]:
        function = compiled(layer, keras.KerasTensor(shape, "float32"))
        maps = keras.random.normal(shape, seed=0)

        def run() -> None:
            for _ in range(calls):
                function(maps)

        return run

    candidates = {}
    for channels in CHANNELS:
        for side in MAP_SIDES:
            shape = (32, side, side, channels)
            layer = keras.layers.Conv2D(channels, 3, padding="same")
            layer.build(shape)
            products = SmallMapConv2D(layer, (side, side))
            candidates[f"convolution, {channels} on {side}"] = several(layer, shape)
            candidates[f"products, {channels} on {side}"] = several(products, shape)
    return timings_here(candidates, rounds)


def measured(engine: str, n_images: int, rounds: int) -> dict[str, Any]:
    """In a new process: both networks in turns, or why this engine cannot run."""
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
        # Bound now: the loop goes on.
        candidates[f"{backbone}, extraction"] = lambda e=extractor, x=images: e.transform(x)
        candidates[f"{backbone}, network alone"] = lambda f=forward, x=pixels: f(x)
    return timings_here(candidates, rounds)


if __name__ == "__main__":
    start(main, children=[measured, convolutions])
