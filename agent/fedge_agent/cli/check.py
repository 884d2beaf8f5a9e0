# SPDX-License-Identifier: Apache-2.0
"""`fedge-agent check`: everything that would keep `start` from deciding, tried without changing anything."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

from fedge_models.errors import FedgeError, WireError
from fedge_models.graph.card import Card
from fedge_models.graph.intake import PROBE_BYTES, bounded_memory, read_capped, room_for
from fedge_models.graph.serve_check import check_served
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.privacy import budget
from fedge_models.system import database, disk, files, lock, service
from fedge_models.training.personal import check_local

from ..config import claims
from ..config.schema import AssetConfig, Config, ModelConfig
from ..durable.known_databases import PLACES
from ..federation import identity
from ..federation.uplink import Uplink
from ..health import STATUS_FILE
from ..learning.model_file import configured_model
from ..machines import enough, label_names
from ..machines.fit import check_fit
from ..machines.routing import Routes
from ..outputs import registry as outputs
from ..samples.label_values import target_value
from ..samples.station_files import Station
from ..sources import registry as sources
from ..sources.naming import Names
from ..types import Output, Source, Table
from . import check_values
from .cards import card_of
from .rehearsal import rehearse

CAP = 64 * 1024  # of an answer that only shows that this gateway is served


Step = tuple[str, Callable[[], list[str]]]  # what is tried, and how: its problems


def check_all(config: Config, where: str) -> Iterator[tuple[str, list[str]]]:
    """(what, problems) of everything that `start` needs.

    This is the page, the state folder, each source, output and model, and the aggregator if it is needed or joined. A
    step that cannot be tried, for want of rights or because of a defect, fails, and the next ones are tried.
    """
    yield f"configuration {where}", []
    yield from _tried(_steps(config, where))


def _tried(steps: Iterable[Step]) -> Iterator[tuple[str, list[str]]]:
    for what, step in steps:
        try:
            problems = step()
        except FedgeError as e:
            problems = [str(e)]
        except OSError as e:
            at = e.filename
            problems = [files.explain(e, Path(at)) if isinstance(at, (str, Path)) else e.strerror or str(e)]
        except Exception as e:
            problems = [f"unexpected {type(e).__name__}: {e}; please report it"]
        yield what, list(dict.fromkeys(problems))


def _steps(config: Config, where: str) -> Iterator[Step]:
    state, routes = config.agent.state, Routes(config.source, config.asset)
    built = {n: sources.build(n, t, where, state) for n, t in config.source.items()}
    targets = {n: outputs.build(n, t, where, state) for n, t in config.output.items()}
    claims.check(where, state, claims.parts(built, targets), claims.read_by(config, Path(where)))
    yield f"status page {config.agent.status}", partial(_page_problems, config, where)
    yield _state_step(state)
    for name, source in built.items():
        yield f"source {name}", partial(_source_problems, config, routes, name, source)
        for remark in source.remarks:
            yield f"source {name}: {remark}", list
    yield from _rehearsals(config, built)
    yield from _steps_besides_sources(config, targets)
    if any(m.file is None for m in config.model.values()) or _has_joined(state):
        yield "aggregator", partial(_aggregator_problems, config)


def problems_besides_sources(config: Config, where: str) -> Iterator[tuple[str, list[str]]]:
    """Whatever would fail besides the sources, for a caller that reads the sources itself. Raises ConfigError."""
    state = config.agent.state
    built = {n: sources.build(n, t, where, state) for n, t in config.source.items()}
    targets = {n: outputs.build(n, t, where, state) for n, t in config.output.items()}
    claims.check(where, state, claims.parts(built, targets), claims.read_by(config, Path(where)))
    yield from _tried([_state_step(state), *_steps_besides_sources(config, targets)])


def _state_step(state: Path) -> Step:
    def problems() -> list[str]:
        databases = sorted(path for place in PLACES for path in state.glob(place))
        found = [disk.folder_problem(state), *map(database.why_newer, databases)]
        return [problem for problem in found if problem]

    return f"state folder {state}", problems


def _source_problems(config: Config, routes: Routes, name: str, source: Source) -> list[str]:
    """What the source cannot read, and which values its channels cannot use."""
    found = Names(routes.users(name)).folded(source.check(routes.tags(name)))
    return found + check_values.unusable(name, config.asset, source.seen)


def _rehearsals(config: Config, built: Mapping[str, Source]) -> Iterator[Step]:
    """Whether windows of each asset would be decided on, as far as that is known before its sources run."""
    for name, asset in config.asset.items():
        tried = {tag.source: built[tag.source] for tag in asset.channels.values() if built[tag.source].trial}
        said = [p for n, source in tried.items() for p in check_values.unusable(n, {name: asset}, source.seen)]
        card = card_of(config, asset.model)
        if not tried or said or card is None or any(c.name not in asset.channels for c in card.channels):
            continue  # another step says why
        for n, source in tried.items():
            for note in check_values.coarse(name, asset, n, source.trial, card):
                yield note, list
        notes: list[str] = []
        yield f"windows of {name}", partial(_rehearse, name, asset, card, tried, notes)
        for note in notes:
            yield note, list


def _rehearse(name: str, asset: AssetConfig, card: Card, tried: Mapping[str, Source], notes: list[str]) -> list[str]:
    found = rehearse(name, asset, card, tried)
    notes += found.notes
    return found.problems


def _label_problems(config: Config) -> list[str]:
    """Labels that no model knows."""
    cards = {n: (a, card) for n, a in config.asset.items() if (card := card_of(config, a.model)) is not None}
    return label_names.unknown(config.output, cards)


def _steps_besides_sources(config: Config, targets: Mapping[str, Output]) -> Iterator[Step]:
    state = config.agent.state
    for name, asset in config.asset.items():
        for note in check_values.twice(name, asset):
            yield note, list
        if asset.inspection and asset.inspection.path:
            station = Station(name, asset.inspection, state)
            yield f"inspection of {name}", partial(station.check, _knows(config, asset))
            if station.remark:
                yield f"inspection of {name}: {station.remark}", list
    for name, output in targets.items():
        yield f"output {name}", output.check
        if output.remark:
            yield f"output {name}: {output.remark}", list
    for name, model in config.model.items():
        path = _model_file(config, name)
        if path is not None:
            notes: list[str] = []
            yield f"model {name}", partial(_model_problems, config, name, path, notes)
            for note in [*notes, *_learns(name, model, path, state), *_start_value(name, model, card_of(config, name))]:
                yield note, list
        if privacy := model.privacy:
            count = budget.updates_left(budget.Spent(), privacy)
            what = f"privacy of {name}: epsilon {privacy.epsilon:g}, delta {privacy.delta:g} pay for {count} updates"
            yield what, list
    if any(a.label and a.label.map for a in config.asset.values()) or any(map(_closes, config.output.values())):
        yield "labels", partial(_label_problems, config)


def _learns(name: str, model: ModelConfig, path: Path, state: Path) -> Iterator[str]:
    """Say how a model is trained on a gateway that has joined no aggregator."""
    if path != model.file or _has_joined(state):
        return
    if model.training.own_model:
        yield (
            f"model {name}: learns alone, from this gateway's data: no aggregator is joined "
            "(to learn with other sites: fedge-agent join INVITATION)"
        )
    else:
        yield f"model {name}: is served as it is: own_model is 0, and no aggregator is joined"


def _start_value(name: str, model: ModelConfig, card: Card | None) -> Iterator[str]:
    """Say whether this gateway offers its local tensors, if the card asks sites for them as a start value."""
    if card is None or card.local_start != "shared":
        return
    offers = "offers" if model.offer_start and model.privacy is None else "does not offer"
    why = "privacy is set" if model.privacy else f"offer_start is {str(model.offer_start).lower()}"
    yield (
        f"model {name}: asks sites for a start value of its local tensors (what new sites begin with); "
        f"this gateway {offers} its own: {why}"
    )


def _knows(config: Config, asset: AssetConfig) -> Callable[[str | float], bool] | None:
    """Whether the asset's model knows a verdict, or None while there is no model."""
    card, names = card_of(config, asset.model), asset.label.map if asset.label else {}
    return None if card is None else lambda value: target_value(value, card, names) is not None


def _closes(table: Table) -> bool:
    return bool(table.get("closing"))


def _has_joined(state: Path) -> bool:
    """Whether this gateway has an identity, be it one that cannot be read."""
    try:
        return identity.load(state) is not None
    except (FedgeError, OSError):
        return True


def _page_problems(config: Config, where: str) -> list[str]:
    """Whether the page may listen where it is configured; where the running agent of this state folder listens, it may
    again."""
    address = service.parse_loopback(config.agent.status, f"{where}: key 'agent.status'")
    if not _listens_there(config.agent.state, address):
        service.try_address(address)
    return []


def _listens_there(state: Path, address: tuple[str, int]) -> bool:
    """Whether the running agent of the state folder listens at this address."""
    try:
        host, _, port = (state / STATUS_FILE).read_text().strip().rpartition(":")
    except FileNotFoundError:
        return False
    same = (host.strip("[]"), port) == (socket.gethostbyname(address[0]), str(address[1]))
    return same and lock.holder(state) is not None


def _model_file(config: Config, name: str) -> Path | None:
    """The model that `start` would serve first: the one that was fetched, or the configured file."""
    fetched = config.agent.state / "models" / name / "graph.onnx"
    try:
        return fetched if fetched.exists() else config.model[name].file
    except PermissionError:  # reading it says so
        return fetched


def _model_problems(config: Config, name: str, path: Path, notes: list[str]) -> list[str]:
    """Whether the model of a file is one that `start` takes, runs, and fits each asset that uses it."""
    if path != config.model[name].file:
        return _unfit(config, name, read_capped(path), str(path), notes)
    try:
        with bounded_memory(room_for(path), str(path)):
            data = configured_model(config.model[name])
    except FedgeError as e:
        return [str(e)]
    return _unfit(config, name, data or b"", str(path), notes)


def _unfit(config: Config, name: str, data: bytes, where: str, notes: list[str]) -> list[str]:
    """Whether a model runs, and fits each asset that uses it.

    notes: gets what was changed in a configured file, and what keeps it from training only.
    """
    try:
        graph = TrainableGraph.load(data, where=where)
        check_local(graph, where)
        with bounded_memory(PROBE_BYTES, where):
            graph.probe()
            check_served(data, graph, where)
    except FedgeError as e:
        return [str(e)]
    if where == str(config.model[name].file):
        notes += [f"model {name}: {text}" for text in graph.notes]
    problems, assets = [], {asset: entry for asset, entry in config.asset.items() if entry.model == name}
    for asset, entry in assets.items():
        try:
            check_fit(asset, entry, graph.card, graph.input_shape)
        except FedgeError as e:
            problems.append(str(e))
    model, shape = config.model[name], graph.input_shape
    problems = problems or enough.impossible(name, model, assets, graph.card, shape)
    untrained = None if problems or not assets else enough.training_problem(name, model, shape)
    notes += [untrained] if untrained else []
    return problems


def _aggregator_problems(config: Config) -> list[str]:
    """Whether the aggregator serves this gateway each model that it is to fetch, and whether that fits."""
    joined = identity.load(config.agent.state)
    wanted = [name for name, model in config.model.items() if model.file is None]
    if joined is None:
        return ["this gateway has not joined: fedge-agent join INVITATION"] if wanted else []
    uplink, problems = Uplink(joined), []
    for name in config.model:
        if name in joined.federations:
            problems += _refused(uplink, config, name)
        elif name in wanted:
            federations = ", ".join(joined.federations)
            problems.append(f"[model.{name}] is no federation of this gateway; it is for: {federations}")
    uplink.close()
    return problems


def _refused(uplink: Uplink, config: Config, federation: str) -> list[str]:
    """Why the aggregator does not serve a model, or why the model that is still to be fetched does not fit."""
    try:
        if _model_file(config, federation) is None:
            data = uplink.fetch_model(federation)
            return _unfit(config, federation, data, f"the aggregator's model {federation}", [])
        uplink.fetch_release(federation, 0, CAP)
    except WireError:  # it is longer than this: it is served
        return []
    except FedgeError as e:
        return [str(e)]
    return []
