# SPDX-License-Identifier: Apache-2.0
"""Assets whose features look for a bearing's defects: what they must know, and a speed that is read from a tag."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from fedge_agent.config.schema import AssetConfig, ModelConfig, Training
from fedge_agent.durable.spool import Spool
from fedge_agent.federation.participant import Participant
from fedge_agent.health import Latency
from fedge_agent.machines.asset import Asset
from fedge_agent.machines.fit import check_fit
from fedge_agent.samples.store import SampleStore
from fedge_agent.types import AlertState, Batch, Reading
from fedge_models.errors import ModelError
from fedge_models.graph import zoo
from fedge_models.graph.bearing import Bearing
from fedge_models.graph.card import Card, Channel, WindowSpec
from fedge_models.system import settings
from support.at_end import AtEnd

RATE, LENGTH = 10_000.0, 8_192
BEARING = Bearing(8, 0.235, 1.245)
CARD = Card("anomaly", (Channel("vibration"),), WindowSpec(RATE, LENGTH, LENGTH), ("rms", "bpfo:1"))
CHANNELS = {"vibration": {"source": "plc", "tag": "v", "waveform_hz": RATE}}


def config(**more: Any) -> AssetConfig:
    return settings.convert({"model": "m", "channels": CHANNELS, **more}, AssetConfig, "test", "asset.pump")


def geometry(**more: Any) -> dict[str, Any]:
    return {**msgspec.structs.asdict(BEARING), **more}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, r"asset\.pump\.bearing"),
        ({"bearing": geometry()}, "shaft_hz or shaft_rpm"),
        ({"bearing": geometry(shaft_hz=0.5)}, "the window needs 12327"),  # 8,192 samples: 1.3 strikes of the outer race
    ],
)
def test_an_asset_that_knows_too_little_of_its_bearing_reports_what(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        check_fit("pump", config(**given), CARD, (2,))


@pytest.mark.parametrize(
    "given",
    [
        {"bearing": geometry(shaft_hz=25.0)},
        {"bearing": geometry(), "shaft_rpm": {"source": "plc", "tag": "n"}},
    ],
)
def test_an_asset_that_knows_enough_fits(given: dict[str, Any]) -> None:
    check_fit("pump", config(**given), CARD, (2,))


def test_the_speed_of_the_shaft_is_read_with_the_window(at_end: AtEnd, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(zoo.autoencoder(CARD, 2, (1,)).SerializeToString())
    samples, spool = (
        at_end(SampleStore(tmp_path / "samples.sqlite", {"m": 1000})),
        at_end(Spool(tmp_path / "spool.sqlite")),
    )
    model = ModelConfig(file=tmp_path / "m.onnx", training=Training(holdout=0.0))
    part = Participant("m", model, tmp_path / "models", samples, spool, None, None, lambda *_: None, lambda _: False)
    part.restore()
    shaft = {"bearing": geometry(), "shaft_rpm": {"source": "plc", "tag": "n"}, "window": {"max_hold": 60.0}}
    asset = Asset("gw", "pump", config(**shaft), part, samples, Latency(), AlertState(), lambda *_: None)
    block, start, span = struck(BEARING.orders()["bpfo"], 31.0), 1_700_000_000 * 10**9, round(LENGTH / RATE * 1e9)
    for k, rpm in enumerate((1500.0, 1500.0, 1860.0, 1860.0)):  # it turns at 31 Hz all along, as the strikes tell
        end = start + (k + 1) * span
        readings = [Reading("n", end - span + 1, rpm), Reading("v", end, block(k))]
        asset.push(Batch("plc", readings, end, 0, fresh=k == 0))
    samples.start()
    samples.stop()
    stored = at_end(SampleStore(tmp_path / "samples.sqlite", {"m": 1000}))
    found = stored.rows("m", (2,), None).x[:, 1].tolist()
    assert len(found) >= 2
    assert max(found) == found[-1] > found[0] + 0.7
    stored.start()
    stored.stop()
    spool.close()


def struck(order: float, shaft_hz: float) -> Callable[[int], np.ndarray]:
    """Blocks of a resonance that a defect of the outer race strikes."""

    def block(k: int) -> np.ndarray:
        t = (np.arange(LENGTH) + k * LENGTH) / RATE
        since = t % (1 / (order * shaft_hz))
        rung = np.exp(-since * 800) * np.sin(2 * np.pi * RATE / 5 * since)
        return (rung + 0.3 * np.random.default_rng(k).normal(size=LENGTH)).astype(np.float32)

    return block
