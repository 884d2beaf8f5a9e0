# SPDX-License-Identifier: Apache-2.0
"""A node whose clock is off has the server's time; a PLC whose clock is off for all nodes keeps its own."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from itertools import pairwise

import pytest
from asyncua import ua
from fedge_agent.protocols.opcua.evidence import Evidence, Stamp
from fedge_agent.protocols.opcua.skew import SOUND_AGAIN, words

T = datetime(2026, 3, 1, tzinfo=timezone.utc)
T_NS = round(T.timestamp()) * 10**9
S = 10**9


def data(value: float, source: float, server: float | None = None) -> ua.DataValue:
    """A value with the source's time, and the server's, in seconds."""
    given = None if server is None else T + timedelta(seconds=server)
    return ua.DataValue(ua.Variant(value), SourceTimestamp=T + timedelta(seconds=source), ServerTimestamp=given)


class Server:
    """A server whose nodes change once a second, each with a clock of its own."""

    def __init__(self, **off: float) -> None:
        self.evidence, self.off, self.clock = Evidence(30.0), off, 0.0

    def run(self, first: int, last: int, gives_time: bool = False) -> dict[str, list[Stamp]]:
        """What comes of each node from one second to another."""
        found: dict[str, list[Stamp]] = {name: [] for name in self.off}
        for i in range(first, last):
            now = T + timedelta(seconds=i + self.clock)
            self.evidence.hear(ua.DataValue(ua.Variant(now)), float(i))
            for name, off in self.off.items():
                made = data(float(i), i + off, i + self.clock if gives_time else None)
                found[name].append(self.evidence.take(name, made, float(i)))
        return found


def offsets(stamps: list[Stamp], first: int = 0) -> list[float]:
    return [(s.time_ns - T_NS) / S - i for i, s in enumerate(stamps, first)]


@pytest.mark.parametrize("off", [-864_000.0, -7200.0, -45.0, 3.5, 5.0, 29.0, 45.0, 7200.0, 864_000.0])
@pytest.mark.parametrize("gives_time", [False, True])
def test_a_node_with_another_clock_gets_the_servers_time(off: float, gives_time: bool) -> None:
    server = Server(good=0.0, wrong=off, other=1.5)
    found = server.run(0, 20, gives_time)
    assert offsets(found["wrong"])[5:] == [0.0] * 15
    assert offsets(found["good"]) == [0.0] * 20 and offsets(found["other"]) == [1.5] * 20
    assert server.evidence.faults() == {words(round(off * S)): ["wrong"]}
    assert all(s.replaced and s.wrong_ns is not None for s in found["wrong"][5:])


def test_a_time_ahead_of_the_server_is_wrong_at_once_and_none_is_ever_used() -> None:
    server = Server(good=0.0, wrong=7200.0)
    assert offsets(server.run(0, 5)["wrong"]) == [0.0] * 5


@pytest.mark.parametrize("off", [5.0, 29.0])
def test_a_clock_that_runs_ahead_is_noticed_with_its_first_time(off: float) -> None:
    server = Server(good=0.0, other=0.0, wrong=0.0)
    server.run(0, 10)
    server.off["wrong"] = off
    assert offsets(server.run(10, 20)["wrong"], 10) == [0.0] * 10


@pytest.mark.parametrize("off", [-29.0, -5.0, 1.9])
def test_a_clock_that_is_a_little_off_is_used_as_it_is(off: float) -> None:
    """What is behind may have been delayed."""
    server = Server(good=0.0, slow=off)
    assert offsets(server.run(0, 20)["slow"]) == pytest.approx([off] * 20) and server.evidence.faults() == {}


@pytest.mark.parametrize("repeated", [False, True])  # some servers repeat the source's time as their own
@pytest.mark.parametrize("off", [5.0, 29.0, 3600.0])
def test_values_that_come_together_keep_the_steps_between_their_times(off: float, repeated: bool) -> None:
    server = Server(good=0.0)
    times = []
    for i in range(20):
        server.run(i, i + 1)
        for k in range(1, 11):
            at = i - 1 + k / 10 + off
            stamp = server.evidence.take("wrong", data(i + k / 10, at, at if repeated else None), float(i))
            times.append((stamp.time_ns - T_NS) / S)
    steps = [b - a for a, b in pairwise(times[20:])]  # but for the first publishings
    assert steps == pytest.approx([0.1] * len(steps), abs=1e-6) and times[-1] == pytest.approx(19.0, abs=1e-6)


@pytest.mark.parametrize("off", [5.0, 3600.0, -3600.0])
def test_until_when_nothing_changed_is_said_by_the_clock_that_the_nodes_agree_on(off: float) -> None:
    alone, beside = Server(a=off, b=off), Server(a=0.0, b=off)
    assert alone.evidence.clock.until(0.0) is None
    alone.run(0, 20)
    beside.run(0, 20)
    found = [made.evidence.clock.until(19.0) for made in (alone, beside)]
    assert found == [T_NS + round((19 + off) * S), T_NS + 19 * S]


def test_a_clock_that_drifts_for_all_nodes_alike_is_followed() -> None:
    server = Server(a=5.0, b=5.0)
    for i in range(0, 2000, 10):
        server.off = dict.fromkeys(server.off, 5.0 + i / 100)
        assert offsets(server.run(i, i + 10)["b"], i) == pytest.approx([5.0 + i / 100] * 10)
    assert server.evidence.faults() == {}


def test_one_wrong_time_is_replaced_and_is_no_fault_of_the_node() -> None:
    server = Server(a=0.0, b=0.0)
    server.run(0, 10)
    server.off["b"] = 86_400.0
    [wrong] = server.run(10, 11)["b"]
    server.off["b"] = 0.0
    assert (wrong.time_ns, wrong.wrong_ns) == (T_NS + 10 * S, T_NS + 86_410 * S)
    assert offsets(server.run(11, 20)["b"], 11) == [0.0] * 9 and server.evidence.faults() == {}


@pytest.mark.parametrize("off", [-3600.0, 3600.0])
def test_a_plc_whose_clock_differs_for_all_nodes_keeps_its_times(off: float) -> None:
    server = Server(a=off, b=off + 2.0, c=off - 1.0)
    found = server.run(0, 20)
    assert offsets(found["b"]) == [off + 2.0] * 20 and server.evidence.faults() == {}


@pytest.mark.parametrize(("frame", "step"), [(0.0, -3600.0), (0.0, 3600.0), (3600.0, 3600.0), (-7200.0, 3600.0)])
def test_a_plc_whose_clock_is_set_stays_on_the_time_that_it_had(frame: float, step: float) -> None:
    """By summer time, say: no window is lost, and status names the difference."""
    server = Server(a=frame, b=frame, c=frame)
    server.run(0, 10)
    for name in server.off:
        server.off[name] += step
    found = server.run(10, 40)
    for stamps in found.values():
        assert offsets(stamps, 10)[5:] == [frame] * 25
    assert server.evidence.faults() == {words(round((frame + step) * S)): ["a", "b", "c"]}


def test_a_plc_whose_clock_is_put_right_is_followed() -> None:
    server = Server(a=3600.0, b=3600.0)
    server.run(0, 10)
    server.off = {"a": 0.0, "b": 0.0}
    found = server.run(10, 20)
    assert offsets(found["a"], 10) == offsets(found["b"], 10) == [0.0] * 10 and server.evidence.faults() == {}


@pytest.mark.parametrize("off", [-3600.0, 3600.0])
def test_the_server_may_set_its_clock(off: float) -> None:
    server = Server(a=0.0, b=0.0)
    server.run(0, 10)
    server.clock = off
    found = server.run(10, 30)
    assert offsets(found["a"], 10) == [0.0] * 20 and server.evidence.faults() == {}


def test_a_node_whose_clock_is_put_right_gets_its_own_time_back() -> None:
    server = Server(good=0.0, wrong=7200.0)
    server.run(0, 10)
    server.off["wrong"] = 0.5
    found = server.run(10, 10 + SOUND_AGAIN + 2)["wrong"]
    assert offsets(found, 10)[0] == 0.0 and offsets(found, 10)[-1] == 0.5
    assert server.evidence.faults() == {}


def test_a_value_of_long_ago_keeps_its_time_and_says_nothing_of_the_clock() -> None:
    server = Server(good=0.0)
    server.run(0, 5)
    stamp = server.evidence.take("old", data(7.0, -864_000.0), 5.0)
    assert stamp == Stamp(T_NS - 864_000 * S, False, False, sound=False) and server.evidence.faults() == {}


def test_a_backlog_keeps_its_times() -> None:
    """What a device stored while its link was down comes at once."""
    server = Server(good=0.0, late=0.0)
    server.run(0, 5)
    stamps = [server.evidence.take("late", data(float(i), 4.0 - 3600 + i), 5.0) for i in range(20)]
    assert [s.time_ns for s in stamps] == [T_NS + (4 - 3600 + i) * S for i in range(20)]
    assert not any(s.sound or s.replaced for s in stamps)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (45.2, "45 s ahead of"),
        (-119.8, "2 min behind"),
        (3600, "60 min ahead of"),
        (7198.0, "2 h ahead of"),
        (-90_000, "25 h behind"),
        (40 * 86_400, "40 days ahead of"),
    ],
)
def test_a_difference_in_words(seconds: float, text: str) -> None:
    assert words(round(seconds * S)) == f"a source time {text} the server's clock"
