# SPDX-License-Identifier: Apache-2.0
"""No table of a configuration takes a key that it does not know: a mistyped protection would be none."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest
from fedge_agent.config import schema as agent_config
from fedge_agent.config.plugins import load_class
from fedge_agent.outputs.registry import OUTPUTS
from fedge_agent.sources.registry import SOURCES
from fedge_aggregator.config import schema as aggregator_config
from fedge_aggregator.rounds.rules.registry import MIXINGS, RULES
from fedge_aggregator.rounds.server_optimizers import OPTIMIZERS
from fedge_fleet.simulate import config as simulate_config

FILES = [agent_config.Config, aggregator_config.Config, simulate_config.Config]
PLUGINS = [load_class(path).Config for path in (*SOURCES.values(), *OUTPUTS.values())]


def tables(type_: Any, seen: set[type[msgspec.Struct]]) -> None:
    """Add a struct and those in its fields to `seen`."""
    if isinstance(type_, type) and issubclass(type_, msgspec.Struct) and type_ not in seen:
        seen.add(type_)
        for field in msgspec.structs.fields(type_):
            tables(field.type, seen)
    for part in get_args(type_):
        tables(part, seen)


def all_tables() -> list[type[msgspec.Struct]]:
    """Those of the three programs' files, of every source and output, rule, mixing and server optimizer."""
    seen: set[type[msgspec.Struct]] = set()
    for root in (*FILES, *PLUGINS, *RULES.values(), *MIXINGS.values(), *OPTIMIZERS.values()):
        tables(root, seen)
    return sorted(seen, key=lambda t: (t.__module__, t.__qualname__))


@pytest.mark.parametrize("table", all_tables(), ids=lambda t: f"{t.__module__}.{t.__qualname__}")
def test_a_key_that_a_table_does_not_have_is_refused(table: type[msgspec.Struct]) -> None:
    assert table.__struct_config__.forbid_unknown_fields
