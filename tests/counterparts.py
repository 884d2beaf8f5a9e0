"""Counterparts that tests run against: absent, they are a skip on a laptop and a failure in CI."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from typing import Any

import pytest


def counterpart(module: str) -> Any:
    """The imported module. Skips the test (or test file) where it is not installed, but for CI (`.ci/run`)."""
    if os.environ.get("FEDGE_CI"):
        return importlib.import_module(module)
    return pytest.importorskip(module)


def part_of(package: str, module: str) -> Any:
    """A module of a package without what the package itself imports; skips as `counterpart` does.

    ByzFL's imports torchvision for its experiments, which fails beside a PyTorch of another build.
    """
    if package not in sys.modules and (spec := importlib.util.find_spec(package)):
        sys.modules[package] = importlib.util.module_from_spec(spec)
    return counterpart(f"{package}.{module}")
