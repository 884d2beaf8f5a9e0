"""What tests of the aggregator start from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from federations import Bench, Make
from plants import Plant


@pytest.fixture
def bench(tmp_path: Path) -> Make:
    return lambda keys="", **more: Bench(tmp_path, keys, **more)


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    made = Plant(tmp_path)
    yield made
    made.app.stop()
