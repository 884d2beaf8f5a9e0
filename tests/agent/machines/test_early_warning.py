# SPDX-License-Identifier: Apache-2.0
"""What sources tell before there is a model: who tells only what changes will not tell it again."""

from __future__ import annotations

from pathlib import Path

import pytest
from fedge_agent.config.schema import AssetConfig, ModelConfig, TagConfig
from fedge_agent.durable.spool import Spool
from fedge_agent.federation.participant import Participant
from fedge_agent.health import Latency
from fedge_agent.machines.asset import Asset
from fedge_agent.samples.store import SampleStore
from fedge_agent.types import AlertState, Batch, Reading
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from support.at_end import AtEnd

SECOND = 10**9


@pytest.mark.parametrize("new_connection", [False, True])
def test_a_value_reported_before_the_model_came_is_known_until_its_connection_ends(
    at_end: AtEnd, tmp_path: Path, new_connection: bool
) -> None:
    card = Card("anomaly", (Channel("a"), Channel("b")), WindowSpec(1, 4, 4), ("mean",))
    (tmp_path / "m.onnx").write_bytes(zoo.autoencoder(card, 2, (1,)).SerializeToString())
    samples, spool = (
        at_end(SampleStore(tmp_path / "samples.sqlite", {"m": 1000})),
        at_end(Spool(tmp_path / "spool.sqlite")),
    )
    part = Participant(
        "m", ModelConfig(file=tmp_path / "m.onnx"), tmp_path / "models", samples, spool, None, None,
        lambda *_: None, lambda _: False,
    )  # fmt: skip
    channels = {n: TagConfig(source="plc", tag=n) for n in ("a", "b")}
    config = AssetConfig(model="m", channels=channels)
    asset = Asset("gw", "cell", config, part, samples, Latency(), AlertState(), lambda *_: None)
    asset.push(Batch("plc", [Reading("a", 0, 1.0), Reading("b", 0, 2.0)], 0, 0, fresh=True))
    part.restore()
    asset.push(Batch("plc", [Reading("a", 9 * SECOND, 3.0)], 9 * SECOND, 0, fresh=new_connection))
    asset.push(Batch("plc", [], 30 * SECOND, 0))
    state = asset.status()
    assert state["counters"]["windows"] >= 4
    assert (state["windows_with_gaps"] > 0) is new_connection
    samples.start()
    samples.stop()
    spool.close()
