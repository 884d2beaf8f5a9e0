"""No table of a configuration takes a key that it does not know: a mistyped protection would be none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import msgspec
import pytest
from fedge_agent.config import schema as agent_config
from fedge_agent.config.plugins import load_class
from fedge_agent.outputs.registry import OUTPUTS
from fedge_agent.sources.registry import SOURCES
from fedge_aggregator import config as aggregator_config
from fedge_aggregator.rules.registry import MIXINGS, RULES
from fedge_aggregator.server_optimizers import OPTIMIZERS
from fedge_fleet import simulate_config

PLUGINS = [load_class(path).Config for path in (*SOURCES.values(), *OUTPUTS.values())]


def tables(type_: Any) -> Iterator[type[msgspec.Struct]]:
    """A struct and those in its fields."""
    if isinstance(type_, type) and issubclass(type_, msgspec.Struct):
        yield type_
        for field in msgspec.structs.fields(type_):
            yield from tables(field.type)
    for part in get_args(type_):
        yield from tables(part)


ROOTS = [agent_config.Config, aggregator_config.Config, simulate_config.Config, *PLUGINS]
ROOTS += [*RULES.values(), *MIXINGS.values(), *OPTIMIZERS.values()]
TABLES = sorted({table for root in ROOTS for table in tables(root)}, key=lambda t: (t.__module__, t.__qualname__))


@pytest.mark.parametrize("table", TABLES, ids=lambda t: f"{t.__module__}.{t.__qualname__}")
def test_a_key_that_a_table_does_not_have_is_refused(table: type[msgspec.Struct]) -> None:
    assert table.__struct_config__.forbid_unknown_fields
