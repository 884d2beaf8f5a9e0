# SPDX-License-Identifier: Apache-2.0
"""Events withhold their windows until somebody decides; what people decide and shelve is durable and counted."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fedge_agent.samples import event_table
from fedge_agent.samples.event_book import EventBook
from fedge_agent.samples.sample_table import Sample
from fedge_agent.samples.store import SampleStore
from fedge_agent.samples.withholding import FAULT, FOREVER_NS, NORMAL, Hold, spans, trainable
from fedge_agent.types import AlertState, Event
from fedge_models.errors import DataError
from support.events import make_event

S = 10**9
KEY = "gw:m:pump:1"


class Site:
    """A book beside a sample store, as in the agent; no thread runs: `round` is one of its rounds."""

    def __init__(self, folder: Path) -> None:
        self.path, self.sent = folder / "samples.sqlite", list[Event]()
        self.open()

    def open(self) -> None:
        self.samples = SampleStore(self.path, {"m": 1000})
        self.book = EventBook(self.path, {"pump": 100 * S}, self.samples.tables, lambda _: 40, self.sent.append)

    def close(self) -> None:
        self.book.flush()
        self.book.stop()
        self.samples.stop()

    def again(self) -> None:
        """After a restart."""
        self.close()
        self.open()

    def round(self) -> None:
        self.book._round()

    def by_hand(self) -> EventBook:
        """The book as another process opens it."""
        return EventBook(self.path)

    def windows(self, *ends: int, y: float | None = None) -> None:
        for end in ends:
            self.samples.put(Sample("m", "pump", end * S, np.zeros(1, np.float32), y, False))
        self.samples.flush()

    def learnt(self) -> list[int]:
        """Ends of the windows that are learnt from."""
        rows = self.samples.rows("m", (1,), None)
        keep = trainable(rows.assets, rows.times, rows.y >= 0, self.book.holds(), {})
        return [int(t // S) for t in rows.times[keep]]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.close()


def test_windows_of_an_alarm_and_of_the_stretch_before_are_withheld_at_once_and_after_a_restart(site: Site) -> None:
    site.windows(300, 450, 500, 600, 700)
    site.book.begin("pump", KEY, 500 * S)
    assert site.learnt() == [300]
    site.again()
    assert site.learnt() == [300]
    site.book.note(make_event(KEY))
    site.book.end("pump", 650 * S)
    assert site.learnt() == [300, 700]
    site.round()
    assert site.book.status()["withheld"] == {KEY: 3}


def test_a_fault_stays_out_permanently_and_later_windows_are_learnt(site: Site) -> None:
    site.windows(300, 500, 600)
    site.book.note(make_event(KEY))
    site.book.begin("pump", KEY, 500 * S)
    site.round()
    other = site.by_hand()
    other.acknowledge(KEY, "anna", "bearing", FAULT)
    other.stop()
    site.round()
    site.windows(650)
    assert site.learnt() == [300] and site.book.status()["withheld"] == {}
    site.book.end("pump", 700 * S)
    site.windows(800)
    site.again()
    assert site.learnt() == [300, 800] and site.book.accepted == 0


def test_the_new_normal_becomes_data_also_while_the_event_is_open(site: Site) -> None:
    site.windows(300, 500)
    site.book.note(make_event(KEY))
    site.book.begin("pump", KEY, 500 * S)
    site.round()
    other = site.by_hand()
    other.acknowledge(KEY, "anna", "", FAULT)
    other.acknowledge(KEY, "ben", "the new tool", NORMAL)  # the last word counts, if it is this
    other.stop()
    site.round()
    site.windows(600)
    assert site.learnt() == [300, 500, 600] and site.book.is_accepted(KEY) and site.book.accepted == 1
    row = site.book.listed()[0][0]
    assert (row.who, row.verdict, row.cleared_ns) == ("ben", NORMAL, None)
    assert [n.action for n in site.book.listed()[1]] == ["ack", "accept"]


@pytest.mark.parametrize(("normal", "learnt"), [(True, [300, 450, 500, 600]), (False, [300])])
def test_a_closed_order_decides(site: Site, normal: bool, learnt: list[int]) -> None:
    site.windows(300, 450, 500, 600)
    site.book.begin("pump", KEY, 500 * S)
    site.book.end("pump", 610 * S)
    site.book.close_order("pump", 500 * S, 600 * S, normal)
    assert site.learnt() == learnt


def test_an_order_of_another_time_or_machine_decides_nothing(site: Site) -> None:
    site.windows(500)
    site.book.begin("pump", KEY, 500 * S)
    site.book.close_order("fan", 0, 600 * S, True)
    site.book.close_order("pump", 0, 399 * S, True)
    assert site.learnt() == []


def test_a_label_says_more_than_an_alarm(site: Site) -> None:
    site.windows(500)
    site.windows(510, y=0)
    site.book.begin("pump", KEY, 500 * S)
    assert site.learnt() == [510]


def test_windows_that_an_alarm_could_still_follow_are_not_learnt_yet() -> None:
    times = np.array([1, 2, 3, 900], np.int64)  # the clock was far ahead once
    names, unknown = np.array(["a", "a", "a", "a"]), np.zeros(4, np.bool_)
    assert trainable(names, times, unknown, [], {"a": (1, 3), "b": (0, 9)}).tolist() == [True, False, False, True]
    accepted = Hold("x", "k", "a", 2, 2, NORMAL)
    assert trainable(names, times, unknown, [accepted], {"a": (1, 3)}).tolist() == [True, True, False, True]


def test_an_alarm_within_min_gap_is_withheld_under_the_last_event(site: Site) -> None:
    site.windows(500, 700, 900)
    site.book.begin("pump", KEY, 500 * S)
    site.book.end("pump", 510 * S)
    site.book.begin("pump", KEY, 890 * S)
    assert site.learnt() == [700]
    site.book.begin("pump", "gw:m:pump:2", 895 * S)  # now there is an event: it takes the alarm over
    site.round()
    assert site.book.status()["withheld"] == {KEY: 1, "gw:m:pump:2": 1}


def test_a_restart_ends_what_it_does_not_find_open(site: Site) -> None:
    site.book.note(make_event(KEY))
    site.book.begin("pump", KEY, 500 * S)
    site.again()
    site.book.resume("pump", KEY, AlertState(1, False, time_ns=600 * S), lasts=False)
    site.round()
    site.windows(550, 700)
    assert site.learnt() == [700] and site.book.listed()[0][0].cleared_ns == 600 * S


def test_an_open_event_of_an_earlier_version_can_be_acknowledged(site: Site) -> None:
    site.book.resume("pump", KEY, AlertState(1, True, 2.5, 500 * S, 1, 510 * S, 3), lasts=True)
    site.round()
    site.book.acknowledge(KEY, "anna", "", FAULT)
    row = site.book.listed()[0][0]
    assert (row.key, row.severity, row.who, row.waits) == (KEY, "medium", "anna", True)


def test_what_does_not_exist_or_withholds_nothing_is_refused(site: Site) -> None:
    with pytest.raises(DataError, match="there is no event 'gw:m:pump:7'"):
        site.book.acknowledge("gw:m:pump:7", "anna", "", FAULT)
    site.book.note(make_event(KEY))
    site.round()
    with pytest.raises(DataError, match="did you mean"):
        site.book.comment("gw:m:pump:2", "anna", "x")
    with pytest.raises(DataError, match="withholds nothing"):
        site.book.acknowledge(KEY, "anna", "", NORMAL)


def test_a_lasting_alarm_displaces_nothing_that_is_normal(site: Site) -> None:
    site.windows(*range(1, 21))
    site.book.begin("pump", KEY, 500 * S)
    site.windows(*range(500, 550))
    site.book.flush()
    site.book._trim()
    assert site.learnt() == [*range(1, 21)] and site.book.trimmed == 40
    assert site.book.withheld() == {KEY: 10}  # the newest, in case somebody accepts them


def overlapping(site: Site) -> list[str]:
    """Twenty events, each of 5 s and with the 100 s before it; of one window a second."""
    keys = [f"gw:m:pump:{i}" for i in range(20)]
    site.windows(*range(301, 401))
    for i, key in enumerate(keys):
        site.book.withhold("pump", key, (400 + i) * S, (405 + i) * S)
    site.book.flush()
    return keys


def test_a_window_that_several_events_withhold_is_counted_once(site: Site) -> None:
    overlapping(site)
    site.book._share = lambda _: 400
    site.book._trim()
    status = site.book.status()
    assert site.book.trimmed == 0 and status["withheld_windows"] == 100
    assert status["withheld"]["gw:m:pump:0"] == 100 and status["withheld"]["gw:m:pump:19"] == 82
    site.book._share = lambda _: 360
    site.book._trim()
    assert site.book.trimmed == 10 and site.book.status()["withheld_windows"] == 90  # the newest
    assert site.by_hand().withheld()["gw:m:pump:0"] == 90


def test_what_was_accepted_with_one_of_several_events_is_kept_and_not_counted(site: Site) -> None:
    keys = overlapping(site)
    site.book.note(make_event(keys[-1]))
    site.book.flush()
    site.book.acknowledge(keys[-1], "anna", "", NORMAL)
    site.round()
    learnt = site.learnt()
    site.book._trim()
    assert learnt == site.learnt() == [*range(319, 401)]
    assert site.book.trimmed == 8 and site.book.status()["withheld_windows"] == 10  # of 18 that nobody accepted


def test_the_spans_of_holds_are_those_that_withhold_a_window() -> None:
    numbers = np.random.default_rng(3)
    for _ in range(200):
        start = numbers.integers(0, 40, 6)
        length = numbers.integers(-3, 15, 6)
        verdicts = numbers.choice(["", FAULT, NORMAL], 6)
        holds = [
            Hold(str(i), KEY, "pump", int(s), FOREVER_NS if n == 14 else int(s + n), str(v))
            for i, (s, n, v) in enumerate(zip(start, length, verdicts, strict=True))
        ]
        times = np.arange(70)
        kept = trainable(np.full(70, "pump"), times, np.zeros(70, np.bool_), holds, {})
        found = spans(holds)
        assert [t for t in times if any(a <= t <= b for a, b in found)] == list(times[~kept])
        assert all(b < c for (_, b), (c, _) in itertools.pairwise(found))


# shelves


def test_what_is_shelved_is_not_sent_but_counted_and_sent_at_the_end_if_it_lasts(site: Site) -> None:
    site.by_hand().shelve("pump", 3600, "anna", "cleaning")
    site.round()
    assert not site.book.note(make_event(KEY)) and not site.book.note(make_event(KEY, "raised"))
    assert site.book.note(make_event(KEY, "cleared"))
    assert not site.book.note(make_event("gw:m:pump:2"))
    assert site.book.note(make_event("gw:m:fan:1", asset="fan"))
    site.round()
    assert site.sent == [] and site.book.status()["suppressed"] == 3
    site.again()
    assert site.book.status()["suppressed"] == 3 and not site.book.note(make_event("gw:m:pump:2", "raised"))
    site.by_hand().shelve("pump", 0, "anna", "")
    site.round()
    assert [(e.key, e.state) for e in site.sent] == [("gw:m:pump:2", "opened")] and site.book.status()["shelved"] == []
    site.round()
    assert len(site.sent) == 1 and site.book.note(make_event("gw:m:pump:3"))


def test_a_severity_that_rose_on_the_shelf_is_sent_at_its_end(site: Site) -> None:
    assert site.book.note(make_event(KEY))
    site.book.shelve("pump", 60, "anna", "")
    site.round()
    assert not site.book.note(make_event(KEY, "raised", severity="high"))
    site.book.shelve("pump", 0, "anna", "")
    site.round()
    assert [(e.key, e.state, e.severity) for e in site.sent] == [(KEY, "raised", "high")]


def test_holds_older_than_every_stored_window_are_forgotten(site: Site) -> None:
    site.book.begin("pump", KEY, 500 * S)
    site.book.end("pump", 600 * S)
    site.book.begin("pump", "gw:m:pump:2", 900 * S)
    site.windows(700)
    site.book.flush()
    site.book._trim()
    site.round()
    assert [h.key for h in site.book.holds()] == ["gw:m:pump:2"]


def test_one_event_can_be_shelved(site: Site) -> None:
    site.book.note(make_event(KEY))
    site.book.shelve(KEY, 60, "anna", "")
    site.round()
    assert not site.book.note(make_event(KEY, "raised")) and site.book.note(make_event("gw:m:pump:2"))


@pytest.mark.parametrize(
    ("wall", "running", "restarts", "ends"),
    [
        (0, 30, False, False),
        (0, 61, False, True),
        (-86_400, 61, False, True),
        (-86_400, 30, False, False),
        (50 * 365 * 86_400, 1, False, False),  # NTP came after a start at 1970
        (61, 1, True, True),  # the machine was off, or the clock was set: better heard than missed
        (-86_400, 30, True, False),
        (-86_400, 61, True, True),
    ],
)
def test_a_shelf_ends_after_its_running_time_and_while_the_machine_is_off(
    site: Site, monkeypatch: pytest.MonkeyPatch, wall: float, running: float, restarts: bool, ends: bool
) -> None:
    site.book.shelve("pump", 60, "anna", "")
    site.round()
    now, ticks = time.time(), time.monotonic()
    if restarts:
        site.close()
    monkeypatch.setattr(time, "time", lambda: now + wall)
    if restarts:
        site.open()
    monkeypatch.setattr(time, "monotonic", lambda: ticks + running)
    site.round()
    assert site.book.note(make_event(KEY)) is ends
    assert bool(event_table.shelves(site.samples.tables._connection())) is not ends


def test_a_shelf_of_before_the_clock_was_put_right_lasts_over_a_restart(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = time.time()
    monkeypatch.setattr(time, "time", lambda: 100.0)
    site.book.shelve("pump", 3600, "anna", "")
    site.round()
    monkeypatch.setattr(time, "time", lambda: right)
    site.book._finish()
    site.again()
    assert not site.book.note(make_event(KEY))
    [shown] = site.book.status()["shelved"]
    assert right + 3500 < shown["until"] < right + 3601
