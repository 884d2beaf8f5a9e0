# SPDX-License-Identifier: Apache-2.0
"""The aggregator's configuration as it is rehearsed: the user's, with what must differ. Pure but for looking for files.

What differs: state folder, addresses, where the rule is computed, and the deadline of a round. Rules, trust, privacy,
quorum and limits are the user's.
"""

from __future__ import annotations

import copy
from collections.abc import Container
from pathlib import Path

from fedge_agent.types import Table
from fedge_aggregator.config.schema import FederationConfig
from fedge_models.errors import ConfigError

from . import finding, paces
from .agent_file import LOOPBACK, Rewritten
from .folder import AggregatorFile


def rewrite(file: AggregatorFile, root: Path, state: Path, wanted: Container[str]) -> Rewritten:
    """Change what must differ; `wanted`: federations that a gateway takes part in. Raises ConfigError."""
    table, words = copy.deepcopy(file.table), ["aggregator: listens on this machine only, with keys of its own"]
    own = table["aggregator"]
    if own.pop("scratch", None) is not None:
        words.append("aggregator: scratch is left out: rows of large rounds go into its state folder")
    own |= {"state": str(state), "addresses": ["127.0.0.1"], "listen": LOOPBACK, "operator": LOOPBACK}
    for name, config in file.config.federation.items():
        if name not in wanted:
            del table["federation"][name]
            words.append(f"aggregator: [federation.{name}] is left out: no gateway has [model.{name}]")
            continue
        words += _federation(file, root, name, config, table["federation"][name])
    return Rewritten(table, words)


def _federation(file: AggregatorFile, root: Path, name: str, config: FederationConfig, table: Table) -> list[str]:
    words = []
    if config.engine != "local":
        table["engine"] = "local"
        words.append(f"aggregator: [federation.{name}] computes on this machine, not with {config.engine}")
    if config.held_back is not None:
        found = finding.beside(config.held_back, file.path, root)
        if found is None:
            raise ConfigError(f"{file.path}: key 'federation.{name}.held_back': {config.held_back} is not there")
        table["held_back"] = str(found)
    own, deadline = float(config.deadline), paces.deadline_s(float(config.deadline))
    if deadline < own:
        table["deadline"] = deadline
        words.append(
            f"aggregator: [federation.{name}] ends a round {deadline:g} s after its first update, not {own:g} s"
        )
    return words
