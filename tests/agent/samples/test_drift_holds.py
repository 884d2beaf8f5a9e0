# SPDX-License-Identifier: Apache-2.0
"""What a drift of inputs withholds from training, beside an alarm, over a restart, and where windows have labels."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import pytest
from fedge_agent.samples.event_book import EventBook
from fedge_agent.samples.withholding import FAULT, FOREVER_NS, NORMAL, Hold
from fedge_agent.types import Decision, Event
from fedge_models.errors import DataError
from support.at_end import AtEnd

KEY = "gw:m:pump:drift-k3x9q-1"
LAST = Decision("pump", "m", 3, 2000, math.nan, math.inf, "drift", 0.0, 0.0, "flow")
OPENED = Event(KEY, "opened", LAST, math.nan, "low", 1000, "drift", "flow moved", moved=4.0)
CLEARED = msgspec.structs.replace(OPENED, state="cleared", since_ns=3000)


class Book(EventBook):
    """A book of events on disk that is stopped at the end."""

    def close(self) -> None:
        """Write what waits."""
        self.stop()


def _book(at_end: AtEnd, folder: Path) -> Book:
    return at_end(Book(folder / "samples.sqlite"))


def _of(book: EventBook, key: str) -> list[Hold]:
    return [hold for hold in book.holds() if hold.key == key]


def test_an_alarm_that_ends_does_not_end_the_hold_of_a_drift_nor_a_drift_that_of_an_alarm(
    at_end: AtEnd, tmp_path: Path
) -> None:
    book = _book(at_end, tmp_path)
    book.withhold("pump", KEY, 1000, FOREVER_NS)
    book.begin("pump", "gw:m:pump:1", 1500)
    assert len(book.holds()) == 2
    book.end("pump", 1800)
    assert [h.open for h in _of(book, KEY)] == [True] and [h.open for h in _of(book, "gw:m:pump:1")] == [False]
    book.withhold("pump", KEY, 1000, 3000)
    assert [(h.start_ns, h.end_ns) for h in _of(book, KEY)] == [(1000, 3000)]


def test_a_drift_of_a_model_with_labels_withholds_nothing_and_can_be_accepted(at_end: AtEnd, tmp_path: Path) -> None:
    book = _book(at_end, tmp_path)
    book.note(OPENED)
    book.flush()
    assert book.holds() == [] and not book.is_accepted(KEY)
    with pytest.raises(DataError, match="there is no event"):
        book.acknowledge("gw:m:pump:drift-k3x9q-2", "me", "", NORMAL)
    book.acknowledge(KEY, "me", "new sensor", NORMAL)
    book._load()
    assert book.is_accepted(KEY) and [(h.start_ns, h.verdict) for h in book.holds()] == [(1000, NORMAL)]
    book.note(CLEARED)
    book.withhold("pump", KEY, 1000, 3000)
    book.flush()
    book._load()
    assert [(h.end_ns, h.verdict) for h in book.holds()] == [(3000, NORMAL)]  # the verdict stays
    assert [(row.key, row.cleared_ns, row.worst, row.verdict) for row in book.listed()[0]] == [
        (KEY, 3000, None, NORMAL)
    ]


def test_a_fault_is_no_new_normal(at_end: AtEnd, tmp_path: Path) -> None:
    book = _book(at_end, tmp_path)
    book.note(OPENED)
    book.withhold("pump", KEY, 1000, FOREVER_NS)
    book.flush()
    book.acknowledge(KEY, "me", "", FAULT)
    book._load()
    assert not book.is_accepted(KEY) and [h.verdict for h in book.holds()] == [FAULT]


def test_a_restart_lists_a_drift_that_the_book_had_not_stored_and_ends_what_is_over(
    at_end: AtEnd, tmp_path: Path
) -> None:
    book = _book(at_end, tmp_path)
    book.withhold("pump", "gw:m:pump:drift-bbbbb-1", 100, FOREVER_NS)  # of a drift that nobody knows any more
    book.resume_drifts("pump", {KEY: 1000}, 1000, "low")
    book.flush()
    assert [(row.key, row.opened_ns, row.cleared_ns) for row in book.listed()[0]] == [(KEY, 1000, None)]
    assert [h.end_ns for h in book.holds()] == [1000]
    book.resume_drifts("pump", {}, 5000, "low")  # it cleared just before the agent was killed
    book.flush()
    assert [(row.key, row.cleared_ns) for row in book.listed()[0]] == [(KEY, 5000)]
