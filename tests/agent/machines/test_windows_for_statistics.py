# SPDX-License-Identifier: Apache-2.0
"""An asset's windows are sampled for statistics from the first one on, and their scores as soon as it decides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from fedge_agent.config.schema import AssetConfig, ModelConfig, TagConfig, Training
from fedge_agent.durable.spool import Spool
from fedge_agent.federation.participant import Participant
from fedge_agent.health import Latency
from fedge_agent.machines.asset import Asset
from fedge_agent.samples.reservoir import Reservoir
from fedge_agent.samples.store import SampleStore
from fedge_agent.types import AlertState, Batch, Quality, Reading
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from fedge_models.system.settings import Seconds
from support.at_end import AtEnd

CARD = Card("anomaly", (Channel("a"), Channel("b")), WindowSpec(1, 10, 5), ("mean", "std"))


def test_windows_are_sampled_before_anything_decides_and_scores_from_then_on(at_end: AtEnd, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(zoo.autoencoder(CARD, 4, (3,)).SerializeToString())
    samples = at_end(SampleStore(tmp_path / "samples.sqlite", {"m": 1000}))
    config = ModelConfig(file=tmp_path / "m.onnx", training=Training(min_samples=10))
    spool, machine = at_end(Spool(tmp_path / "s.sqlite")), Reservoir("pump")
    part = Participant(
        "m", config, tmp_path / "models", samples, spool, None, None, lambda *_: None, lambda _: False,
        machines={"pump": machine},
    )  # fmt: skip
    part.restore()
    tags = {name: TagConfig(source="plc", tag=name) for name in "ab"}
    of_pump = AssetConfig(model="m", channels=tags, baseline=Seconds(0))
    asset = Asset(
        "gw", "pump", of_pump, part, samples, Latency(), AlertState(), lambda *_: None, reservoir=machine
    )  # fmt: skip
    rng = np.random.default_rng(0)

    def run(first: int, last: int) -> None:
        for t in range(first, last):
            readings = [
                Reading("a", t * 10**9, float(rng.normal(5)), Quality.GOOD),
                Reading("b", t * 10**9, float(rng.normal(50)), Quality.GOOD),
            ]
            asset.push(Batch("plc", tuple(readings), None, 0))

    run(0, 200)
    early = machine.held()
    assert early.names == ("a", "b") and 15 <= early.seen <= 20  # ten seconds each, although one comes every five
    assert abs(early.values[:, 0].mean() - 5) < 1 and abs(early.values[:, 1].mean() - 50) < 1
    assert np.isnan(early.scores).all()
    samples.flush()
    part.model.rescale()
    part.model.complete_baselines()
    run(200, 400)
    scores = machine.held().scores
    assert np.isfinite(scores[early.seen + 2 :]).all() and (scores[early.seen + 2 :] > 0).all()
