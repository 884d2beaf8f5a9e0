# SPDX-License-Identifier: Apache-2.0
"""A machine whose model has derived channels: what formulas see, and what is said when one gives no number."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from fedge_agent.config.schema import AssetConfig, ModelConfig, TagConfig, Training, WindowConfig
from fedge_agent.durable.spool import Spool
from fedge_agent.federation.participant import Participant
from fedge_agent.health import Latency
from fedge_agent.machines.asset import Asset
from fedge_agent.machines.condition import Reason, SourceFacts, State
from fedge_agent.machines.condition_words import words
from fedge_agent.samples.store import SampleStore
from fedge_agent.types import AlertState, Batch, Quality, Reading
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, Derived, WindowSpec
from support.at_end import AtEnd

S = 10**9
START = 1_700_000_000
CARD = Card(
    "anomaly",
    (Channel("torque"), Channel("speed"), Channel("temp")),
    WindowSpec(1.0, 4, 1),
    ("mean", "std"),
    derive={"ratio": "torque / speed", "swing": Derived("max(temp) - min(temp)", unit="K")},
)


class Machine:
    def __init__(self, at_end: AtEnd, folder: Path, card: Card = CARD, max_missing: float = 0.1) -> None:
        folder.mkdir()
        (folder / "m.onnx").write_bytes(zoo.autoencoder(card, 9, (4,)).SerializeToString())
        self.samples, spool = at_end(SampleStore(folder / "s", {"m": 5000})), at_end(Spool(folder / "spool"))
        model = ModelConfig(file=folder / "m.onnx", training=Training(min_samples=64))
        self.part = Participant(
            "m", model, folder / "models", self.samples, spool, None, None, lambda *_: None, lambda _: False
        )
        self.part.restore()
        tags = {c.name: TagConfig(source="plc", tag=c.name) for c in card.channels}
        config = AssetConfig(model="m", channels=tags, window=WindowConfig(max_missing=max_missing))
        self.asset = Asset("gw", "mill", config, self.part, self.samples, Latency(), AlertState(), lambda *_: None)
        self.second, self.began = 0, time.monotonic()

    def hear(self, count: int, **fixed: float | None) -> None:
        """So many seconds of readings; None: of bad quality."""
        for _ in range(count):
            i = self.second
            values: dict[str, float | None] = {"torque": 40 + i % 7, "speed": 1500 + 10 * (i % 11), "temp": 300 + i % 3}
            readings = [
                Reading(n, (START + i) * S, 0.0 if v is None else v, Quality.BAD if v is None else Quality.GOOD)
                for n, v in {**values, **fixed}.items()
            ]
            self.asset.push(Batch("plc", readings, None, round((self.began + i) * S)))
            self.second += 1

    def learn(self) -> None:
        self.hear(300)
        self.samples.flush()
        self.part.model.rescale()
        self.hear(10)

    def condition(self, later: float = 0.0) -> Any:
        return self.asset.condition({"plc": SourceFacts()}, self.began + self.second + later)


@pytest.fixture
def machine(at_end: AtEnd, tmp_path: Path) -> Machine:
    made = Machine(at_end, tmp_path / "gw")
    made.learn()
    return made


def test_it_decides_on_derived_channels(machine: Machine) -> None:
    assert machine.asset.decisions[-1][0].label in ("normal", "anomaly")
    assert machine.asset.newest is not None
    x = machine.asset.newest.features
    rows = machine.asset.newest.window.values
    assert x.shape == (9,) and x[8] == rows[2].max() - rows[2].min()
    assert x[6] == pytest.approx((rows[0] / rows[1]).mean(), rel=1e-5)
    assert machine.asset.status()["windows_undefined"] == 0 and words(machine.condition()) == ""


def test_a_fault_that_only_a_derived_channel_shows_is_named_by_it(machine: Machine) -> None:
    machine.hear(6, torque=20)  # each channel as it was before, but for a product that never was
    found = machine.asset.decisions[-1][0]
    assert found.score > found.threshold and found.channel in ("torque", "ratio of torque, speed")


def test_a_window_without_a_number_is_counted_and_not_decided_on(machine: Machine) -> None:
    machine.samples.flush()
    before, stored = len(machine.asset.decisions), machine.part.model.total
    machine.hear(1, speed=0)
    machine.hear(9)
    status = machine.asset.status()
    assert status["windows_undefined"] == 4  # those that hold the sample
    assert len(machine.asset.decisions) == before + 6
    machine.samples.flush()
    assert 0 < machine.part.model.total - stored <= 6
    assert machine.condition().state is State.DECIDING


def test_a_machine_that_stands_still_is_stale_with_the_formula(machine: Machine) -> None:
    machine.hear(120, speed=0)
    found = machine.condition()
    assert found.state is State.STALE and found.problem
    assert [c.reason for c in found.causes] == [Reason.UNDEFINED]
    assert words(found).endswith(
        "windows the formula ratio = torque / speed gives no number, such as by a division by zero"
    )
    machine.hear(20)
    assert machine.condition().state is State.DECIDING


def test_one_that_never_had_a_number_is_overdue_with_the_formula(at_end: AtEnd, tmp_path: Path) -> None:
    made = Machine(at_end, tmp_path / "gw")
    made.hear(30, speed=0)
    found = made.condition(later=60)
    assert found.overdue and Reason.UNDEFINED in [c.reason for c in found.causes]
    assert "for 27 of 27 windows the formula ratio = torque / speed gives no number" in words(found)


def test_a_missing_channel_takes_what_is_derived_of_it_along(at_end: AtEnd, tmp_path: Path) -> None:
    made = Machine(at_end, tmp_path / "gw", max_missing=0.5)
    made.learn()
    made.hear(30, speed=None)
    assert made.asset.status()["windows_undefined"] == 0
    assert made.asset.newest is not None
    assert made.asset.newest.features[[2, 3, 6, 7]].tolist() == [0, 0, 0, 0]  # of speed and of ratio
    assert "decides without speed, and so without ratio: tag speed has been Bad" in words(made.condition())
