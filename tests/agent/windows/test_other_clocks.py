# SPDX-License-Identifier: Apache-2.0
"""A tag whose clock is off spoils no other machine of its source, and is said to lag behind those of its own."""

from __future__ import annotations

import math

import numpy as np
import pytest
from fedge_agent.config.schema import TagConfig
from fedge_agent.sources.order import in_time_order
from fedge_agent.types import Batch, Reading, Window
from fedge_agent.windows.assembler import Assembler
from fedge_agent.windows.facts import RECENT

S = 1_000_000_000
START = 1_700_000_000 * S
HZ, LENGTH, HOP, SECONDS = 10.0, 20, 10, 30


def build(*names: str, hz: float = HZ) -> Assembler:
    channels = {name: TagConfig(source="plc", tag=name) for name in names}
    return Assembler("m", channels, [], hz, LENGTH, HOP, 3 / hz, 2 / hz)


def published(second: int, off_s: dict[str, float], hz: float = HZ) -> list[Reading]:
    """What a server sends once a second: ten values of each tag, which has a clock of its own."""
    at = [START + round((second + k / hz) * S) for k in range(int(hz))]
    return list(in_time_order([Reading(n, t + round(o * S), math.sin(t / S)) for n, o in off_s.items() for t in at]))


def run(off_s: dict[str, float], alive_s: float) -> tuple[Assembler, list[Window]]:
    """alive_s: how far ahead of the right time the source's sign of life is."""
    made, windows = build(*off_s), list[Window]()
    for second in range(SECONDS):
        newest = START + round((second + 0.9) * S)
        windows += made.push(
            Batch("plc", published(second, off_s), newest + round(alive_s * S), round((second + 1) * S))
        )
    return made, windows


@pytest.mark.parametrize("alive_s", [-2.0, 0.3, 2.0, 5.0, 29.0, 50.0])
def test_a_sign_of_life_of_another_clock_makes_no_reading_late(alive_s: float) -> None:
    right, wanted = run({"a": 0.0}, 0.0)
    made, found = run({"a": 0.0}, alive_s)
    assert made.counters.late == right.counters.late == 0
    ends = {w.end_ns: w.values for w in found}
    there = [w for w in wanted if w.end_ns > START + 5 * S]  # nothing was known of the tag before
    assert len(there) > 20
    for window in there:
        np.testing.assert_array_equal(ends[window.end_ns], window.values)


def test_a_tag_that_says_nothing_is_unchanged_until_the_others_times() -> None:
    """The server's own clock may be told late."""
    made, windows = build("a", "still"), list[Window]()
    for second in range(SECONDS):
        readings = published(second, {"a": 0.0}) + ([Reading("still", START, 7.0)] if not second else [])
        alive = START + round((second - 1.5) * S)
        windows += made.push(Batch("plc", in_time_order(readings), alive, round((second + 1) * S)))
    assert len(windows) > 20 and not any(w.missing for w in windows)


@pytest.mark.parametrize("off_s", [2.0, 20.0])
def test_a_tag_far_behind_the_others_of_its_machine_is_known_to_lag(off_s: float) -> None:
    made, windows = run({"a": 0.0, "slow": -off_s}, 0.0)
    lags = {f.name: f.lags for f in made.facts()}
    assert lags == {"a": 0, "slow": RECENT} and len(windows) > 20
    [slow] = [f for f in made.facts() if f.lags]
    assert slow.behind_ns == pytest.approx(off_s * S, abs=1.0 * S)


def test_tags_of_clocks_that_agree_do_not_lag() -> None:
    made, _ = run({"a": 0.0, "b": -0.1}, 0.0)
    assert [f.lags for f in made.facts()] == [0, 0] and made.counters.late == 0


@pytest.mark.parametrize("ahead_s", [8, 40, 59])
def test_a_clock_that_is_set_ahead_gives_no_windows_of_the_time_that_it_left_out(ahead_s: int) -> None:
    made, windows = build("a"), list[Window]()
    for second in range(SECONDS):
        off = ahead_s if second >= 10 else 0
        readings = published(second, {"a": float(off)})
        windows += made.push(Batch("plc", readings, readings[-1].time_ns, round((second + 1) * S)))
    ends = [(w.end_ns - START) / S for w in windows]
    assert not [e for e in ends if 10.5 < e < 10 + ahead_s + LENGTH / HZ - 0.2]
    assert len([e for e in ends if e > 10 + ahead_s]) >= 17 and made.counters.gaps == 1


@pytest.mark.parametrize("quiet_s", [8, 40, 59])
def test_a_source_that_was_silent_for_as_long_says_that_nothing_changed(quiet_s: int) -> None:
    made, windows = build("a"), list[Window]()
    for second in [*range(10), *range(10 + quiet_s, SECONDS + quiet_s)]:
        readings = published(second, {"a": 0.0})
        windows += made.push(Batch("plc", readings, readings[-1].time_ns, round((second + 1) * S)))
    assert len(windows) >= 28 + quiet_s and made.counters.gaps == 0 and not any(w.missing for w in windows)
