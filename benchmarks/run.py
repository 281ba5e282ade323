"""All benchmarks, each in a process of its own, and one Markdown document of their tables.

    python benchmarks/run.py [--quick] [--rounds 5] [--only store] [--output docs/benchmarks.md]

Those that need photographs are not among them: `accuracy.py`, `defaults.py`, `tiny_scratch.py`.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path

SCRIPTS = (
    "search",
    "forward",
    "tiny_speed",
    "fine_tuning",
    "heads",
    "pipeline_memory",
    "single_image",
    "decoding",
    "store",
    "scaling",
    "memory",
)
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
# What makes arithmetic in few bits fast.
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd", "bf16", "sve")
HEADER = """# Benchmarks

`python benchmarks/run.py --output docs/benchmarks.md` writes this page. CPU seconds are medians and
wall seconds the best of several rounds in which the candidates take turns; ratios are of CPU
seconds, of all threads together. Images and weights are random: speed depends on neither.
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes: tries the scripts out")
    parser.add_argument(
        "--rounds", type=int, help="turns of each candidate; a script's own if not set"
    )
    parser.add_argument("--only", nargs="+", choices=SCRIPTS, default=SCRIPTS)
    parser.add_argument("--output", type=Path, help="where the document goes; else it is printed")
    arguments = parser.parse_args()
    flags = ["--quick"] * arguments.quick
    if arguments.rounds:
        flags.append(f"--rounds={arguments.rounds}")
    sections = [section(name, flags) for name in arguments.only]
    document = "\n".join([HEADER, machine_facts(), summary(sections), *sections])
    if arguments.output:
        arguments.output.write_text(document, encoding="utf-8")
    else:
        print(document)


def section(name: str, flags: list[str]) -> str:
    """What a script prints, under the first sentence of what it says it does."""
    print(f"{name}.py", file=sys.stderr, flush=True)
    script = Path(__file__).with_name(f"{name}.py")
    command = [sys.executable, str(script), *flags]
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    printed = done.stdout.strip()
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        printed += f"\n\n`{name}.py` ended with exit status {done.returncode}."
    return f"## {title(script)}\n\n`python benchmarks/{name}.py`\n\n{printed.strip()}\n"


def title(script: Path) -> str:
    """The first line of a script's docstring, without its full stop."""
    first = script.read_text(encoding="utf-8").splitlines()[0]
    return first.strip('"').rstrip(".")


def machine_facts() -> str:
    """The machine and the libraries, without what names this one machine."""
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
    """The first of these fields that /proc/cpuinfo has; nothing on other systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    pairs = [line.partition(":") for line in lines]
    return next((value.strip() for key, _, value in pairs if key.strip() in fields), "")


def cpu_model() -> str:
    """What the processor calls itself."""
    return cpu_info("model name") or platform.processor() or platform.machine()


def cpu_flags() -> set[str]:
    """What the processor says it can do."""
    return set(cpu_info("flags", "Features").split())


def versions() -> list[str]:
    """The libraries that are installed here."""
    found = []
    for name in LIBRARIES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"no {name}")
    return found


def summary(sections: list[str]) -> str:
    """How many claims hold, and which do not."""
    lines = [line for each in sections for line in each.splitlines()]
    held = [line for line in lines if line.endswith("| holds |")]
    missed = [line for line in lines if line.endswith("| does not hold |")]
    text = f"{len(held)} of {len(held) + len(missed)} claims hold."
    if missed:
        text += " These do not:\n\n| claim | promised | measured | result |\n|---|---:|---:|---:|\n"
        text += "\n".join(missed)
    return text + "\n"


if __name__ == "__main__":
    main()
