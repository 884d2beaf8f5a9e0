# SPDX-License-Identifier: Apache-2.0
"""The OPC UA source and servers that lie about life: times that stand, samplers that stop, pauses, too many items."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from asyncua import ua
from fedge_agent.protocols.opcua.calls import Limits
from fedge_agent.protocols.opcua.monitor import NO_ROOM, Monitor
from fedge_agent.protocols.opcua.tags import parse
from fedge_agent.sources.opcua import OpcuaConfig, OpcuaSource
from fedge_agent.sources.opcua import _Memory as Memory
from fedge_agent.sources.opcua import _Run as Run
from fedge_agent.types import Quality, Reading
from fedge_models.errors import UnreachableError
from support.asyncua_plc import Plc
from support.opcua_source import RunningSource
from support.recording_host import RecordingHost
from support.waiting import LONGEST_S

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

OLD = datetime(1601, 1, 1, tzinfo=timezone.utc)
CONSTANT = datetime(2020, 2, 2, tzinfo=timezone.utc)


@pytest.fixture(scope="module")
def plc() -> Iterator[Plc]:
    made = Plc()
    yield made
    made.stop()


def url(plc: Plc) -> str:
    return f"opc.tcp://127.0.0.1:{plc.port}/"


def now() -> datetime:
    return datetime.now(timezone.utc)


def last(run: RunningSource, tag: str) -> Reading:
    return [r for r in run.host.readings if r.tag == tag][-1]


def arrives(run: RunningSource, tag: str, value: float) -> None:
    """Wait until this is the newest value."""
    run.host.wait(lambda: run.host.values(tag)[-1:] == [value])


def test_a_source_time_of_1601_gives_way_to_the_servers_and_then_to_stale(plc: Plc) -> None:
    plc.add("old", 0.0)
    plc.write("old", 1.0, stamp=OLD, server=now())
    with RunningSource(url(plc), ["ns=2;s=old"], max_still=1.5) as run:
        arrives(run, "ns=2;s=old", 1.0)
        for value in range(2, 8):
            plc.write("old", float(value), stamp=OLD, server=now())
            arrives(run, "ns=2;s=old", float(value))
        times = [r.time_ns / 1e9 for r in run.host.readings]
        assert times == sorted(set(times)) and abs(times[-1] - time.time()) < 60
        run.host.wait(lambda: "note: source time" in run.host.problems)
        text = run.host.problems["note: source time"]
        assert "the server's time is used instead of the source's: no usable source time: ns=2;s=old" in text
        assert run.host.counts["server_time_used"] == 7
        # nothing changes any more
        run.host.wait(lambda: last(run, "ns=2;s=old").quality is Quality.BAD)
        assert last(run, "ns=2;s=old").time_ns > times[-1] and math.isnan(float(last(run, "ns=2;s=old").value))
        run.host.wait(lambda: "still" in run.host.problems)
        assert "not known to be alive" in run.host.problems["still"] and "max_still" in run.host.problems["still"]
        plc.write("old", 99.0, stamp=OLD, server=now())
        run.host.wait(lambda: last(run, "ns=2;s=old").value == 99.0 and "still" not in run.host.problems)


def test_any_source_time_that_stands_while_values_change_gives_way(plc: Plc) -> None:
    plc.add("constant", 0.0)
    plc.write("constant", 0.0, stamp=CONSTANT, server=now())
    began, value = time.monotonic(), 0.0
    with RunningSource(url(plc), ["ns=2;s=constant"]) as run:
        while "note: source time" not in run.host.problems:
            value += 1
            assert time.monotonic() - began < LONGEST_S
            plc.write("constant", value, stamp=CONSTANT, server=now())
            arrives(run, "ns=2;s=constant", value)
        assert "stands still while values change" in run.host.problems["note: source time"]
        assert abs(last(run, "ns=2;s=constant").time_ns / 1e9 - time.time()) < 60


def test_a_source_time_that_moves_is_left_alone(plc: Plc) -> None:
    plc.add("right", 0.0)
    with RunningSource(url(plc), ["ns=2;s=right"], max_still=0.5) as run:
        arrives(run, "ns=2;s=right", 0.0)
        stamps = [CONSTANT + timedelta(seconds=i) for i in range(6)]
        for i, stamp in enumerate(stamps):
            plc.write("right", float(i + 1), stamp=stamp)
        run.host.wait(lambda: len(run.host.readings) == 7)
        heard = len(run.host.batches)
        run.host.wait(lambda: len(run.host.batches) > heard + 2)  # nothing but the heartbeat
    times = [r.time_ns // 10**9 for r in run.host.readings[1:]]
    assert times == [round(s.timestamp()) for s in stamps] and not run.host.problems


@pytest.mark.parametrize("off", [timedelta(hours=2), timedelta(hours=-2)], ids=str)
def test_a_tag_whose_clock_is_off_gets_the_servers_time_and_moves_no_other(plc: Plc, off: timedelta) -> None:
    right, wrong = (f"{name}-{'ahead' if off > timedelta() else 'behind'}" for name in ("right", "wrong"))
    plc.add(right, 0.0)
    plc.add(wrong, 0.0)
    began, value = time.monotonic(), 0.0
    with RunningSource(url(plc), [f"ns=2;s={right}", f"ns=2;s={wrong}"]) as run:
        while "note: source time" not in run.host.problems:
            value += 1
            assert time.monotonic() - began < LONGEST_S
            plc.write(right, value)
            arrives(run, f"ns=2;s={right}", value)
            plc.write(wrong, value, stamp=now() + off)  # alone in its batch
            arrives(run, f"ns=2;s={wrong}", value)
        plc.write(wrong, -1.0, stamp=now() + off)
        arrives(run, f"ns=2;s={wrong}", -1.0)
        side = "ahead of" if off > timedelta() else "behind"
        assert f"a source time 2 h {side} the server's clock: ns=2;s={wrong}" in run.host.problems["note: source time"]
        assert abs(last(run, f"ns=2;s={wrong}").time_ns / 1e9 - time.time()) < 30
        assert run.host.counts["times_implausible"] >= 1 and wrong in run.host.examples["times_implausible"]
        alive = [ns for _, ns in run.host.batches if ns is not None]
        assert all(abs(ns / 1e9 - time.time()) < 3600 for ns in alive)  # also before the difference is known to last


def test_a_tag_that_is_seconds_ahead_says_nothing_of_the_others(plc: Plc) -> None:
    plc.add("timely", 0.0)
    plc.add("fast", 0.0)
    began, value = time.monotonic(), 0.0
    with RunningSource(url(plc), ["ns=2;s=timely", "ns=2;s=fast"]) as run:
        run.host.wait(lambda: len(run.host.batches) > 5)  # the server's clock is known
        while "note: source time" not in run.host.problems:
            value += 1
            assert time.monotonic() - began < LONGEST_S
            plc.write("timely", value)
            plc.write("fast", value, stamp=now() + timedelta(seconds=9))
            arrives(run, "ns=2;s=fast", value)
            assert last(run, "ns=2;s=fast").time_ns / 1e9 < time.time() + 1
            assert max(ns for _, ns in run.host.batches if ns is not None) / 1e9 < time.time() + 1
        assert "s ahead of the server's clock: ns=2;s=fast" in run.host.problems["note: source time"]


def test_a_server_whose_sampling_stops_is_noticed(plc: Plc) -> None:
    plc.add("stuck", 1.0)
    with RunningSource(url(plc), ["ns=2;s=stuck"], max_age=1.0) as run:
        run.host.wait(lambda: run.host.values("ns=2;s=stuck") == [1.0])
        plc.stop_sampling()
        plc.write("stuck", 2.0)
        run.thread.join(LONGEST_S)
    assert "no longer sends the changes of ns=2;s=stuck" in str(run.error) and isinstance(run.error, UnreachableError)
    assert run.host.values("ns=2;s=stuck") == [1.0]


def test_a_value_that_does_not_change_is_read_and_nothing_is_wrong(plc: Plc) -> None:
    plc.add("set point", 1.0)
    with RunningSource(url(plc), ["ns=2;s=set point"], max_age=0.5, max_still=0.5) as run:
        run.host.wait(lambda: len(run.host.batches) > 5)
    assert run.host.values("ns=2;s=set point") == [1.0] and not run.host.problems and run.error is None


def test_a_status_that_stays_bad_is_reported_until_it_is_good(plc: Plc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedge_agent.sources.opcua.BAD_S", 0.5)
    plc.add("bad", 1.0)
    with RunningSource(url(plc), ["ns=2;s=bad"]) as run:
        run.host.wait(lambda: run.host.values("ns=2;s=bad") == [1.0])
        plc.write("bad", 1.0, plc.ua.StatusCodes.BadDeviceFailure)
        run.host.wait(lambda: "bad" in run.host.problems)
        assert "BadDeviceFailure: ns=2;s=bad" in run.host.problems["bad"]
        assert last(run, "ns=2;s=bad").quality is Quality.BAD
        plc.write("bad", 2.0)
        run.host.wait(lambda: "bad" not in run.host.problems)


def test_pauses_shorter_than_the_time_out_end_nothing(plc: Plc) -> None:
    plc.add("paused", 1.0)
    with RunningSource(url(plc), ["ns=2;s=paused"], timeout=30.0, max_age=30.0) as run:
        run.host.wait(lambda: bool(run.host.readings))
        for value in (2.0, 3.0):
            again = threading.Event()
            plc.block(again)
            threading.Timer(1.6, again.set).start()
            plc.write("paused", value)  # waits for the end of the pause
            arrives(run, "ns=2;s=paused", value)
    assert run.error is None and not run.host.problems


def test_a_longer_pause_ends_the_connection_in_words(plc: Plc) -> None:
    plc.add("hung", 1.0)
    again = threading.Event()
    with RunningSource(url(plc), ["ns=2;s=hung"], timeout=1.0, max_age=60.0) as run:
        run.host.wait(lambda: bool(run.host.readings))
        plc.block(again)
        run.thread.join(LONGEST_S)
        again.set()
    assert isinstance(run.error, UnreachableError)
    assert "stopped answering: nothing came for 1 s (timeout)" in str(run.error)


def test_more_tags_than_a_subscription_holds_come_over_several(plc: Plc) -> None:
    tags = [f"ns=2;s=T{i}" for i in range(8)]
    for i in range(8):
        plc.add(f"T{i}", float(i))
    before = len(plc.items())
    with plc.limited_items(4, a_call=3), RunningSource(url(plc), tags) as run:  # three tags beside each heartbeat
        run.host.wait(lambda: len(run.host.readings) == 8)
        assert plc.items()[before:] == [4, 4, 3] and not run.host.problems
        assert run.host.unsure  # what one subscription says is not said of the others
        for i in range(8):
            plc.write(f"T{i}", 10.0 + i)
        run.host.wait(lambda: len(run.host.readings) == 16)
    assert {r.tag: r.value for r in run.host.readings} == {f"ns=2;s=T{i}": 10.0 + i for i in range(8)}


def test_tags_for_which_there_is_no_room_are_counted_in_one_sentence(plc: Plc) -> None:
    for i in range(8):
        plc.add(f"R{i}", float(i))
    with plc.limited_items(1), RunningSource(url(plc), [f"ns=2;s=R{i}" for i in range(8)]) as run:
        run.host.wait(lambda: "room" in run.host.problems)
        text = run.host.problems["room"]
        assert f"no room for 8 more ({NO_ROOM[0]}); raise its limits, or read fewer tags" in text
        assert list(run.host.problems) == ["room"] and "the server has:" not in text
        run.host.wait(lambda: bool(run.host.batches))
    assert run.error is None


def test_responses_that_belong_together_are_one_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that has more than one response holds sends some tags later: they did not stay unchanged meanwhile."""
    host = RecordingHost(tmp_path)
    source = OpcuaSource("plc", OpcuaConfig(url="opc.tcp://127.0.0.1:1"))
    memory = Memory(source._evidence, source._spaces, source._read)
    run = Run(source._config, source.connector, source._sampling, memory, [], host)
    run._monitor = Monitor(None, Limits(), source._sampling, run._published)
    run._monitor.nodes, run._tags = [None, "a", "b"], [[], [parse("i=1")], [parse("i=2")]]

    def publish(handle: int, second: int, more: bool) -> None:
        value = ua.DataValue(ua.Variant(float(second)), SourceTimestamp=CONSTANT + timedelta(seconds=second))
        item = ua.MonitoredItemNotification(ClientHandle=handle, Value=value)
        told = ua.NotificationMessage(NotificationData=[ua.DataChangeNotification(MonitoredItems=[item])])
        run._published(ua.PublishResult(SubscriptionId=1, MoreNotifications=more, NotificationMessage=told))

    publish(1, 8, more=True)
    assert host.batches == []
    publish(2, 1, more=False)
    [(readings, alive)] = host.batches
    assert [(r.tag, r.value) for r in readings] == [("i=1", 8.0), ("i=2", 1.0)] and alive is not None
    monkeypatch.setattr("fedge_agent.sources.opcua.MOST_AT_ONCE", 2)
    publish(1, 9, more=True)
    publish(2, 2, more=True)  # it is ahead of us: what there is must do, and says nothing of the rest
    assert len(host.batches) == 2 and host.batches[1][1] is None
