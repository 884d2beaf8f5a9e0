# SPDX-License-Identifier: Apache-2.0
"""A stretch that is sent afterwards gives the windows that it would have given then, however it is sent."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
from fedge_agent.config.schema import TagConfig
from fedge_agent.machines import history_readings
from fedge_agent.machines.history_readings import MOST, PATIENCE_S, QUIET_S, HistoryReadings
from fedge_agent.machines.history_windows import HistoryWindows
from fedge_agent.types import Batch, Reading, Window
from fedge_agent.windows.assembler import Assembler
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples

S = 10**9
START = 1_700_000_000 * S
TAGS = {name: TagConfig(source="plc", tag=name) for name in "ab"}

Row = tuple[int, str, float]  # ms since START, tag, value


def assembler() -> Assembler:
    return Assembler("m", TAGS, [], 2.0, 4, 2, 1.5, 1.0)


def reading(row: Row) -> Reading:
    return Reading(row[1], START + row[0] * 10**6, row[2])


def then(rows: list[Row]) -> list[Window]:
    """The windows of rows that come one by one, from a source that is alive all the time."""
    made, windows, alive = assembler(), list[Window](), START + rows[0][0] * 10**6
    for time_ns in sorted({reading(row).time_ns for row in rows}):
        while alive + S < time_ns:
            alive += S
            windows += made.push(Batch("plc", [], alive, alive))
        alive = time_ns
        windows += made.push(Batch("plc", [r for r in map(reading, rows) if r.time_ns == time_ns], alive, alive))
    return windows + made.finish()


def afterwards(messages: list[list[Row]], live: Assembler | None = None, piece: int = 7) -> list[Window]:
    gathered, made, windows = HistoryReadings(), HistoryWindows(assembler, live or assembler(), 1.5), list[Window]()
    for i, message in enumerate(messages):
        gathered.take("plc", [reading(row) for row in message], i * 0.01)
    while gathered:
        assert gathered.is_due(100.0)
        for group in gathered.groups(piece):
            windows += made.push(group)
    return windows + made.finish()


def plain(windows: list[Window]) -> list[tuple[int, list[Any]]]:
    return [(w.end_ns, np.nan_to_num(w.values, nan=-1).tolist()) for w in windows]


ROWS = st.lists(
    st.tuples(
        st.one_of(st.integers(1, 3000), st.integers(20_000, 400_000)), st.sampled_from("ab"), st.floats(0, 9, width=32)
    ),
    min_size=1,
    max_size=40,
).map(lambda steps: [(sum(s[0] for s in steps[: i + 1]), tag, v) for i, (_, tag, v) in enumerate(steps)])


@settings(max_examples=examples(150), deadline=None)
@given(ROWS, st.integers(1, 9), st.randoms(use_true_random=False))
def test_a_history_gives_the_windows_of_the_same_rows_in_whatever_order_it_is_sent(
    rows: list[Row], parts: int, chance: random.Random
) -> None:
    shuffled = [*rows, *chance.choices(rows, k=5)]  # some of it is sent twice
    chance.shuffle(shuffled)
    messages = [shuffled[i::parts] for i in range(parts)]
    assert plain(afterwards(messages)) == plain(then(rows))


def test_one_tag_a_message_gives_windows_of_all() -> None:
    rows = [(500 * i, tag, float(i)) for i in range(40) for tag in "ab"]
    windows = afterwards([[r for r in rows if r[1] == "b"], [r for r in rows if r[1] == "a"]])
    assert plain(windows) == plain(then(rows)) and len(windows) == 19
    assert all(w.missing == 0 for w in windows)


def test_what_is_known_of_a_tag_since_before_the_history_holds_in_it_and_what_is_newer_does_not() -> None:
    rows = [(500 * i, "a", float(i)) for i in range(20)]
    for at, value in ((-3_600_000, 7.0), (5_000, math.nan)):
        live = assembler()
        live.push(Batch("plc", [reading((at, "b", 7.0))], START + at * 10**6, 1))
        windows = afterwards([rows], live)
        assert len(windows) == 9
        for w in windows:
            np.testing.assert_array_equal(w.values[1], [value] * 4)


def test_between_stretches_that_lie_far_apart_nothing_is_made_up() -> None:
    first = [(500 * i, tag, 1.0) for i in range(20) for tag in "ab"]
    second = [(t + 3_600_000, tag, 2.0) for t, tag, _ in first]
    assert plain(afterwards([second + first])) == plain(then(first)) + plain(then(second))


def test_they_are_complete_after_a_moment_or_when_they_were_gathered_for_long_or_are_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = HistoryReadings()
    assert not made.is_due(0.0)
    made.take("plc", [reading((0, "a", 1.0))], 0.0)
    assert not made.is_due(QUIET_S - 0.1) and made.is_due(QUIET_S)
    now = 0.0
    while not made.is_due(now):
        now += 1.0
        made.take("plc", [reading((round(now), "a", 1.0))], now)
    assert now == PATIENCE_S
    many = HistoryReadings()
    many.take("plc", [reading((i, "a", 1.0)) for i in range(MOST + 1)], 0.0)
    assert many.is_due(0.0) and sum(1 for _ in many.groups(MOST)) == MOST and len(many) == 1
    assert not many.is_quiet(QUIET_S)
    list(many.groups(1))
    assert many.is_quiet(QUIET_S) and not many.is_due(QUIET_S)
    monkeypatch.setattr(history_readings, "MOST", 100)
    many.take("plc", [Reading("a", START, np.zeros(1600, np.float32))], 0.0)
    assert many.is_due(0.0)
