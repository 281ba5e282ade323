"""The engine of PyTorch, for networks that are modules of torch.

A module takes pixels (n, h, w, 3) and has the attribute `image_size`, the height and width.
"""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import numpy as np

from transferclf.engines.engine import Engine, Function
from transferclf.exceptions import NetworkError
from transferclf.images.threads import thread_count

if TYPE_CHECKING:
    import torch

# The settings below belong to the process or to a thread, so that calls take turns.
_running = threading.RLock()


class TorchEngine(Engine):
    """Calls the module as it is, on an accelerator if torch sees one."""

    name = "torch"
    rank = 1
    packages = ("torch",)
    networks = ("torch",)
    precisions = ("float32", "bfloat16")
    is_for_auto = True

    def has_gpu(self) -> bool:
        """Whether torch sees an accelerator."""
        return _device_name() != "cpu"

    def compile(self, network: torch.nn.Module, precision: str) -> Function:
        """Return a call of the module, without gradients."""
        import torch

        device = torch.device(_device_name())
        # Pixels come with their channels last, and convolutions run faster if these stay there.
        for part in network.modules():
            if isinstance(part, torch.nn.Conv2d):
                part.to(memory_format=torch.channels_last)
        module = network.eval().requires_grad_(False).to(device)

        def run(images: np.ndarray) -> np.ndarray:
            with _errors(network), inference(device, precision):
                # torch warns about arrays that it could not write into.
                pixels = torch.from_numpy(np.require(images, requirements="W")).to(device)
                result: np.ndarray = module(pixels).float().cpu().numpy()
                return result

        return run


def keep_triton_out() -> None:
    """Let torch do without its compiler of GPU kernels where TensorFlow was imported before.

    Both contain LLVM, and the process would crash when torch imports the second.
    """
    if "tensorflow" in sys.modules and "triton" not in sys.modules:
        sys.modules["triton"] = None  # type: ignore[assignment]


def _device_name() -> str:
    torch = sys.modules.get("torch")  # a module of torch exists only after torch was imported
    if torch is None:
        return "cpu"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch for a GPU warns where there is none
        if torch.cuda.is_available():
            return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


@contextmanager
def inference(device: torch.device, precision: str) -> Iterator[None]:
    """Compute without gradients, at one precision and with this package's number of threads.

    The settings of the caller count again afterwards, and do not count inside.
    """
    import torch

    with _running, ExitStack() as stack:
        threads = torch.get_num_threads()
        if thread_count(physical=True) < threads:
            stack.callback(torch.set_num_threads, threads)
            torch.set_num_threads(thread_count(physical=True))
        if device.type == "cuda":
            # By default, a GPU computes convolutions with eleven bits of the float32.
            cudnn = torch.backends.cudnn
            kept = {"enabled": cudnn.enabled, "deterministic": cudnn.deterministic}
            stack.enter_context(cudnn.flags(**kept, allow_tf32=False))
        if (matmul := torch.get_float32_matmul_precision()) != "highest":
            stack.callback(torch.set_float32_matmul_precision, matmul)
            torch.set_float32_matmul_precision("highest")
        stack.enter_context(torch.inference_mode())
        is_lower = precision == "bfloat16"
        stack.enter_context(torch.autocast(device.type, torch.bfloat16, enabled=is_lower))
        yield


@contextmanager
def _errors(network: torch.nn.Module) -> Iterator[None]:
    """Turn the errors of a module into a NetworkError."""
    try:
        yield
    except (RuntimeError, AssertionError, ValueError, TypeError) as error:
        height, width = network.image_size
        raise NetworkError(
            f"torch cannot run {type(network).__name__} on images of {height} x {width} pixels: "
            f"{error}"
        ) from error
