"""What tests of the aggregator start from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.federation_bench import Bench, Make
from support.running_aggregator import Plant, Plants


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Make]:
    """Makes federations, in the test's folder unless told otherwise; they end with the test."""
    with ExitStack() as made:

        def make(keys: str = "", folder: Path = tmp_path, **more: Any) -> Bench:
            one = Bench(folder, keys, **more)
            made.callback(one.close)
            return one

        yield make


@pytest.fixture
def plants(tmp_path: Path) -> Iterator[Plants]:
    """Makes aggregators in the test's folder; they end with the test, however it ends."""
    with ExitStack() as made:

        def make(**keys: str) -> Plant:
            plant = Plant(tmp_path, **keys)
            made.callback(plant.stop)
            return plant

        yield make


@pytest.fixture
def plant(plants: Plants) -> Plant:
    return plants()
