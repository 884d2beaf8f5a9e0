"""What tests of the aggregator start from."""

from __future__ import annotations

from pathlib import Path

import pytest
from federations import Bench, Make


@pytest.fixture
def bench(tmp_path: Path) -> Make:
    return lambda keys="", **more: Bench(tmp_path, keys, **more)
