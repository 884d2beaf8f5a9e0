# SPDX-License-Identifier: Apache-2.0
"""A fault in what a source sends afterwards is an event of its time, and changes nothing of now."""

from __future__ import annotations

from pathlib import Path

import pytest
from fedge_agent.config.schema import AssetConfig, ModelConfig, TagConfig, Training, When
from fedge_agent.durable.spool import Spool
from fedge_agent.federation.participant import Participant
from fedge_agent.health import Latency
from fedge_agent.machines.asset import Asset
from fedge_agent.samples.event_book import EventBook
from fedge_agent.samples.store import SampleStore
from fedge_agent.types import AlertState, Batch, Event, Reading
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from fedge_models.system.settings import Seconds
from support.at_end import AtEnd

S = 10**9
START = 1_700_000_000
CARD = Card("anomaly", (Channel("a"),), WindowSpec(1.0, 4, 1), ("mean", "std"))
LEARNT = 300  # seconds until it decides
GONE = range(340, 400)  # seconds in which nothing came


class Machine:
    """An asset at a source that says what is unchanged; a second of its time is one of the monotonic clock."""

    def __init__(self, at_end: AtEnd, folder: Path) -> None:
        folder.mkdir()
        (folder / "m.onnx").write_bytes(zoo.autoencoder(CARD, 2, (1,)).SerializeToString())
        samples, spool = at_end(SampleStore(folder / "s", {"m": 5000})), at_end(Spool(folder / "spool"))
        self.book = EventBook(folder / "book")
        at_end(self.book)
        model = ModelConfig(file=folder / "m.onnx", training=Training(min_samples=64))
        part = Participant("m", model, folder / "models", samples, spool, None, None, lambda *_: None, lambda _: False)
        part.restore()
        tags = {"a": TagConfig(source="plc", tag="a")}
        config = AssetConfig(model="m", channels=tags, when=When(for_windows=3, min_gap=Seconds(0)))
        self.events: list[Event] = []
        self.asset = Asset(
            "gw", "pump", config, part, samples, Latency(), AlertState(), lambda e, _: self.raised(e), events=self.book
        )
        self.live(range(LEARNT))
        samples.flush()
        part.model.rescale()
        self.live(range(LEARNT, GONE.start))
        assert self.asset.decisions[-1][0].threshold < 1000 and self.events == []

    def raised(self, event: Event) -> None:
        self.book.note(event)
        self.events.append(event)

    def live(self, seconds: range, high: range = range(0)) -> None:
        for i in seconds:
            self.hear(i, [Reading("a", (START + i) * S, value(i, high))])

    def silence(self, seconds: range) -> None:
        for i in seconds:
            self.hear(i, [])

    def hear(self, second: int, readings: list[Reading]) -> None:
        self.asset.push(Batch("plc", readings, (START + second) * S, (1000 + second) * S))

    def later(self, at: int, seconds: range, high: range = range(0), parts: int = 1) -> None:
        """Send a history, the newest part first; at: the second in which it comes."""
        readings = [Reading("a", (START + i) * S, value(i, high)) for i in seconds]
        for k in reversed(range(parts)):
            self.asset.push(Batch("plc", readings[k::parts], None, (1000 + at) * S, history=True))

    def said(self) -> list[tuple[str, int]]:
        return [(e.state, e.decision.time_ns // S - START) for e in self.events if e.state != "raised"]


def value(i: int, high: range) -> float:
    """Steps: a value that is held looks as normal as they do."""
    return 20 + 0.1 * (i // 9 % 3) + (60 if i in high else 0)


@pytest.fixture
def machine(at_end: AtEnd, tmp_path: Path) -> Machine:
    return Machine(at_end, tmp_path / "one")


@pytest.mark.parametrize("parts", [1, 7])
def test_a_fault_in_a_history_is_an_event_of_its_time_and_nothing_of_now_is_disturbed(
    machine: Machine, at_end: AtEnd, tmp_path: Path, parts: int
) -> None:
    alone = Machine(at_end, tmp_path / "other")
    for one in (machine, alone):
        one.silence(GONE)
        if one is machine:
            one.later(GONE.stop, GONE, range(370, 378), parts)
        one.live(range(GONE.stop, GONE.stop + 20))
    [opened, cleared] = machine.events
    assert (opened.state, cleared.state) == ("opened", "cleared") and opened.key == cleared.key
    assert START + 370 <= opened.since_ns // S <= START + 373 and 378 <= cleared.since_ns // S - START <= 382
    assert alone.events == [] and machine.asset.checkpoint()
    seen = [[(d.time_ns, d.score) for d, _ in one.asset.decisions] for one in (machine, alone)]
    assert seen[0] == seen[1]
    status, other = machine.asset.status(), alone.asset.status()
    assert status["counters"]["history"] == 57 and status["events"] == 1
    assert status["counters"]["windows"] == other["counters"]["windows"] + 57
    assert status["counters"]["late"] == status["counters"]["times_implausible"] == 0
    assert status["alert"] == other["alert"] and machine.asset.condition({}, 1420.0) == alone.asset.condition({}, 1420)
    hold = machine.book.holds()[-1]
    assert hold.key == opened.key and not hold.open and hold.end_ns < cleared.decision.time_ns


def test_a_history_that_is_sent_twice_gives_the_same_key(machine: Machine) -> None:
    for at in (GONE.stop, GONE.stop + 20):
        machine.later(at, GONE, range(370, 378))
        machine.live(range(at, at + 20))
    assert len(machine.events) == 4 and len({e.key for e in machine.events}) == 1
    assert machine.book.read_again == 1


def test_a_fault_at_the_end_of_a_history_goes_on_as_the_alert_of_now(machine: Machine) -> None:
    machine.silence(GONE)
    machine.later(GONE.stop, GONE, range(390, 500))
    machine.silence(range(GONE.stop, 403))
    machine.live(range(403, 430), range(390, 410))
    states = [s for s, _ in machine.said()]
    assert states == ["opened", "cleared"] and len({e.key for e in machine.events}) == 1
    assert machine.said()[0][1] < GONE.stop and machine.said()[1][1] > 410
    machine.live(range(430, 460), range(440, 450))
    assert [s for s, _ in machine.said()] == ["opened", "cleared"] * 2 and len({e.key for e in machine.events}) == 2


def test_beside_an_open_alert_the_machine_stays_in_alarm_when_a_fault_of_a_history_is_over(machine: Machine) -> None:
    machine.live(range(GONE.start, 350), range(343, 600))
    machine.silence(range(350, GONE.stop))
    machine.later(GONE.stop, range(350, 400), range(370, 378))
    machine.later(GONE.stop, range(392, 400), range(392, 400))
    machine.live(range(GONE.stop, 420), range(343, 600))
    machine.live(range(420, 440))
    live = machine.events[0].key
    past = [e for e in machine.events if e.key != live]
    assert [e.state for e in past if e.state != "raised"] == ["opened", "cleared", "opened", "cleared"]
    assert all(e.alert and e.beside for e in past)  # the outputs show what is now
    last = machine.events[-1]
    assert (last.key, last.state, last.alert) == (live, "cleared", False)


def test_what_a_history_ends_with_is_the_value_of_now_if_the_tag_was_not_heard_of_since(machine: Machine) -> None:
    machine.silence(GONE)
    machine.later(GONE.stop, GONE, range(380, 900))
    machine.silence(range(GONE.stop, 420))
    assert machine.asset.newest is not None
    assert machine.asset.newest.window.values[0].tolist() == pytest.approx([value(399, range(380, 900))] * 4)
    assert machine.asset.status()["counters"]["late"] == 0 and [s for s, _ in machine.said()] == ["opened"]
    assert machine.asset.status()["alert"]["opened"]


def test_a_history_without_end_is_decided_on_while_it_comes(machine: Machine) -> None:
    machine.silence(GONE)
    for i in range(40):
        machine.later(GONE.stop + i, range(340 + i, 341 + i), range(355, 365))
        machine.silence(range(GONE.stop + i, GONE.stop + i + 1))
    assert [s for s, _ in machine.said()] == ["opened", "cleared"]


def test_what_waits_is_decided_on_when_the_agent_ends(machine: Machine) -> None:
    machine.later(GONE.stop, GONE, range(370, 378))
    assert machine.events == []
    machine.asset.judge_history(1000.0 + GONE.stop, all_of_it=True)
    assert [s for s, _ in machine.said()] == ["opened", "cleared"]
