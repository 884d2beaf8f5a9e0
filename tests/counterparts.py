"""Counterparts that tests run against: absent, they are a skip on a laptop and a failure in CI."""

from __future__ import annotations

import importlib
import os
from typing import Any

import pytest


def counterpart(module: str) -> Any:
    """The imported module. Skips the test (or test file) where it is not installed, but for CI (`.ci/run`)."""
    if os.environ.get("FEDGE_CI"):
        return importlib.import_module(module)
    return pytest.importorskip(module)
