# SPDX-License-Identifier: Apache-2.0
"""Collect what an installation without a network needs into one folder (`make wheelhouse`).

The folder holds the wheel of this checkout, a wheel of each locked requirement, each with its hash checked, and the
locks themselves. It is made for one Python version and one kind of machine, which need not be this machine's.
"""

from __future__ import annotations

import argparse
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
OLDEST_GLIBC, NEWEST_GLIBC = 5, 35  # 2.5 is the first that wheels are made for; Ubuntu 22.04 has 2.35


def locked(text: str, python: str, machine: str) -> list[str]:
    """The requirements of a lock file, with their hashes, that a Linux machine with this Python version needs.

    pip would evaluate their markers for the machine that it runs on, so they are evaluated here and left out.
    """
    target = {"python_version": python, "python_full_version": f"{python}.0", "platform_machine": machine}
    found = []
    for line in re.sub(r"\\\n", "", text).splitlines():
        pin, *hashes = re.split(r"\s+(?=--hash=)", line.split(" #")[0].strip())
        if not pin or pin.startswith("#"):
            continue
        requirement = Requirement(pin)
        if requirement.marker is None or requirement.marker.evaluate(target):
            found.append(" ".join([f"{requirement.name}{requirement.specifier}", *hashes]))
    return found


def locks(chosen: list[str]) -> list[Path]:
    """The lock files of an installation with these extras, and of the build: an image builds the wheel itself."""
    return [ROOT / "requirements.lock", *(ROOT / f"requirements-{name}.lock" for name in ["build", *chosen])]


def extras() -> list[str]:
    """The extras that have a lock file."""
    names = [lock.stem.removeprefix("requirements-") for lock in sorted(ROOT.glob("requirements-*.lock"))]
    return [name for name in names if name != "build"]


def download(requirements: list[str], folder: Path, python: str, machine: str) -> None:
    """Download a wheel of each requirement, hashes checked. Raises CalledProcessError."""
    glibc = [f"--platform=manylinux_2_{minor}_{machine}" for minor in range(OLDEST_GLIBC, NEWEST_GLIBC + 1)]
    older = [f"--platform=manylinux{name}_{machine}" for name in ("1", "2010", "2014")]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(requirements))
        file.flush()
        wanted = [f"--requirement={file.name}", f"--dest={folder}", f"--python-version={python}"]
        subprocess.run([*pip, *wanted, *glibc, *older], check=True)


def build(folder: Path) -> None:
    """Build this checkout's wheel through its source distribution, so that no leftover of an older build gets in."""
    with tempfile.TemporaryDirectory() as built:
        subprocess.run(
            [sys.executable, "-m", "build", "--no-isolation", "--quiet", "--outdir", built, ROOT], check=True
        )
        for wheel in Path(built).glob("*.whl"):
            shutil.copy(wheel, folder)


def main() -> None:
    """Write the folder anew."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "wheelhouse", help="The folder; its old content is deleted.")
    parser.add_argument("--python", default=".".join(platform.python_version_tuple()[:2]), help="Such as 3.13.")
    parser.add_argument("--machine", default=platform.machine(), choices=["x86_64", "aarch64"])
    parser.add_argument("--extra", action="append", default=[], choices=extras())
    options = parser.parse_args()
    shutil.rmtree(options.out, ignore_errors=True)
    options.out.mkdir(parents=True)
    needed = locks(options.extra)
    for lock in needed:
        shutil.copy(lock, options.out)
    target = (options.python, options.machine)
    download([pin for lock in needed for pin in locked(lock.read_text(), *target)], options.out, *target)
    build(options.out)


if __name__ == "__main__":
    main()
