"""Build sdist and wheel, check both, and run tests in the unpacked sdist: `tox -e dist`.

python tools/check_dist.py FOLDER [arguments of pytest]

FOLDER is a new or an empty one. Both files stay there.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NOT_IN_SDIST = {".gitattributes"}  # of the files that git knows


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    folder, *options = sys.argv[1:]
    dist = Path(folder).resolve()
    if dist.exists() and any(dist.iterdir()):
        sys.exit(f"expected a new or an empty folder, got {folder}")
    python("-m", "build", "--outdir", str(dist), str(ROOT))
    (sdist,), (wheel,) = dist.glob("*.tar.gz"), dist.glob("*.whl")
    python("-m", "twine", "check", "--strict", str(sdist), str(wheel))
    unpacked = unpack(sdist, dist / "unpacked")
    check_contents(unpacked, wheel)
    print(f"{sdist.stat().st_size:,} bytes of sdist, {wheel.stat().st_size:,} of wheel", flush=True)
    python("-m", "pytest", "-p", "no:cacheprovider", *options, cwd=unpacked)


def python(*arguments: str, cwd: Path = ROOT) -> None:
    """Run a module or script of this Python, and end with its status if that is an error."""
    status = subprocess.run([sys.executable, *arguments], cwd=cwd, check=False).returncode
    if status:
        sys.exit(status)


def unpack(sdist: Path, folder: Path) -> Path:
    """Unpack an sdist, and return the only folder in it."""
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (unpacked,) = folder.iterdir()
    return unpacked


def check_contents(unpacked: Path, wheel: Path) -> None:
    """Compare the sdist with the files of git, and the wheel with the package in the sdist."""
    found = files_below(unpacked)
    known = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if known.returncode == 0:
        report("not in the sdist", {*known.stdout.split("\0")} - found - NOT_IN_SDIST - {""})
        report("unknown to git", found - {*known.stdout.split("\0")} - {"PKG-INFO"})
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    package = files_below(unpacked / "src")
    report("different in wheel and sdist", packed ^ package)


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def report(what: str, names: set[str]) -> None:
    if names:
        sys.exit(f"{what}: {', '.join(sorted(names))}")


if __name__ == "__main__":
    main()
