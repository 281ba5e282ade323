"""Features from arrays at 224 × 224: every engine, compared with Keras and with the bare engine.

`keras predict` is `keras.Model.predict` of the plain network with its preprocessing, in batches of
32. "Extraction" is `CNNFeatureExtractor.transform` of uint8 images with nothing stored; it includes
hashing the images. "Bare" is the engine with its default settings, called on float32 batches by a
few lines of code. Each network has its own process.

The default engine is `engine="auto"`. "First use" is a new process that builds and compiles the
network and extracts 200 images; importing is not counted. timm and PyTorch (`torch_peers.py`) are
candidates where they are installed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
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
    timing_table,
    timings,
    timings_here,
    usage_in_child,
    usage_of,
)
from pictures import labelled_images
from torch_peers import peers

SIDE, BATCH = 224, 32
ENGINES = ("tensorflow", "onnxruntime", "openvino")
DEFAULT = "default engine"
# Networks and input sizes whose first use is timed.
FIRST_USES = (
    ("tiny", 32),
    ("tiny", 96),
    ("tiny", 128),
    ("mobilenet_v2", 96),
    ("mobilenet_v2", 224),
    ("efficientnet_b0", 224),
)
# Promised speed-up of extraction over `keras predict`; below, the number of images.
PROMISED: dict[str, dict[str, float]] = {
    "mobilenet_v2": {DEFAULT: 2.5, "tensorflow": 1.5, "onnxruntime": 2.1, "bfloat16": 3.0},
    "resnet50": {DEFAULT: 1.3, "tensorflow": 1.12, "onnxruntime": 1.15, "bfloat16": 2.2},
    "efficientnet_b0": {DEFAULT: 2.3, "tensorflow": 1.25, "onnxruntime": 1.5},
    "vgg16": {"tensorflow": 1.0, "onnxruntime": 1.0, "bfloat16": 1.9},
}
N_IMAGES = {"mobilenet_v2": 256, "resnet50": 128, "efficientnet_b0": 128, "vgg16": 64}
KERAS = "keras predict"


def main(options: Options) -> None:
    claims = []
    for backbone in PROMISED:
        n_images = BATCH if options.quick else N_IMAGES[backbone]
        found = child_result(measured, backbone=backbone, n_images=n_images, rounds=options.rounds)
        timed = {name: Timing(*it) for name, it in found["timings"].items()}
        print(f"### {backbone}, {n_images} images\n\n{rates(timed, n_images)}\n")
        left_out = [f"{name}: {reason}" for name, reason in found["left_out"].items()]
        if left_out:
            print("Left out: " + "; ".join(left_out) + "\n")
        claims += claims_of(backbone, timed, found["cosines"])
    print("### First use, 200 images\n")
    for backbone, side in FIRST_USES[:1] if options.quick else FIRST_USES:
        what = f"{backbone} at {side}"
        candidates = {
            engine: usage_in_child(first_use, backbone=backbone, side=side, engine=engine)
            for engine in ("tensorflow", "auto")
        }
        timed = timings(candidates, options.rounds)
        print(timing_table(timed, what=what) + "\n")
        ratio = ratio_of(timed, slow="auto", fast="tensorflow")
        claims.append(Claim(f"{what}: first use, times TensorFlow", ratio, 1.05, at_least=False))
    print(claims_table(claims))


def first_use(backbone: str, side: int, engine: str) -> dict[str, Any]:
    """Measure, in a new process, building, compiling and 200 images."""
    import tensorflow  # noqa: F401 -- importing is not counted

    images, _ = labelled_images(200, side)
    extractor = extractor_of(backbone, engine, "float32", side)
    return {"usage": usage_of(lambda: extractor.fit(images).transform(images))}


def rates(timed: dict[str, Timing], n_images: int) -> str:
    rows = [
        (
            name,
            number(n_images / it.cpu),
            number(n_images / it.wall),
            number(timed[KERAS].cpu / it.cpu),
        )
        for name, it in timed.items()
    ]
    return table(
        ("candidate", "images per CPU s, median", "images per s, best", "times Keras"), rows
    )


def claims_of(backbone: str, timed: dict[str, Timing], cosines: dict[str, float]) -> list[Claim]:
    """Return the claims about this network, for the installed engines."""
    claims = []
    for engine, least in PROMISED[backbone].items():
        names = [name for name in timed if name.startswith("extraction") and engine in name]
        if engine != "bfloat16":
            names = [name for name in names if "bfloat16" not in name]
        if names:
            best = min(names, key=lambda name: timed[name].cpu)
            speed = timed[KERAS].cpu / timed[best].cpu
            claims.append(Claim(f"{backbone}: {best}, times Keras", speed, least))
            if engine == "bfloat16":
                what = f"{backbone}: {best}, least cosine to float32"
                claims.append(Claim(what, cosines[best], 0.999))
    for engine in ENGINES:
        bare, ours = f"bare {engine}", f"extraction, {engine}"
        if bare in timed and ours in timed:
            speed = timed[bare].cpu / timed[ours].cpu
            claims.append(
                Claim(f"{backbone}: {ours}, speed relative to the bare engine", speed, 0.95)
            )
    return claims


def measured(backbone: str, n_images: int, rounds: int) -> dict[str, Any]:
    """Measure, in a new process, all candidates in turns, and the cosine of bfloat16 to float32."""
    from transferclf.features import frozen as prefix

    prefix.FORWARDS_KEPT = 16  # keep all candidates, so none compiles again in its turn
    images, _ = labelled_images(n_images, SIDE)
    pixels = images.astype(np.float32)
    # PyTorch comes first: it brings a compiler that crashes where TensorFlow was imported before.
    others, left_out_too = peers(backbone, images)
    candidates, left_out = extractions(backbone, images)
    model = extractor_of(backbone, "tensorflow", "float32").fit(images[:1]).prefix_.build()
    everything = {KERAS: lambda: model.predict(pixels, batch_size=BATCH, verbose=0)} | candidates
    everything |= others
    left_out |= left_out_too
    for engine, build in (
        ("tensorflow", bare_tensorflow),
        ("onnxruntime", bare_onnxruntime),
        ("openvino", bare_openvino),
    ):
        if f"extraction, {engine}" in candidates:
            everything[f"bare {engine}"] = in_batches(build(model), images)
    timed = timings_here(everything, rounds)
    exact = candidates["extraction, tensorflow"]()
    cosines = {
        name: least_cosine(run(), exact) for name, run in candidates.items() if "bfloat16" in name
    }
    return {"timings": timed, "cosines": cosines, "left_out": left_out}


def extractions(
    backbone: str, images: np.ndarray
) -> tuple[dict[str, Callable[[], np.ndarray]], dict[str, str]]:
    """Return extraction by each engine and precision, and the reasons of those left out."""
    from transferclf.exceptions import TransferclfError

    candidates, left_out = {}, {}
    ways = [("auto", "float32")]
    ways += [(it, precision) for precision in ("float32", "bfloat16") for it in ENGINES]
    for engine, precision in ways:
        name = f"extraction, {DEFAULT if engine == 'auto' else engine}"
        name += " bfloat16" if precision == "bfloat16" else ""
        try:
            extractor = extractor_of(backbone, engine, precision).fit(images[:1])
        except TransferclfError as error:
            left_out[name] = str(error).splitlines()[0]
        else:
            candidates[name] = lambda extractor=extractor: extractor.transform(images)
    return candidates, left_out


def extractor_of(backbone: str, engine: str, precision: str, side: int = SIDE) -> Any:
    from transferclf import CNNFeatureExtractor

    return CNNFeatureExtractor(
        backbone,
        weights=None,
        random_state=0,
        image_size=side,
        cache=None,
        engine=engine,
        precision=precision,
    )


def in_batches(function: Callable[[np.ndarray], Any], pixels: np.ndarray) -> Callable[[], Any]:
    starts = range(0, len(pixels), BATCH)
    return lambda: [function(pixels[begin : begin + BATCH].astype(np.float32)) for begin in starts]


def frozen_graph(model: Any) -> Any:
    """Return the folded network as one TensorFlow graph with constant weights."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    from transferclf.graphs.folding import fold_batch_norm

    folded = fold_batch_norm(model)
    traced = tf.function(lambda pixels: folded(pixels, training=False))
    signature = tf.TensorSpec((None, SIDE, SIDE, 3), tf.float32, name="pixels")
    return convert_variables_to_constants_v2(traced.get_concrete_function(signature))


def bare_tensorflow(model: Any) -> Callable[[np.ndarray], Any]:
    import tensorflow as tf

    frozen = frozen_graph(model)
    return lambda batch: frozen(tf.constant(batch))[0].numpy()


def bare_onnxruntime(model: Any) -> Callable[[np.ndarray], Any]:
    import onnxruntime
    import tf2onnx

    # Keras' own export omits constants of normalisation, and the file cannot be run.
    frozen = frozen_graph(model)
    name = frozen.inputs[0].name
    proto, _ = tf2onnx.convert.from_graph_def(
        frozen.graph.as_graph_def(), input_names=[name], output_names=[frozen.outputs[0].name]
    )
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return lambda batch: session.run(None, {name: batch})[0]


def bare_openvino(model: Any) -> Callable[[np.ndarray], Any]:
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "model.xml")
        model.export(file, format="openvino", verbose=False)
        # Without the hint OpenVINO uses bfloat16 on processors that have it.
        hints = {"INFERENCE_PRECISION_HINT": "f32"}
        compiled = openvino.Core().compile_model(file, "CPU", hints)
    return lambda batch: compiled(batch)[0]


def least_cosine(first: np.ndarray, second: np.ndarray) -> float:
    """Return the least cosine between corresponding rows."""
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return float(np.min(np.sum(first * second, axis=1) / norms))


if __name__ == "__main__":
    start(main, [measured, first_use])
