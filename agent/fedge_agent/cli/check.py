# SPDX-License-Identifier: Apache-2.0
"""`fedge-agent check`: everything that would keep `start` from deciding, tried without changing anything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fedge_models.errors import FedgeError, WireError
from fedge_models.graph.intake import PROBE_BYTES, bounded_memory
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.privacy import budget
from fedge_models.system import files, lock, service

from ..config.schema import Config
from ..federation import identity
from ..federation.uplink import Uplink
from ..health import STATUS_FILE
from ..machines.asset import check_fit
from ..machines.routing import Routes
from ..outputs import registry as outputs
from ..samples.station_files import Station
from ..sources import registry as sources
from ..sources.naming import Names

CAP = 64 * 1024  # of an answer that only shows that this gateway is served


def check_all(config: Config, where: str) -> Iterator[tuple[str, list[str]]]:
    """(what, problems) of everything that `start` needs.

    This is the page, the state folder, each source, output and model, and the aggregator if it is needed or joined.
    """
    state, routes = config.agent.state, Routes(config.source, config.asset)
    built = [(f"source {n}", sources.build(n, t, where, state), n) for n, t in config.source.items()]
    targets = [(f"output {n}", outputs.build(n, t, where, state)) for n, t in config.output.items()]
    yield f"configuration {where}", []
    yield f"status page {config.agent.status}", _page_problems(config, where)
    yield f"state folder {state}", [p for p in (files.folder_problem(state),) if p]
    for what, source, name in built:
        yield what, Names(routes.users(name)).folded(source.check(routes.tags(name)))
    for name, asset in config.asset.items():
        if asset.inspection and asset.inspection.path:
            yield f"inspection of {name}", Station(name, asset.inspection, config.agent.state).check()
    for what, output in targets:
        yield what, output.check()
    for name, model in config.model.items():
        path = _model_file(config, name)
        if path is not None:
            yield f"model {name}", _model_problems(config, name, path)
        if privacy := model.privacy:
            count = budget.updates_left(budget.Spent(), privacy)
            yield f"privacy of {name}: epsilon {privacy.epsilon:g}, delta {privacy.delta:g} pay for {count} updates", []
    if any(m.file is None for m in config.model.values()) or identity.load(config.agent.state) is not None:
        yield "aggregator", _aggregator_problems(config)


def _page_problems(config: Config, where: str) -> list[str]:
    """Whether the page may listen where it is configured; a running agent listens there already."""
    state = config.agent.state
    try:
        address = service.parse_loopback(config.agent.status, f"{where}: key 'agent.status'")
        if not (state / STATUS_FILE).exists() or lock.holder(state) is None:
            service.try_address(address)
    except FedgeError as e:
        return [str(e)]
    return []


def _model_file(config: Config, name: str) -> Path | None:
    """The model that `start` would serve first: the one that was fetched, or the configured file."""
    fetched = config.agent.state / "models" / name / "graph.onnx"
    return fetched if fetched.exists() else config.model[name].file


def _model_problems(config: Config, name: str, path: Path) -> list[str]:
    """Whether the model runs, and fits each asset that uses it."""
    try:
        graph = TrainableGraph.load(path.read_bytes(), where=str(path))
        with bounded_memory(PROBE_BYTES, str(path)):
            graph.probe()
    except OSError as e:
        return [files.explain(e, path)]
    except FedgeError as e:
        return [str(e)]
    problems = []
    for asset, entry in config.asset.items():
        try:
            if entry.model == name:
                check_fit(asset, entry, graph.card, graph.input_shape)
        except FedgeError as e:
            problems.append(str(e))
    return problems


def _aggregator_problems(config: Config) -> list[str]:
    """Whether the aggregator serves this gateway each model that it is to fetch."""
    try:
        joined = identity.load(config.agent.state)
    except FedgeError as e:
        return [str(e)]
    if joined is None:
        return ["this gateway has not joined: fedge-agent join INVITATION"]
    uplink, problems = Uplink(joined), []
    for name, model in config.model.items():
        if name in joined.federations:
            problems += _refused(uplink, name)
        elif model.file is None:
            federations = ", ".join(joined.federations)
            problems.append(f"[model.{name}] is no federation of this gateway; it is for: {federations}")
    uplink.close()
    return list(dict.fromkeys(problems))


def _refused(uplink: Uplink, federation: str) -> list[str]:
    try:
        uplink.fetch_release(federation, 0, CAP)
    except WireError:  # it is longer than this: it is served
        return []
    except FedgeError as e:
        return [str(e)]
    return []
