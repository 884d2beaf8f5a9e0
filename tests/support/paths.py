# SPDX-License-Identifier: Apache-2.0
"""Folders of the checkout that tests read, and of the recorded data that a tester may have."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parent
SUPPORT = TESTS / "support"
VECTORS = TESTS / "vectors"


def recorded_data() -> Path:
    """The folder of recorded data sets that the environment names (FEDGE_DATA); skips the test where there is none."""
    folder = os.environ.get("FEDGE_DATA")
    if not folder:
        pytest.skip("FEDGE_DATA names no folder of recorded data")
    return Path(folder)
