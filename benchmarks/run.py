"""All benchmarks, each in a process of its own, and one Markdown document of their tables.

    python benchmarks/run.py [--quick] [--rounds 5] [--only store] [--output docs/benchmarks.md]

With `--only`, an existing page keeps its other sections, and the line that says how many claims
hold is counted from all of its tables. `--only` without names measures nothing and counts again.

Those that need photographs are not among them: `accuracy.py`, `defaults.py`, `targets.py`,
`tiny_scratch.py`.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import itertools
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

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
# How a section begins; the name of its script is the group.
SECTION = re.compile(r"^## .+\n\n`python benchmarks/(\w+)\.py`$", re.MULTILINE)
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
    parser.add_argument(
        "--only", nargs="*", metavar="SCRIPT", default=SCRIPTS,
        help=f"the sections to measure, of {', '.join(SCRIPTS)}; without names none",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, help="where the document goes; else it is printed")
    arguments = parser.parse_args()
    if unknown := sorted({*arguments.only} - {*SCRIPTS}):
        parser.error(f"no script is called {', '.join(unknown)}; there are {', '.join(SCRIPTS)}")
    flags = ["--quick"] * arguments.quick
    if arguments.rounds:
        flags.append(f"--rounds={arguments.rounds}")
    page = Page("", {})
    if arguments.output and arguments.output.exists():
        page = read_page(arguments.output.read_text(encoding="utf-8"))
    if not arguments.only and not page.sections:
        parser.error("--only without names needs an --output that this program wrote before")
    page = page.updated(
        Page(machine_facts(), {name: section(name, flags) for name in arguments.only})
    )
    if arguments.output:
        arguments.output.write_text(page.text(), encoding="utf-8")
    else:
        print(page.text())


class Page(NamedTuple):
    """A page of measurements.

    Attributes
    ----------
    facts : str
        The machine and the libraries, a Markdown list.
    sections : dict of str to str
        What each script printed, with its heading, by the name of the script.
    """

    facts: str
    sections: dict[str, str]

    def text(self) -> str:
        """The page as Markdown; its headline is counted from the tables of the sections."""
        sections = [self.sections[name] for name in SCRIPTS if name in self.sections]
        return "\n".join([HEADER, self.facts, summary(sections), *sections])

    def updated(self, new: Page) -> Page:
        """The new page, with those sections of this one that were not measured again."""
        kept = {name: text for name, text in self.sections.items() if name not in new.sections}
        if not kept:
            return new
        note = "Measured after the rest of this page, in a run of its own."
        if new.facts != self.facts:
            note += f"\n\n{new.facts.strip()}"
        noted = {name: with_note(text, note) for name, text in new.sections.items()}
        return Page(self.facts, kept | noted)


def read_page(text: str) -> Page:
    """The page that this program wrote as this text."""
    starts = [(match[1], match.start()) for match in SECTION.finditer(text)]
    names = [name for name, _ in starts]
    places = [place for _, place in starts] + [len(text)]
    parts = (text[place:end].strip() for place, end in itertools.pairwise(places))
    head = text[: places[0]].splitlines()
    facts = "".join(f"{line}\n" for line in head if line.startswith("- "))
    return Page(facts, {name: f"{part}\n" for name, part in zip(names, parts, strict=True)})


def with_note(section: str, note: str) -> str:
    """A section with a paragraph below its heading and its command."""
    heading, command, rest = section.split("\n\n", 2)
    return "\n\n".join([heading, command, note, rest])


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
