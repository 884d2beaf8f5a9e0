# SPDX-License-Identifier: Apache-2.0
"""What tests of the aggregator start from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.federation_bench import FederationBench, MakeBench
from support.running_aggregator import MakeAggregator, RunningAggregator


@pytest.fixture
def make_bench(tmp_path: Path) -> Iterator[MakeBench]:
    """Makes federations, in the test's folder where no other is given; they end with the test."""
    with ExitStack() as made:

        def make(keys: str = "", folder: Path = tmp_path, **more: Any) -> FederationBench:
            one = FederationBench(folder, keys, **more)
            made.callback(one.close)
            return one

        yield make


@pytest.fixture
def make_aggregator(tmp_path: Path) -> Iterator[MakeAggregator]:
    """Makes aggregators in the test's folder; they end with the test, however it ends."""
    with ExitStack() as made:

        def make(**keys: Any) -> RunningAggregator:
            aggregator = RunningAggregator(tmp_path, **keys)
            made.callback(aggregator.stop)
            return aggregator

        yield make


@pytest.fixture
def aggregator(make_aggregator: MakeAggregator) -> RunningAggregator:
    return make_aggregator()
