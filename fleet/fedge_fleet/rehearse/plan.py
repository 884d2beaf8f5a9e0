# SPDX-License-Identifier: Apache-2.0
"""Prepare a rehearsal in a scratch folder: recordings converted, configurations rewritten, and what differs in words.

Everything that can be wrong with the user's files is found here, before a process starts; what is missing is listed
together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec
from fedge_models.errors import ConfigError, StopError
from fedge_models.graph.intake import read_model
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.system import files

from . import (
    agent_file,
    aggregator_file,
    finding,
    loopback,
    paces,
    served,
    sources,
    spans,
    tables,
    toml_text,
    uses,
    validity,
)
from .agent_file import Pace, Place
from .feed import Feed, PictureFeed, ServedFeed, TableFeed
from .folder import AgentFile, Folder
from .pictures import Pictures
from .served import ServedPart
from .sources import Asked, Part, PicturePart, Replaced, TablePart
from .tables import Written

BEGIN_NS = 1_767_225_600_000_000_000  # 2026-01-01: recordings without times begin then
USUAL_HZ = 1.0
USUAL_LIMIT_S = 900.0  # that a rehearsal lasts at most

T = TypeVar("T")


class Machine(NamedTuple):
    """A process that serves a recording."""

    kind: str
    plan: Path  # for `fedge-fleet replay`
    ready: Path
    port: int


class Gateway(NamedTuple):
    """One gateway, ready to start."""

    file: AgentFile
    config: Path  # the rewritten configuration
    place: Place
    federations: list[str]  # that it joins
    feeds: dict[str, Feed]  # by source
    reads: dict[str, set[str]]  # asset -> the sources of its channels
    expected: dict[str, int]  # source -> values or pictures that are replayed from files
    machines: dict[str, Machine]  # source -> what serves it instead
    counted: dict[str, dict[str, int]]  # source -> what of its recording cannot be used


class Plan(NamedTuple):
    """The whole rehearsal."""

    folder: Folder
    scratch: Path
    aggregator: Path | None  # its rewritten configuration
    models: dict[str, tuple[Path, Path | None]]  # federation -> its model file and card
    gateways: dict[str, Gateway]
    speed: float
    words: list[str]
    problems: dict[str, list[str]]  # gateway -> what is wrong with its recordings


class _Recorded(NamedTuple):
    """The recordings of one gateway, before the speed is known."""

    replaced: dict[str, Replaced]
    place: Place
    written: dict[str, Written]
    pictures: dict[str, Pictures]
    spans: dict[str, tuple[int, int]]  # source -> times of its first and last value


def prepare(
    folder: Folder, scratch: Path, speed: float | None, rounds: int, limit_s: float | None, connectors: bool = False
) -> Plan:
    """Prepare everything. Raises ConfigError with all that is missing."""
    _all({name: partial(validity.check, agent) for name, agent in folder.agents.items()})
    federations = _federations(folder)
    models = _all({name: partial(finding.model, folder, name) for name in sorted(federations)})
    recorded = _all(
        {n: partial(_record, folder, agent, scratch, models, connectors) for n, agent in folder.agents.items()}
    )
    together = {name: spans.together(r.spans) for name, r in recorded.items()}
    lengths = {name: spans.longest_s(r.spans, together[name]) for name, r in recorded.items()}
    values = sum(w.rows for r in recorded.values() for w in r.written.values())
    chosen = speed if speed is not None else paces.speed(lengths.values(), values, limit_s)
    limit = limit_s or USUAL_LIMIT_S
    pace = Pace(chosen, max(lengths.values()) / chosen, rounds)
    words = _shared(recorded)
    if pace.replay_s > limit:
        words.append(
            f"the recordings take {pace.replay_s / 60:.0f} min at {chosen:g} times real time, and the rehearsal ends "
            f"after {limit / 60:.0f}: choose --speed or --minutes, or cut the recordings"
        )
    problems = {n: list(_apart(a, recorded[n])) for n, a in folder.agents.items()}
    gateways = {}
    for name, agent in folder.agents.items():
        gateways[name], more = _gateway(agent, recorded[name], together[name], scratch, pace, federations)
        words += more
    aggregator = None
    if folder.aggregator is not None and federations:
        made = aggregator_file.rewrite(folder.aggregator, folder.root, scratch / "aggregator", federations)
        loopback.check(made.table, str(folder.aggregator.path))
        aggregator = _write(scratch / "aggregator.toml", made.table)
        words = [*made.words, *words]
    return Plan(folder, scratch, aggregator, models, gateways, chosen, words, problems)


def _federations(folder: Folder) -> frozenset[str]:
    """Federations of the aggregator that a gateway takes part in."""
    if folder.aggregator is None:
        return frozenset()
    asked = {name for agent in folder.agents.values() for name in agent.config.model}
    return frozenset(asked & set(folder.aggregator.config.federation))


def _record(
    folder: Folder,
    agent: AgentFile,
    scratch: Path,
    models: Mapping[str, tuple[Path, Path | None]],
    connectors: bool,
) -> _Recorded:
    """Find, read and convert the recordings of one gateway."""
    replaced = _all({name: partial(_replace, folder, agent, name, models, connectors) for name in agent.config.source})
    base = scratch / "gateways" / agent.name
    place = Place(folder.root, base / "state", base / "replay", base / "events")
    for path in (place.replay, place.events, base / "recorded"):
        path.mkdir(parents=True)
    parts = [part for found in replaced.values() for part in found.parts]
    if not parts:
        raise ConfigError(f"{agent.path}: no asset reads a source, so there is nothing to replay")
    _no_two(agent, [part.name for part in parts])
    recorded = _Recorded(replaced, place, {}, {}, {})
    for part in sorted(parts, key=_is_untimed):  # those with times first: the others begin with them
        begin = min((first for first, _ in recorded.spans.values()), default=BEGIN_NS)
        if not isinstance(part, PicturePart):
            found = tables.write(part.recording, part.tags, base / "recorded" / f"{part.name}.csv", begin)
            recorded.written[part.name], recorded.spans[part.name] = found, (found.first_ns, found.last_ns)
        else:
            pictures = part.pictures if part.pictures.is_timed else part.pictures.beginning(begin)
            recorded.pictures[part.name], recorded.spans[part.name] = pictures, pictures.span
    return recorded


def _is_untimed(part: Part) -> bool:
    return not (part.pictures.is_timed if isinstance(part, PicturePart) else tables.is_timed(part.recording))


def _replace(
    folder: Folder,
    agent: AgentFile,
    name: str,
    models: Mapping[str, tuple[Path, Path | None]],
    connectors: bool,
) -> Replaced:
    given, rate_hz = folder.settings.of(agent.name, name), partial(_rate_hz, folder, agent, name, models)
    own = uses.of_source(agent.config, name)
    return sources.replace(Asked(folder.root, agent, name, agent.config.source[name], given, own, rate_hz, connectors))


def _rate_hz(folder: Folder, agent: AgentFile, source: str, models: Mapping[str, tuple[Path, Path | None]]) -> float:
    """The rate of rows without a time: the fastest waveform's, else that of the first asset's window."""
    own = uses.of_source(agent.config, source)
    if rates := [use.waveform_hz for use in own if use.waveform_hz is not None]:
        return max(rates)
    for use in own:
        asset = agent.config.asset[use.asset]
        if asset.window.rate_hz is not None:
            return asset.window.rate_hz
        model = agent.config.model[asset.model]
        file = finding.beside(model.file, agent.path, folder.root) if model.file is not None else None
        path, card = models.get(asset.model) or (file, None)
        if path is not None:
            return float(TrainableGraph.load(read_model(path, card or model.card)).card.window.rate_hz)
    return USUAL_HZ


def _no_two(agent: AgentFile, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{agent.path}: two sources would be replayed as {name!r}; rename one of them")


def _gateway(
    agent: AgentFile,
    recorded: _Recorded,
    begins: Mapping[str, int],
    scratch: Path,
    pace: Pace,
    federations: frozenset[str],
) -> tuple[Gateway, list[str]]:
    place = recorded.place
    made = agent_file.rewrite(agent, recorded.replaced, place, pace, federations)
    loopback.check(made.table, str(agent.path))
    config = _write(place.state.parent / "agent.toml", made.table)
    feeds, expected, machines = dict[str, Feed](), dict[str, int](), dict[str, Machine]()
    for part in (p for found in recorded.replaced.values() for p in found.parts):
        target = place.of(part)
        if isinstance(part, TablePart):
            rows = place.replay.parent / "recorded" / f"{part.name}.csv"
            feeds[part.name] = TableFeed(rows, target, begins[part.name])
            expected[part.name] = recorded.written[part.name].rows
        elif isinstance(part, ServedPart):
            rows, told = place.replay.parent / "recorded" / f"{part.name}.csv", place.replay / f"{part.name}.json"
            plan = served.plan(part, rows, begins[part.name], place.replay)
            files.write(told, msgspec.json.encode(plan))
            machines[part.name] = Machine(part.kind, told, place.replay / f"{part.name}.ready", part.port)
            feeds[part.name] = ServedFeed(place.replay / f"{part.name}.go", place.replay / f"{part.name}.done")
        else:
            pictures = recorded.pictures[part.name].found
            feeds[part.name] = PictureFeed(pictures, target, begins[part.name])
            expected[part.name] = len(pictures)
    counted = {name: w.counted for name, w in recorded.written.items() if w.counted}
    joins = [name for name in agent.config.model if name in federations]
    assets = made.table["asset"].items()
    reads = {name: {channel["source"] for channel in asset["channels"].values()} for name, asset in assets}
    return Gateway(agent, config, place, joins, feeds, reads, expected, machines, counted), made.words


def _apart(agent: AgentFile, recorded: _Recorded) -> Iterator[str]:
    """Name the recordings of an asset that have no time in common: its channels never meet in a window."""
    reads = {use: name for name in recorded.replaced for use in uses.of_source(agent.config, name)}
    reads |= {use: source for found in recorded.replaced.values() for use, (source, _) in found.reads.items()}
    for asset in agent.config.asset:
        own = list(dict.fromkeys(s for use, s in reads.items() if use.asset == asset and use.key[0] == "channels"))
        for one, other in combinations(own, 2):
            if not spans.meet(recorded.spans[one], recorded.spans[other]):
                yield f"asset {asset}: it gets no window: recordings of {one!r} and {other!r} have no time in common"


def _shared(recorded: Mapping[str, _Recorded]) -> list[str]:
    """Say which recording several gateways replay."""
    owners: dict[Path, list[str]] = {}
    for name, found in recorded.items():
        for part in (p for r in found.replaced.values() for p in r.parts):
            path = part.folder if isinstance(part, PicturePart) else part.recording.path
            owners.setdefault(path, []).append(name)
    return [
        f"gateways {', '.join(names)} replay the same recording {path}: their models learn the same; give each its own"
        for path, names in owners.items()
        if len(set(names)) > 1
    ]


def _write(path: Path, table: dict[str, object]) -> Path:
    files.write(path, toml_text.text(table).encode())
    return path


def _all(calls: Mapping[str, Callable[[], T]]) -> dict[str, T]:
    """Call each, and raise one ConfigError with what all of them say is wrong."""
    made, wrong = dict[str, T](), list[str]()
    for name, call in calls.items():
        try:
            made[name] = call()
        except StopError as e:
            wrong += [line for line in str(e).split("\n") if line not in wrong]
    if wrong:
        raise ConfigError("\n".join(wrong))
    return made
