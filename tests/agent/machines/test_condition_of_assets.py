# SPDX-License-Identifier: Apache-2.0
"""An asset with a model of its own says why it does not decide, whatever the source does to it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fedge_agent.config.schema import AssetConfig, LabelConfig, ModelConfig, TagConfig, Training, WindowConfig
from fedge_agent.durable.spool import Spool
from fedge_agent.federation.participant import Participant
from fedge_agent.health import Latency
from fedge_agent.machines.asset import Asset, recent_share
from fedge_agent.machines.condition import Condition, SourceFacts, State
from fedge_agent.machines.condition_words import words
from fedge_agent.samples.store import SampleStore
from fedge_agent.sources.host import HostedSource, Queue
from fedge_agent.types import AlertState, Batch, Quality, Reading, Source
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from support.at_end import AtEnd

SECOND = 10**9
START_S = 1_780_220_520  # 2026-05-31 09:42 UTC
CARD = Card("anomaly", (Channel("temp"), Channel("press")), WindowSpec(1, 10, 5), ("mean", "std"))
TAGS = {c.name: TagConfig(source="plc", tag=c.name) for c in CARD.channels}
Value = Callable[[int], Any]


class Machine:
    """An asset, fed by hand; a second of the machine's time is one of the monotonic clock, from `began` on."""

    def __init__(
        self, at_end: AtEnd, folder: Path, card: Card = CARD, alter: Callable[[Any], None] | None = None, **more: Any
    ) -> None:
        """more: keys of the asset."""
        model = zoo.autoencoder(card, 4, (3, 2))
        (folder / "m.onnx").write_bytes(model.SerializeToString())
        self.samples, spool = (
            at_end(SampleStore(folder / "samples.sqlite", {"m": 1000})),
            at_end(Spool(folder / "s.sqlite")),
        )
        config = ModelConfig(file=folder / "m.onnx", training=Training(min_samples=10, fine_tune=0))
        self.part = Participant(
            "m", config, folder / "models", self.samples, spool, None, None, lambda *_: None, lambda _: False
        )
        tags = {c.name: TagConfig(source="plc", tag=c.name) for c in card.channels}
        asset = AssetConfig(model="m", channels=tags, window=WindowConfig(max_hold=1, lateness=1), **more)  # type: ignore[arg-type]
        self.asset = Asset("gw", "pump", asset, self.part, self.samples, Latency(), AlertState(), lambda *_: None)
        self.began, self.second = time.monotonic(), 0

    def model_comes(self) -> None:
        self.part.restore()

    def run(self, seconds: int, alive: bool = False, **values: Value | None) -> None:
        """Push a reading a second of each channel; None: the channel says nothing."""
        for i in range(self.second, self.second + seconds):
            time_ns = (START_S + i) * SECOND
            readings = []
            for name in ("temp", "press"):
                value = values.get(name, noise)
                if value is not None:
                    made = value(i)
                    bad = made is BAD
                    readings.append(
                        Reading(name, time_ns, math.nan if bad else made, Quality.BAD if bad else Quality.GOOD)
                    )
            self.asset.push(Batch("plc", readings, time_ns if alive else None, self._received(i), fresh=i == 0))
        self.second += seconds

    def _received(self, second: int) -> int:
        return round((self.began + second) * SECOND)

    def learns(self) -> None:
        """Take what it has for its baseline."""
        self.samples.flush()
        self.part.model.rescale()

    def after(self, seconds: float = 0.0, sources: dict[str, SourceFacts] | None = None) -> Condition:
        return self.asset.condition(sources or {"plc": SourceFacts()}, self.began + self.second - 1 + seconds)


BAD = object()
RNG = np.random.default_rng(0)


def noise(_: int) -> float:
    return float(RNG.normal())


@pytest.fixture
def machine(at_end: AtEnd, tmp_path: Path) -> Machine:
    return Machine(at_end, tmp_path)


@pytest.fixture
def decides(machine: Machine) -> Machine:
    """It decides on two channels."""
    machine.model_comes()
    machine.run(200)
    machine.learns()
    machine.run(20)
    assert machine.after().state is State.DECIDING
    return machine


def said(machine: Machine, seconds: float = 0.0, sources: dict[str, SourceFacts] | None = None) -> str:
    """What it says so many seconds after its last reading; whether that is a problem comes first."""
    found = machine.after(seconds, sources)
    return f"{'PROBLEM ' if found.problem else ''}{found.state.value}: {words(found)}"


def test_before_the_first_batch_its_channels_are_unread(machine: Machine) -> None:
    machine.model_comes()
    machine.second = 100
    assert "no reading of temp, press from source plc yet" in said(machine) and machine.after().problem


def test_without_a_model_it_waits_for_one(machine: Machine) -> None:
    machine.run(30)
    assert said(machine) == "waiting: no decision yet: waiting for a model" and machine.after().learns


def test_with_a_model_it_waits_for_its_baseline_with_its_progress(machine: Machine) -> None:
    machine.model_comes()
    machine.run(30)
    machine.samples.flush()
    assert said(machine).startswith("waiting: no decision yet: waiting for the baseline: ")
    assert " of 10 windows" in said(machine) and machine.after().learns


@pytest.mark.parametrize(
    ("press", "text"),
    [
        (lambda _: "12,5", "30 of 30 values of press are not numbers, e.g. '12,5'"),
        (lambda _: "on", "30 of 30 values of press are not numbers, e.g. 'on'"),
        (lambda _: math.inf, "30 of 30 values of press are not numbers, e.g. inf"),
        (lambda _: np.zeros(4, np.float32), "30 of 30 values of press are not numbers, e.g. an array of 4"),
        (lambda _: BAD, "tag press has been Bad since 09:42"),
        (lambda i: BAD if i % 3 else 1.0, "windows have more gaps than max_missing allows: "),
        (None, "no reading of press from source plc yet"),
    ],
)
def test_before_the_first_decision_it_names_the_channel(machine: Machine, press: Value | None, text: str) -> None:
    machine.model_comes()
    machine.run(30, press=press)
    assert text in said(machine) and said(machine).startswith("PROBLEM waiting: no decision yet: ")


@pytest.mark.parametrize(
    ("press", "text"),
    [
        (lambda _: "12,5", "60 of 60 values of press are not numbers, e.g. '12,5'"),
        (lambda _: BAD, "tag press has been Bad since 09:45"),
        (lambda i: BAD if i % 2 else 1.0, "windows have more gaps than max_missing allows"),
        (None, "no reading of press from source plc for "),
    ],
)
def test_once_it_decided_it_becomes_stale_and_decides_again(decides: Machine, press: Value | None, text: str) -> None:
    decides.run(60, press=press)
    assert text in said(decides) and said(decides).startswith("PROBLEM stale: no decision for "), said(decides)
    decides.run(20)
    assert said(decides) == "deciding: "


def test_a_source_that_says_nothing_makes_it_stale(decides: Machine) -> None:
    assert (
        said(decides, 200)
        == "PROBLEM stale: no decision for 3 min: no reading of temp, press from source plc for 3 min"
    )
    lost = {"plc": SourceFacts({"connection": "timed out"})}
    assert said(decides, 200, lost).endswith("source plc is not connected: timed out")
    ended = {"plc": SourceFacts(ended=True)}
    assert said(decides, 200, ended).endswith("source plc is at its end, temp, press come no more")


def test_a_tag_that_does_not_change_while_its_source_lives_is_no_problem(decides: Machine) -> None:
    decides.run(60, alive=True, press=None)
    assert said(decides) == "deciding: "


def test_times_out_of_range_are_named(machine: Machine) -> None:
    class Silent(Source):
        def run(self, *_: Any) -> None: ...

        def check(self, *_: Any) -> list[str]:
            return []

    source = HostedSource("plc", Silent(), ["temp"], Queue(10))
    late = (3438 - 1970) * 365 * 86_400 * SECOND
    source.emit([Reading("temp", late + i * SECOND, 20.0) for i in range(1440)])
    machine.model_comes()
    machine.run(30, temp=None)
    text = said(machine, 30, {"plc": source.facts()})
    assert "1,440 of 1,440 times of temp are out of range, e.g. 3437-" in text and text.startswith("PROBLEM")


@pytest.mark.parametrize(("score", "limit"), [(math.nan, 1.0), (1.0, math.nan), (1.0, 0.0), (1.0, -1.0)])
def test_a_score_or_limit_that_cannot_alarm_is_blind(decides: Machine, score: float, limit: float) -> None:
    serving = decides.part.model.serving
    assert serving is not None
    serving.threshold = limit
    if not math.isfinite(score):
        serving.scale.mean[:] = score
    decides.run(20)
    assert said(decides).startswith("PROBLEM blind: cannot alarm: ")


def test_recent_decisions_of_many_machines_take_no_more_memory_than_of_a_few() -> None:
    assert [recent_share(n) for n in (1, 4, 16, 200, 1000)] == [4096, 4096, 1024, 100, 100]


@pytest.mark.parametrize("press", [noise, lambda _: BAD], ids=["not decided on yet", "refused for gaps"])
def test_misspelt_labels_are_counted_where_they_are_read(at_end: AtEnd, tmp_path: Path, press: Value) -> None:
    machine = Machine(at_end, tmp_path, label=LabelConfig(source="plc", tag="state"))
    machine.model_comes()
    machine.run(1, alive=True, press=press)
    machine.asset.push(Batch("plc", [Reading("state", START_S * SECOND, "nromal")], START_S * SECOND, 1))
    found = machine.asset.status()["tag_labels"]
    assert found["unknown"] == 1 and found["example"].startswith("'nromal': expected one of normal, anomaly")
    machine.run(70, alive=True, press=press)
    found = machine.asset.status()["tag_labels"]
    assert machine.asset.status()["last"] is None
    assert found["unknown"] == 1 and "windows had labels that the model does not know, 'nromal'" in found["problem"]
    now = (START_S + 70) * SECOND
    machine.asset.push(Batch("plc", [Reading("state", now, "normal")], now, 2))
    assert machine.asset.status()["tag_labels"]["problem"] is None
