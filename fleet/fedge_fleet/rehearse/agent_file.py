# SPDX-License-Identifier: Apache-2.0
"""A gateway's configuration as it is rehearsed: the user's, with what must differ. Pure but for looking for files.

What differs: state folder and status page, sources, outputs, paths, and how often it trains and asks. All else (models,
training, privacy, windows, limits, events) is as the user wrote it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fedge_agent.config.schema import AssetConfig, ModelConfig
from fedge_agent.types import Table
from fedge_models.errors import ConfigError

from . import finding, outputs, paces, tables
from .folder import AgentFile
from .served import ServedPart
from .sources import Part, Replaced, TablePart
from .uses import Use

LOOPBACK = "127.0.0.1:0"


class Place(NamedTuple):
    """Where a gateway's files of the rehearsal are."""

    root: Path  # the user's folder
    state: Path
    replay: Path  # what its sources read
    events: Path  # what its outputs write

    def of(self, part: Part) -> Path:
        """What a part of a source reads: a table, or a folder of pictures."""
        return self.replay / (f"{part.name}.csv" if isinstance(part, TablePart) else part.name)

    def of_output(self, name: str) -> Path:
        """The file of an output's events."""
        return self.events / f"{name}.jsonl"


class Pace(NamedTuple):
    """How fast the rehearsal runs."""

    speed: float
    replay_s: float  # how long the longest recording takes
    rounds: int


class Rewritten(NamedTuple):
    """The table to write, and in words what differs from the user's."""

    table: Table
    words: list[str]


def rewrite(
    agent: AgentFile, replaced: Mapping[str, Replaced], place: Place, pace: Pace, federations: frozenset[str]
) -> Rewritten:
    """Change what must differ. Raises ConfigError for a model that comes from nowhere."""
    table, words = copy.deepcopy(agent.table), [word for found in replaced.values() for word in found.words]
    table.pop("template", None)
    table["agent"] |= {"state": str(place.state), "status": LOOPBACK}
    table["source"] = {part.name: _source(part, place) for found in replaced.values() for part in found.parts}
    for found in replaced.values():
        _edit(table["asset"], found)
    for name, config in agent.config.asset.items():
        words += _asset(agent, name, config, table["asset"][name], place)
    for name, model in agent.config.model.items():
        words += _model(agent, name, model, table["model"][name], place, pace, federations)
    for name, output in agent.config.output.items():
        words += outputs.words(agent.name, name, output, str(agent.path))
    table["output"] = {name: outputs.recorder(place.of_output(name)) for name in agent.config.output}
    return Rewritten(table, words)


def _source(part: Part, place: Place) -> Table:
    """The table of the source that replays a part."""
    if isinstance(part, ServedPart):
        return part.source
    path = str(place.of(part))
    if isinstance(part, TablePart):
        return {**tables.SOURCE, "path": path}
    return {"type": "images", **part.keys, "path": path}


def _edit(assets: Table, found: Replaced) -> None:
    """Let each use read what replaces its source, and remove the uses that are left out."""
    for use, (source, tag) in found.reads.items():
        entry = _entry(assets, use)
        entry |= {"source": source, "tag": tag}
        for key in ("index", "waveform_hz"):
            entry.pop(key, None)
    for use in found.left_out:
        _remove(assets[use.asset], use)


def _entry(assets: Table, use: Use) -> Table:
    found: Any = assets[use.asset]
    for key in use.key:
        found = found[key]
    return found


def _remove(asset: Table, use: Use) -> None:
    """Remove a use; a label without a tag stays for labels that come later, as its `map` and `late` say."""
    kind, *rest = use.key
    if kind == "label":
        for key in ("source", "tag", "range"):
            asset["label"].pop(key, None)
        if not asset["label"]:
            del asset["label"]
    elif kind == "inspection" and use.short == "verdict":
        del asset["inspection"]
    elif rest and kind in asset:
        asset[kind].pop(use.short, None)
    elif not rest:
        asset.pop(kind)


def _asset(agent: AgentFile, name: str, config: AssetConfig, table: Table, place: Place) -> list[str]:
    """Templates are filled in; an inspection station's file is read from a copy."""
    for key in ("template", "vars"):
        table.pop(key, None)
    if config.inspection is None or config.inspection.path is None:
        return []
    path = config.inspection.path
    found = finding.beside(path, agent.path, place.root)
    where = f"gateway {agent.name}: [asset.{name}.inspection]"
    if found is None:
        del table["inspection"]
        return [f"{where} is left out: neither {path} nor {agent.path.parent / path.name} is there"]
    table["inspection"]["path"] = str(found)
    return [f"{where} reads {found}, all of it from the beginning"]


def _model(
    agent: AgentFile,
    name: str,
    config: ModelConfig,
    table: Table,
    place: Place,
    pace: Pace,
    federations: frozenset[str],
) -> list[str]:
    """Find its files, and train and ask as much more often as the replay is faster."""
    for key, path in (("file", config.file), ("card", config.card)):
        if path is None:
            continue
        found = finding.beside(path, agent.path, place.root)
        if found is None:
            beside = agent.path.parent / path.name
            raise ConfigError(f"{agent.path}: key 'model.{name}.{key}': neither {path} nor {beside} is there")
        table[key] = str(found)
    if name not in federations:
        if config.file is None:
            raise ConfigError(
                f"{agent.path}: key 'model.{name}': no file is given, and no aggregator.toml in {place.root} has a "
                f"[federation.{name}]; add one of both"
            )
        return [f"gateway {agent.name}: [model.{name}] is served from its file alone: no aggregator has it"]
    return _faster(agent.name, name, config, table, pace)


def _faster(gateway: str, name: str, config: ModelConfig, table: Table, pace: Pace) -> list[str]:
    interval = paces.interval_s(float(config.training.interval), pace.speed, pace.replay_s, pace.rounds)
    poll = paces.poll_s(float(config.poll), pace.speed)
    table["poll"] = round(poll, 3)
    table["training"] = {**table.get("training", {}), "interval": round(interval, 3)}
    trains = f"trains at least every {interval:.3g} s instead of {float(config.training.interval):g} s"
    return [
        f"gateway {gateway}: [model.{name}] {trains}, and asks every {poll:.3g} s instead of {float(config.poll):g} s"
    ]
