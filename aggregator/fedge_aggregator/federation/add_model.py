# SPDX-License-Identifier: Apache-2.0
"""Add a model file: check it as every gateway will, and sign its weights as release 1."""

from __future__ import annotations

import hashlib
from pathlib import Path

from fedge_models.errors import ConfigError
from fedge_models.graph.intake import bounded_memory, check_fed, read_model, room_for
from fedge_models.graph.serve_check import check_served
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.training.personal import check_local

from ..authority import Authority
from ..config.averaging import build_averaging
from ..config.schema import FederationConfig
from ..rounds.start_value import least_offers
from ..store.releases import ReleaseRow
from ..store.store import Model, Store
from . import publish
from .release_chain import bodies


def still_start(graph: TrainableGraph, config: FederationConfig, federation: str) -> str | None:
    """Why no full round here moves a shared start value, for the operator; None: one can, or none is shared."""
    if graph.card.local_start != "shared" or config.mode != "asynchronous":
        return None
    pipeline = build_averaging(config, f"federation {federation}").pipeline
    updates = config.limits(pipeline.minimum()).buffer
    needed = least_offers(pipeline.hostile(updates))
    if needed <= updates:
        return None
    return (
        f"the card says local_start = 'shared', but a round of {updates} updates (federation.{federation}.buffer) "
        f"never has the {needed} offers that move these values; raise buffer"
    )


def add_model(
    store: Store,
    authority: Authority,
    federation: str,
    config: FederationConfig,
    path: Path,
    now: float,
    card: Path | None = None,
    trainable: str | None = None,
) -> TrainableGraph:
    """Store the file, with the card and the trainable globs if given, and release 1.

    Raises ModelError for a file that cannot be trained, ConfigError for a wrong card or a federation that has a model.
    """
    with bounded_memory(room_for(path), str(path)):
        data = read_model(path, card, trainable)
        graph = TrainableGraph.load(data, where=str(path))
        check_fed(graph.card, graph.input_shape, graph.output_shape, str(path))
        check_local(graph, str(path))
        graph.probe()
        check_served(data, graph, str(path))
    digest = hashlib.sha256(data).digest()
    signer = publish.Signer(federation, digest, authority.release_key, int(config.lifetime))
    first = publish.first_release(signer, graph.params, graph.sizes, int(now))
    model = Model(federation, digest, graph.sizes, tuple(t.name for t in graph.layout))
    row = ReleaseRow(1, "first", first.hash, now, first.header.rule, {})
    if not store.add_model(model, data, row, bodies(first)):
        raise ConfigError(f"federation {federation!r} has a model already; give a new model a federation of its own")
    return graph
