"""The machine of a measurement: its processor and the versions of libraries, without its name."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path

LIBRARIES = (
    "keras",
    "tensorflow",
    "onnxruntime",
    "openvino",
    "scikit-learn",
    "scikeras",
    "numpy",
    "scipy",
    "pillow",
    "joblib",
)
# Processor flags for fast arithmetic with few bits.
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd", "bf16", "sve")


def machine_facts() -> str:
    """Return a list of the machine's type and the libraries, without names of this machine."""
    flags = sorted(set(FLAGS) & cpu_flags())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    lines = [
        f"- {cpu_model()}, {os.cpu_count()} cores, {memory:.0f} GiB",
        f"- {', '.join(flags) or 'processor flags unknown'}",
        f"- {platform.system()} {platform.machine()}, Python {platform.python_version()}",
        f"- {', '.join(versions())}",
    ]
    return "\n".join(lines) + "\n"


def cpu_info(*fields: str) -> str:
    """Return the first of these fields in /proc/cpuinfo; empty on other systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    pairs = [line.partition(":") for line in lines]
    return next((value.strip() for key, _, value in pairs if key.strip() in fields), "")


def cpu_model() -> str:
    """Return the model name of the processor."""
    return cpu_info("model name") or platform.processor() or platform.machine()


def cpu_flags() -> set[str]:
    """Return the flags of the processor."""
    return set(cpu_info("flags", "Features").split())


def versions() -> list[str]:
    """Return the versions of the installed libraries."""
    found = []
    for name in LIBRARIES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"no {name}")
    return found
