# SPDX-License-Identifier: Apache-2.0
"""Find a user's files in a folder: the aggregator's, one for each gateway, and `rehearse.toml`. Only reads.

A TOML file with a table ``[aggregator]`` is the aggregator's, one with ``[agent]`` a gateway's; others (model cards,
forms of tables) are none of either. Looks in the folder and in those directly below it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from fedge_agent.config import schema as agent_schema
from fedge_agent.types import Table
from fedge_aggregator.config import load as aggregator_load
from fedge_aggregator.config import schema as aggregator_schema
from fedge_models.errors import ConfigError
from fedge_models.system import settings as toml

from .settings import FILE, Settings

MOST_FILES = 1000  # TOML files looked at


class AgentFile(NamedTuple):
    """One gateway's configuration: as written, with its templates filled in, and as the agent understands it."""

    path: Path
    table: Table
    config: agent_schema.Config

    @property
    def name(self) -> str:
        """The gateway's name."""
        return self.config.agent.name


class AggregatorFile(NamedTuple):
    """The aggregator's configuration."""

    path: Path
    table: Table
    config: aggregator_schema.Config


class Folder(NamedTuple):
    """What a folder holds."""

    root: Path
    aggregator: AggregatorFile | None  # None: the gateways are rehearsed alone
    agents: dict[str, AgentFile]  # by the gateway's name
    settings: Settings


def read(root: Path) -> Folder:
    """Read the files of a folder. Raises ConfigError naming file and key."""
    if not root.is_dir():
        raise ConfigError(f"{root}: expected a folder with the files of your gateways and of your aggregator")
    tables = {path: toml.read(path) for path in _toml_files(root)}
    aggregators = [path for path, table in tables.items() if "aggregator" in table]
    if len(aggregators) > 1:
        raise ConfigError(f"{root}: expected one file with [aggregator], got {_named(aggregators)}; keep one of them")
    agents: dict[str, AgentFile] = {}
    for path in (p for p, table in tables.items() if "agent" in table):
        agent = AgentFile(path, agent_schema.expanded(path, tables[path]), agent_schema.load(path))
        if agent.name in agents:
            both = _named([agents[agent.name].path, path])
            raise ConfigError(f"{both}: both gateways have the name {agent.name!r}; give each its own [agent] name")
        agents[agent.name] = agent
    if not agents:
        raise ConfigError(
            f"{root}: no gateway was found; expected a TOML file with a table [agent] there or in a folder below it "
            "(fedge-agent init writes one)"
        )
    aggregator = None
    if aggregators:
        path = aggregators[0]
        aggregator = AggregatorFile(path, tables[path], aggregator_load.load(path))
    return Folder(root, aggregator, agents, _settings(root / FILE, agents))


def _toml_files(root: Path) -> list[Path]:
    found = sorted(path for folder in [root, *_folders(root)] for path in _in(folder))
    if len(found) > MOST_FILES:
        raise ConfigError(
            f"{root}: has {len(found):,} TOML files, expected at most {MOST_FILES:,}; give a folder of its own"
        )
    return found


def _in(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        names = [e.name for e in entries if e.name.endswith(".toml") and e.name != FILE and e.is_file()]
    return (folder / name for name in names if not name.startswith("."))


def _folders(root: Path) -> Iterator[Path]:
    with os.scandir(root) as entries:
        names = [e.name for e in entries if e.is_dir() and not e.name.startswith(".")]
    return (root / name for name in names)


def _settings(path: Path, agents: dict[str, AgentFile]) -> Settings:
    """Read `rehearse.toml`, and refuse names that no gateway has."""
    if not path.exists():
        return Settings()
    found = toml.load(path, Settings)
    everywhere = {name for agent in agents.values() for name in agent.config.source}
    for name in found.source:
        agent_schema.refer(name, everywhere, f"{path}: key 'source'")
    for gateway, own in found.gateway.items():
        agent_schema.refer(gateway, agents, f"{path}: key 'gateway'")
        for name in own.source:
            agent_schema.refer(name, agents[gateway].config.source, f"{path}: key 'gateway.{gateway}.source'")
    return found


def _named(paths: Iterable[Path]) -> str:
    return " and ".join(map(str, paths))
