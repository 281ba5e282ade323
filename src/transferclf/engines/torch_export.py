"""Modules of torch for other engines: export them, and check that they compute the same."""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeGuard

import numpy as np

from transferclf.engines.engine import Function
from transferclf.engines.torch import inference
from transferclf.exceptions import NetworkError

if TYPE_CHECKING:
    import openvino
    import torch

# Features of one image by two engines differ at most by this share of the largest feature.
AGREEMENT = 1e-5

# torch keeps the state of a trace in its modules.
_tracing = threading.Lock()


def is_module(network: object) -> TypeGuard[torch.nn.Module]:
    """Whether this is a module of torch; imports nothing."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(network, torch.nn.Module)


def model_of_module(network: torch.nn.Module) -> openvino.Model:
    """Return a module from pixels (n, h, w, 3) as an OpenVINO model with open batch size.

    `openvino.convert_model` would do it too, but it reports each use to its makers.
    """
    import openvino
    import torch
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    height, width = network.image_size
    network = network.cpu().eval().requires_grad_(False)
    # With a batch of 2, code that takes the batch size for a constant fails below for others.
    example = torch.zeros(2, height, width, 3)
    with _tracing, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of tracing, which reads the graph in all versions
        traced = torch.jit.trace(network, example, check_trace=False)
    frontend = FrontEndManager().load_by_framework("pytorch")
    # The loaded graph does not keep the decoder alive, and the model owns its weights.
    decoder = TorchScriptPythonDecoder(traced, shared_memory=False)
    model = frontend.convert(frontend.load(decoder))
    for batch in (32, 1):
        model.reshape([batch, height, width, 3])
        if model.output(0).partial_shape[0] != batch:
            raise ValueError("its batch size cannot be changed")
    model.reshape(openvino.PartialShape([-1, height, width, 3]))
    return model


def agreeing(run: Function, network: torch.nn.Module) -> Function:
    """Return the compiled module, if its features of one image of noise are those of torch.

    Raises NetworkError if they are not.
    """
    import torch

    noise = np.random.default_rng(0).standard_normal((1, *network.image_size, 3), np.float32)
    with inference(torch.device("cpu"), "float32"):
        expected = network(torch.from_numpy(noise)).numpy()
    found = run(noise)
    if found.shape != expected.shape:
        raise NetworkError(f"expected features of shape {expected.shape}, got {found.shape}.")
    difference = np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-30)
    if not difference <= AGREEMENT:
        raise NetworkError(
            f"its features differ from those of torch by {difference:.1g} of the largest."
        )
    return run


@contextmanager
def module_errors(engine: str) -> Iterator[None]:
    """Turn the errors of an exporter or runtime into a NetworkError."""
    try:
        yield
    except Exception as error:
        raise NetworkError(
            f"engine={engine!r} cannot run this network: {error}\nTake engine='torch'."
        ) from error
