# SPDX-License-Identifier: Apache-2.0
"""What users install, made once: the distributions of the tracked files, and a folder that needs no network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.paths import ROOT


@pytest.fixture(scope="session")
def tracked() -> list[str]:
    """The paths that git tracks and that are still there."""
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, text=True, check=False)
    paths = [path for path in listed.stdout.split("\0") if path and (ROOT / path).exists()]
    if not paths:
        pytest.skip("this is not a git checkout")
    return paths


@pytest.fixture(scope="session")
def source(tracked: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tracked files alone: nothing that was never committed can make a test pass."""
    folder = tmp_path_factory.mktemp("source")
    for path in tracked:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, folder / path)
    return folder


@pytest.fixture(scope="session")
def wheelhouse(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make wheelhouse` makes of the tracked files. Skips where no package index is in reach, but for CI."""
    folder = tmp_path_factory.mktemp("offline") / "wheelhouse"
    command: list[str | Path] = [sys.executable, source / "scripts/wheelhouse.py", "--extra", "images", "--out", folder]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode and not os.environ.get("FEDGE_CI"):
        pytest.skip(f"no package index is in reach: {made.stderr[-300:]}")
    assert made.returncode == 0, made.stderr
    return folder
