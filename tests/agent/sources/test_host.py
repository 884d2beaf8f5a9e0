# SPDX-License-Identifier: Apache-2.0
"""A source's thread: how long it waits before it tries again, and what ends the waiting."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from fedge_agent.sources import host
from fedge_agent.sources.host import (
    FIRST_WAIT_S,
    GOOD_RUN_S,
    LONGEST_WAIT_S,
    MAX_BYTES,
    PERSON_WAIT_S,
    HostedSource,
    Queue,
    Retries,
)
from fedge_agent.types import Batch, Reading, Source, SourceHost
from fedge_models.errors import ConfigError, FedgeError, IdentityError, UnreachableError
from fedge_models.system import times
from support.waiting import LONGEST_S, until

JITTER = 0.25  # of each wait, both ways


class Failing(Source):
    """A source that fails with one error after the other, and then delivers."""

    def __init__(self, errors: Iterator[Exception]) -> None:
        self._errors = errors

    def run(self, tags: Sequence[str], host: SourceHost) -> None:
        for error in self._errors:
            raise error
        host.emit([Reading("a", 1, 1.0)])
        host.stop.wait(30)

    def check(self, tags: Sequence[str]) -> list[str]:
        return []


def waits(*errors: Exception, ran_s: float = 0.0) -> list[float]:
    """Seconds that a source waits after each of the errors."""
    retries = Retries()
    return [retries.wait_after(error, ran_s) for error in errors]


def test_it_runs_again_after_every_kind_of_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FIRST_WAIT_S", "LONGEST_WAIT_S", "PERSON_WAIT_S"):
        monkeypatch.setattr(host, name, 0.001)
    errors = [UnreachableError("the cable is out"), ConfigError("no such tag"), ZeroDivisionError("a fault of ours")]
    queue = Queue(8)
    source = HostedSource("plc", Failing(iter(errors)), [], queue)
    source.start()
    batch = queue.get(LONGEST_S)
    assert batch is not None and batch.fresh
    assert source.status()["reconnects"] == 3 and "ZeroDivisionError" in source.status()["problems"]["connection"]
    source.join(LONGEST_S)
    assert "source-plc" not in {thread.name for thread in threading.enumerate()}


def batch(source: str, at: int, value: float | None = None) -> Batch:
    readings = [] if value is None else [Reading("a", at, value)]
    return Batch(source, readings, at, 0)


def test_a_source_that_floods_delays_and_displaces_only_itself() -> None:
    queue = Queue(10)
    queue.put(batch("slow", 1, 1.0))
    for i in range(1000):
        queue.put(batch("flood", i, float(i)))
    queue.put(batch("slow", 2, 2.0))
    assert queue.dropped_of == {"flood": 992} and queue.dropped == 992 and len(queue) == 10
    assert queue.full_for("flood") and not queue.full_for("slow")
    first = [queue.get(0) for _ in range(4)]
    assert [b.source for b in first if b] == ["slow", "flood", "slow", "flood"]
    assert first[1] is not None and [r.value for r in first[1].readings] == [992.0]


def test_pictures_that_flood_displace_only_pictures() -> None:
    queue, picture = Queue(100), np.zeros(MAX_BYTES // 4, np.uint8)
    queue.put(batch("plc", 1, 1.0))
    for i in range(9):
        queue.put(Batch("camera", [Reading("*", i, picture)], i, 0))
    assert queue.dropped_of == {"camera": 5} and len(queue) == 5
    assert queue.full_for("camera") and not queue.full_for("plc")


def test_stopping_does_not_wait_for_the_next_attempt() -> None:
    source = HostedSource("plc", Failing(iter([ConfigError("no such tag")])), [], Queue(8))
    source.start()
    until(lambda: source.status()["reconnects"])
    source.join(PERSON_WAIT_S / 4)
    assert "source-plc" not in {thread.name for thread in threading.enumerate()}


def test_a_long_run_starts_the_waits_from_the_first() -> None:
    away = UnreachableError("the cable is out")
    assert all(seconds <= FIRST_WAIT_S * (1 + JITTER) for seconds in waits(away, away, away, ran_s=GOOD_RUN_S + 1))


def test_a_source_that_is_away_is_tried_again_soon_and_then_less_often() -> None:
    found = waits(*[UnreachableError("the cable is out")] * 5)
    for seconds, middle in zip(found, [FIRST_WAIT_S, 2.0, LONGEST_WAIT_S, LONGEST_WAIT_S, LONGEST_WAIT_S], strict=True):
        assert middle * (1 - JITTER) <= seconds <= middle * (1 + JITTER)


@pytest.mark.parametrize("error", [ConfigError("no such tag"), IdentityError("not trusted"), FedgeError("a new kind")])
def test_a_source_that_only_a_person_can_mend_is_not_tried_again_at_once(error: FedgeError) -> None:
    first, again, healing = waits(error, error, UnreachableError("restarts"))
    for seconds in (first, again):
        assert PERSON_WAIT_S * (1 - JITTER) <= seconds <= PERSON_WAIT_S * (1 + JITTER)
    assert healing <= LONGEST_WAIT_S * (1 + JITTER)


@pytest.mark.parametrize("time_ns", [-1, -11_644_473_600 * 10**9, times.latest_ns(), 46_362_000_000 * 10**9, 2**70])
def test_a_time_outside_of_our_days_is_counted_and_reported_and_stops_no_other(time_ns: int) -> None:
    """A time of 1601 (OPC UA's zero) or of 3438 (milliseconds taken for seconds) overflows what comes behind."""
    queue = Queue(8)
    source = HostedSource("meter", Failing(iter(())), [], queue)
    source.emit([Reading("a", time_ns, 1.0), Reading("b", 5, 2.0)])
    batch = queue.get(LONGEST_S)
    assert batch is not None and [r.tag for r in batch.readings] == ["b"]
    status = source.status()
    assert status["counts"] == {"time_out_of_range": 1} and "tag a: its time" in status["problems"]["time"]
    source.emit([Reading("a", 6, 1.0)])
    assert source.status()["problems"] == {}


def test_a_source_that_is_held_waits_alone_and_nothing_of_it_is_lost() -> None:
    queue = Queue(10)
    for i in range(3):
        queue.put(batch("log", i, float(i)))
        queue.put(batch("plc", i, float(i)))
    queue.hold({"log": "pump waits for its limit"})
    assert len(queue) == 3 and queue.count("log") == 3  # what waits for the main thread
    assert [found.source for found in iter(lambda: queue.get(0), None)] == ["plc"] * 3
    queue.hold({})
    late = list(iter(lambda: queue.get(0), None))
    assert [found.readings[0].value for found in late] == [0.0, 1.0, 2.0]
    assert all(found.received_ns > 0 for found in late)  # the wait is no latency of the decision


def test_a_long_batch_of_a_held_source_stops_after_two_pieces_and_ends_when_it_goes_on() -> None:
    queue = Queue(10)
    queue.hold({"log": "pump waits for its limit"})
    source = HostedSource("log", Failing(iter(())), [], queue)
    assert source.held() and source.status()["held"] == "pump waits for its limit"
    thread = threading.Thread(target=source.store, args=([Reading("a", i, float(i)) for i in range(1000)],))
    thread.start()
    until(lambda: queue.count("log") == host.AHEAD)
    queue.put(batch("plc", 1, 1.0))
    found = queue.get(0)
    assert found is not None and found.source == "plc" and queue.count("log") == host.AHEAD
    queue.hold({})
    values: list[object] = []
    while len(values) < 1000 and (found := queue.get(LONGEST_S)) is not None:
        values += [reading.value for reading in found.readings]
    assert values == [float(i) for i in range(1000)]
    thread.join(LONGEST_S)
