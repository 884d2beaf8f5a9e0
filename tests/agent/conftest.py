"""Outputs that tests of the agent build themselves, ended with the test as the agent ends its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from fedge_agent.outputs.mes.output import MesOutput
from fedge_agent.outputs.mes.settings import MesConfig


@pytest.fixture
def make_mes() -> Iterator[Callable[[MesConfig], MesOutput]]:
    """Build an output to a MES that keeps its orders in memory."""
    made: list[MesOutput] = []

    def make(config: MesConfig) -> MesOutput:
        made.append(MesOutput("mes", config))
        return made[-1]

    yield make
    for output in made:
        output.end()
