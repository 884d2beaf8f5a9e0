# SPDX-License-Identifier: Apache-2.0
"""Check a gateway's own sources and outputs, which a rehearsal replaces, as its start would. Connects to nothing."""

from __future__ import annotations

from collections.abc import Iterator

from fedge_agent.config import claims
from fedge_agent.outputs import registry as outputs
from fedge_agent.sources import registry as sources
from fedge_agent.types import Plugin
from fedge_models.errors import ConfigError

from .folder import AgentFile


def check(agent: AgentFile) -> None:
    """Raise ConfigError with everything that would keep the agent from starting with these tables."""
    where, state, built = str(agent.path), agent.config.agent.state, dict[str, Plugin]()
    wrong = list(_build(agent, built))
    if wrong:
        raise ConfigError("\n".join(text if text.startswith(where) else f"{where}: {text}" for text in wrong))
    claims.check(where, state, built, claims.read_by(agent.config, agent.path))


def _build(agent: AgentFile, built: dict[str, Plugin]) -> Iterator[str]:
    """Build every source and output; yield why one cannot be."""
    where, state = str(agent.path), agent.config.agent.state
    for name, table in agent.config.source.items():
        try:
            built[f"source {name}"] = sources.build(name, table, where, state)
        except ConfigError as e:
            yield str(e)
    for name, table in agent.config.output.items():
        try:
            output = outputs.build(name, table, where, state)
        except ConfigError as e:
            yield str(e)
        else:
            built[f"output {name}"] = output
            output.end()
