# SPDX-License-Identifier: Apache-2.0
"""The wheel and the source distribution hold what git tracks: no file is missing, none is too many."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from fedge_models import __version__

ROOMS = ("models/", "agent/", "aggregator/", "fleet/")
GENERATED = ("PKG-INFO", "setup.cfg", "fedge.egg-info/")
WHEEL = f"fedge-{__version__}-py3-none-any.whl"


def build(source: Path, folder: Path, *options: str) -> None:
    command: list[str | Path] = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, *options, source]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr


def modules(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


@pytest.fixture(scope="module")
def built(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with both distributions; the wheel is built from the source distribution."""
    folder = tmp_path_factory.mktemp("dist")
    build(source, folder)
    return folder


def test_source_distribution_holds_every_tracked_file(built: Path, tracked: list[str]) -> None:
    top = f"fedge-{__version__}/"
    with tarfile.open(built / f"fedge-{__version__}.tar.gz") as archive:
        names = {member.name.removeprefix(top) for member in archive.getmembers() if member.isfile()}
    assert {name for name in names if not name.startswith(GENERATED)} == set(tracked)


def test_wheel_holds_every_tracked_file_of_the_packages(built: Path, tracked: list[str]) -> None:
    assert modules(built / WHEEL) == {path.partition("/")[2] for path in tracked if path.startswith(ROOMS)}


def test_module_that_is_gone_is_not_installed_again(source: Path, built: Path, tmp_path: Path) -> None:
    """`pip install .` builds in the checkout, where an earlier one left its copy of every module."""
    gone = source / "build/lib/fedge_agent/gone.py"
    gone.parent.mkdir(parents=True)
    gone.write_text("")
    build(source, tmp_path, "--wheel")
    assert modules(tmp_path / WHEEL) == modules(built / WHEEL)
