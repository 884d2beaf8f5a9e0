# SPDX-License-Identifier: Apache-2.0
"""Counterparts that tests run against: absent, they are a skip on a laptop and a failure in CI."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from support.paths import ROOT


def counterpart(module: str) -> Any:
    """The imported module. Skips the test (or test file) where it is not installed, but for CI (`.ci/run`)."""
    if os.environ.get("FEDGE_CI"):
        return importlib.import_module(module)
    return pytest.importorskip(module)


def part_of(package: str, module: str) -> Any:
    """A module of a package without what the package itself imports; skips as `counterpart` does.

    ByzFL's imports torchvision for its experiments, which fails with a PyTorch of another build.
    """
    if package not in sys.modules and (spec := importlib.util.find_spec(package)):
        sys.modules[package] = importlib.util.module_from_spec(spec)
    return counterpart(f"{package}.{module}")


def program(name: str) -> str:
    """The path of an installed program, such as "mosquitto" (Debian keeps servers in /usr/sbin)."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    return found or _absent(name)


def others(*parts: str) -> Path:
    """A path in `.counterparts`, where `make counterparts` installs servers that are not ours."""
    path = ROOT.joinpath(".counterparts", *parts)
    return path if path.exists() else Path(_absent(str(path)))


def _absent(what: str) -> str:
    if os.environ.get("FEDGE_CI"):
        raise RuntimeError(f"{what} is not installed; make counterparts installs it")
    pytest.skip(f"{what} is not installed (make counterparts)", allow_module_level=True)
