"""`fedge-agent check`: each connection tried, nothing changed."""

from __future__ import annotations

import http.client
from collections.abc import Iterator

from fedge_models.errors import FedgeError
from fedge_models.graph.intake import PROBE_BYTES, bounded_memory
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.privacy import budget

from ..config.schema import Config
from ..federation import identity
from ..machines.asset import check_fit
from ..outputs import registry as outputs
from ..samples.station_files import Station
from ..sources import registry as sources


def check_all(config: Config, where: str) -> Iterator[tuple[str, list[str]]]:
    """(what, problems) of each source, output, model, and of the aggregator if it is needed or joined."""
    state = config.agent.state
    built = [(f"source {n}", sources.build(n, t, where, state), n) for n, t in config.source.items()]
    targets = [(f"output {n}", outputs.build(n, t, where, state)) for n, t in config.output.items()]
    yield f"configuration {where}", []
    for what, source, name in built:
        tags = [t.tag for a in config.asset.values() for t in a.tags().values() if t.source == name]
        yield what, source.check(list(dict.fromkeys(tags)))
    for name, asset in config.asset.items():
        if asset.inspection and asset.inspection.path:
            yield f"inspection of {name}", Station(name, asset.inspection, config.agent.state).check()
    for what, output in targets:
        yield what, output.check()
    for name, model in config.model.items():
        if model.file is not None:
            yield f"model {name}", _model_problems(config, name)
        if privacy := model.privacy:
            count = budget.updates_left(budget.Spent(), privacy)
            yield f"privacy of {name}: epsilon {privacy.epsilon:g}, delta {privacy.delta:g} pay for {count} updates", []
    if any(m.file is None for m in config.model.values()) or identity.load(config.agent.state) is not None:
        yield "aggregator", _aggregator_problems(config)


def _model_problems(config: Config, name: str) -> list[str]:
    path = config.model[name].file
    assert path is not None
    try:
        graph = TrainableGraph.load(path.read_bytes(), where=str(path))
        with bounded_memory(PROBE_BYTES, str(path)):
            graph.probe()
        for asset, entry in config.asset.items():
            if entry.model == name:
                check_fit(asset, entry, graph.card, graph.input_shape)
    except (OSError, FedgeError) as e:
        return [str(e)]
    return []


def _aggregator_problems(config: Config) -> list[str]:
    try:
        joined = identity.load(config.agent.state)
        if joined is None:
            return ["this gateway has not joined: fedge-agent join INVITATION"]
        connection = identity.connection(joined.url, joined.context())
        connection.request("GET", "/v1/ca")
        connection.getresponse().read(65536)
        connection.close()
    except (OSError, http.client.HTTPException, FedgeError) as e:
        return [f"cannot be reached: {e}"]
    return [
        f"[model.{name}] is no federation of this gateway; it is for: {', '.join(joined.federations)}"
        for name in config.model
        if name not in joined.federations and config.model[name].file is None
    ]
