# SPDX-License-Identifier: Apache-2.0
"""What people found of alarms: closing codes, labels, and their decisions; a label that is replaced is undone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fedge_agent.samples import closings
from fedge_agent.samples.event_book import EventBook
from fedge_agent.samples.label_book import LabelBook, Subject
from fedge_agent.types import Decision, Event, Label
from fedge_models.graph.card import Card, Channel, WindowSpec

S = 1_000_000_000
T0 = 1_700_000_000 * S
CARD = Card("anomaly", (Channel("a"),), WindowSpec(1, 10, 10), ("mean",))


class Site:
    """Events and labels of one machine; no thread runs."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "samples.sqlite"
        self.open()

    def open(self) -> None:
        self.events = EventBook(self.path)
        self.labels = LabelBook(self.path, {"pump": Subject("m", lambda: CARD)}, lambda *_: None)

    def close(self) -> None:
        self.labels.stop()
        self.events.stop()

    def alarm(self, at: int, worst: float = 3.0, limit: float = 1.5, learnt: float = 0.0) -> str:
        """An alarm that lasted a minute; its key."""
        decision = Decision("pump", "m", 1, T0 + at * S, worst, limit, "anomaly", 0.0, 0.0, learnt=learnt)
        opened = Event(f"gw:m:pump:{at}", "opened", decision, worst)
        self.events.note(opened)
        self.events.begin("pump", opened.key, T0 + at * S)
        self.events.end("pump", T0 + (at + 60) * S)
        self.events.flush()
        return opened.key

    def say(self, start: int, end: int, value: str, origin: str = "mes") -> None:
        self.labels.put(Label("pump", T0 + start * S, T0 + end * S, value, origin))

    def found(self) -> list[tuple[str, str, float]]:
        self.labels.look_at_closings()
        return [
            (c.key.rpartition(":")[2], "fault" if c.fault else "false", c.ratio) for c in self.labels.closings["pump"]
        ]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.close()


def test_a_closing_code_says_what_an_alarm_was(site: Site) -> None:
    site.alarm(0)
    site.alarm(1000, worst=6.0)
    site.alarm(2000)
    assert site.found() == []
    site.say(0, 60, "normal")
    site.say(1000, 1060, "anomaly")
    assert site.found() == [("0", "false", 2.0), ("1000", "fault", 4.0)]
    site.close()
    site.open()  # a restart
    assert site.found() == [("0", "false", 2.0), ("1000", "fault", 4.0)]


def test_a_label_that_is_replaced_is_undone(site: Site) -> None:
    site.alarm(0)
    site.say(0, 60, "normal")
    assert site.found() == [("0", "false", 2.0)]
    site.say(0, 60, "anomaly", "hand")  # a person believes otherwise
    assert site.found() == [("0", "fault", 2.0)]
    site.say(0, 60, "normal")  # the MES is believed less
    assert site.found() == [("0", "fault", 2.0)]


def test_a_label_of_a_year_is_one_word(site: Site) -> None:
    for at in range(0, 5000, 1000):
        site.alarm(at)
    site.say(0, 10_000, "normal", "hand")
    assert site.found() == [("0", "false", 2.0)]


def test_a_label_of_another_time_or_from_a_tag_says_nothing_of_an_alarm(site: Site) -> None:
    site.alarm(1000)
    site.say(0, 900, "normal")
    site.say(1010, 2000, "normal")
    site.say(900, 2000, "normal", "plc")
    assert site.found() == []


def test_without_a_label_what_people_decided_counts(site: Site) -> None:
    faulty, normal = site.alarm(0), site.alarm(1000)
    site.events.acknowledge(faulty, "me", "", "fault")
    site.events.acknowledge(normal, "me", "", "normal")
    assert site.found() == [("0", "fault", 2.0), ("1000", "false", 2.0)]
    site.say(1000, 1060, "worm")  # no such label
    assert site.found() == [("0", "fault", 2.0), ("1000", "false", 2.0)]


def test_a_fault_is_compared_with_the_limit_that_was_learnt_however_it_was_moved(site: Site) -> None:
    site.alarm(0, worst=6.0, limit=4.0, learnt=1.5)  # codes and a new run had raised it
    site.say(0, 60, "anomaly")
    assert site.found() == [("0", "fault", 4.0)]


def test_alarms_are_not_read_again_for_labels_that_say_nothing_of_them(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.alarm(0)
    assert site.found() == []
    read = []
    alarms = closings.alarms
    monkeypatch.setattr(closings, "alarms", lambda db: read.append(1) or alarms(db))  # type: ignore[func-returns-value]
    site.say(0, 60, "normal", "plc")
    site.labels.put(Label("pump", T0, T0 + 60 * S, "anomaly", "inspection", "P7"))
    assert site.found() == [] and read == []
    site.say(0, 60, "normal")
    assert site.found() == [("0", "false", 2.0)] and read == [1]


def test_an_alarm_that_becomes_worse_is_read_again(site: Site) -> None:
    site.alarm(0)
    site.say(0, 60, "anomaly")
    assert site.found() == [("0", "fault", 2.0)]
    site.alarm(0, worst=9.0)  # raised
    assert site.found() == [("0", "fault", 6.0)]
