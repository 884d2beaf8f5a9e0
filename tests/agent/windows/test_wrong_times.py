# SPDX-License-Identifier: Apache-2.0
"""One wrong time is one reading less; a clock that was set is followed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
from fedge_agent.config.schema import TagConfig
from fedge_agent.types import Batch, Reading, Window
from fedge_agent.windows.assembler import Assembler
from fedge_agent.windows.votes import MOST
from hypothesis import example, given, settings
from hypothesis import strategies as st

S = 1_000_000_000
START = 1_700_000_000 * S
DAY, YEAR = 86_400, 365 * 86_400
LENGTH, HOLD = 5, 3


def build(tags: Sequence[str] = "ab", length: int = LENGTH, **sources: str) -> Assembler:
    channels = {name: TagConfig(source=sources.get(name, "log"), tag=name) for name in tags}
    return Assembler("m", channels, [], 1.0, length, 1, float(HOLD), 2.0)


def row(second: float, value: float, tags: Sequence[str] = "ab") -> list[Reading]:
    return [Reading(t, START + round(second * S), value) for t in tags]


def feed(made: Assembler, rows: Sequence[list[Reading]], living: bool = False, paced: bool = False) -> list[Window]:
    """living: the source reports its clock; paced: a row comes each second, as from a machine."""
    windows = []
    for i, readings in enumerate(rows):
        alive = max(r.time_ns for r in readings) if living else None
        windows += made.push(Batch("log", readings, alive, (i + 1) * S if paced else 0))
    return windows


class Stream(NamedTuple):
    """Rows of which some have a wrong time."""

    rows: list[list[Reading]]
    wrong: list[int]


def stream(seed: int, share: float, off: Callable[[np.random.Generator], float], count: int = 200) -> Stream:
    rng, rows, wrong = np.random.default_rng(seed), [], []
    for i in range(count):
        if i >= LENGTH and rng.random() < share:
            wrong.append(i)
            rows.append(row(i + off(rng), i))
        else:
            rows.append(row(i, i))
    return Stream(rows, wrong)


def some(rng: np.random.Generator) -> float:
    """A minute to ten years, ahead or behind."""
    return float(np.exp(rng.uniform(np.log(60), np.log(10 * YEAR))) * rng.choice([-1, 1]))


def by_end(windows: Sequence[Window]) -> dict[int, bytes]:
    return {(w.end_ns - START) // S: w.values.tobytes() for w in windows}


def missing(made: Stream, found: Sequence[Window]) -> list[int]:
    """Windows of the right rows that are not there, but for those with a wrong row in or shortly before them."""
    wanted = by_end(feed(build(), [row(i, i) for i in range(len(made.rows))]))
    got, spoilt = by_end(found), {i + d for i in made.wrong for d in range(LENGTH + HOLD)}
    settled = range(len(made.rows) - MOST)  # what came last may still be doubted
    return [end for end in settled if end in wanted and end not in spoilt and got.get(end) != wanted[end]]


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([1e-3, 0.01, 0.1, 0.25, 1 / 3]), st.booleans(), st.booleans())
def test_a_wrong_time_costs_no_other_window(seed: int, share: float, living: bool, paced: bool) -> None:
    made = stream(seed, share, some)
    found = feed(build(), made.rows, living, paced)
    assert missing(made, found) == []
    assert all(0 <= w.end_ns - START < len(made.rows) * S for w in found)


@pytest.mark.parametrize("off", [60, -60, DAY, -DAY, 10 * YEAR, -10 * YEAR])
@pytest.mark.parametrize("living", [False, True])
def test_each_fourth_time_wrong_by_the_same_costs_no_other_window(off: float, living: bool) -> None:
    rows = [row(i + off * (i % 4 == 3), i) for i in range(200)]
    made = build()
    found = feed(made, rows, living)
    assert len(found) > 180 and all(0 <= w.end_ns - START < 200 * S for w in found)
    counted = made.counters.times_implausible + made.counters.late
    assert counted >= 2 * 45 and made.counters.clock_jumps == 0
    assert set(made.implausible_times()) == {"a", "b"} or abs(off) == 60


@pytest.mark.parametrize("off", [60, DAY, -DAY])
@pytest.mark.parametrize("living", [False, True])
def test_some_wrong_times_in_a_row_are_no_clock_that_was_set(off: float, living: bool) -> None:
    wrong = range(40, 48)
    made = build()
    found = by_end(feed(made, [row(i + off * (i in wrong), i) for i in range(100)], living))
    assert set(range(wrong.stop + LENGTH, 90)) <= set(found) and made.counters.clock_jumps == 0
    assert max(found) < 100 and min(found) >= 0


@pytest.mark.parametrize("first", [1, 2])
@pytest.mark.parametrize("off", [DAY, -DAY])
def test_the_first_times_may_be_the_wrong_ones(first: int, off: float) -> None:
    rows = [row(i + off * (i < first), i) for i in range(40)]
    found = by_end(feed(build(), rows))
    assert set(range(first + LENGTH, 37)) <= set(found)


@pytest.mark.parametrize("living", [False, True])
@given(st.sampled_from([-10 * YEAR, -DAY, -3600, -90, 90, 3600, DAY, 10 * YEAR]), st.integers(1, 60))
def test_a_clock_that_was_set_is_followed_and_no_reading_is_lost(living: bool, by: int, after: int) -> None:
    rows = [row(i + by * (i >= after), i) for i in range(after + MOST + LENGTH)]
    windows = feed(build(), rows, living)
    new = by_end([w for w in windows if (w.end_ns - START) / S >= after + by - 2 or by < 0 > w.end_ns - START])
    wanted = by_end(feed(build(), rows[after:]))
    assert set(wanted) <= set(new)


def test_a_device_that_sends_1970_until_its_clock_is_set() -> None:
    rows = [row(i - START / S + 3, i) for i in range(30)] + [row(i, i) for i in range(30, 60)]
    windows = feed(build(), rows)
    assert windows[-1].end_ns == START + 59 * S and len(windows) > 45


@pytest.mark.parametrize("living", [False, True])
def test_one_tag_with_a_wrong_clock_spoils_no_other_tag_of_its_source(living: bool) -> None:
    """The other asset of the source sees the same batches, without that tag."""
    spoilt, other = build("a"), build("b")
    windows = []
    for i in range(60):
        alive = START + i * S if living else None
        spoilt.push(Batch("log", row(i + 7200, i, "a"), alive, 0))
        windows += other.push(Batch("log", row(i, i, "b"), alive, 0))
    assert [(w.end_ns - START) // S for w in windows][:50] == list(range(4, 54)) and other.counters.clock_jumps == 0


@pytest.mark.parametrize("by", [-7200, 7200])
def test_at_a_living_source_a_tag_with_another_clock_has_its_value_of_now(by: int) -> None:
    made, windows = build(), []
    for i in range(80):
        windows += made.push(Batch("log", [*row(i, i, "a"), *row(i + by, i, "b")], START + i * S, 0))
    newest = windows[-1]
    assert len(windows) > 60 and newest.missing == 0 and newest.end_ns >= START + 76 * S
    assert newest.values[1, -1] >= 75 and made.counters.clock_jumps == 0
    assert made.implausible_times()["b"][0] > 40


def test_a_channel_behind_the_others_is_said_to_be() -> None:
    made, windows = build(), []
    for i in range(40):
        windows += made.push(Batch("log", [*row(i, i, "a"), *row(i - 3600, i, "b")], None, 0))
    [_, behind] = made.facts()
    assert np.isnan(windows[-1].values[1]).all() and behind.unused.behind > 20
    assert 3590 * S < behind.behind_ns < 3610 * S


def test_a_pause_that_passed_here_too_is_believed_at_once() -> None:
    made = build()
    feed(made, [row(i, i) for i in range(20)], paced=True)
    assert not made.push(Batch("log", row(3620, 1.0), None, 3620 * S))  # what came before was complete
    windows = [w for i in range(1, 7) for w in made.push(Batch("log", row(3620 + i, 1.0), None, (3620 + i) * S))]
    assert windows[0].end_ns == START + 3624 * S and made.counters.gaps == 1 and not made.counters.times_implausible


@pytest.mark.parametrize("poll", [1, 300, 3600])
def test_a_slow_poll_sets_no_clock(poll: int) -> None:
    made, windows = (
        Assembler("m", {"a": TagConfig(source="log", tag="a")}, [], 1 / poll, 4, 1, 3.0 * poll, 2.0 * poll),
        [],
    )
    for i in range(30):
        now = START + i * poll * S
        windows += made.push(Batch("log", [Reading("a", now, float(i))], now, (i + 1) * poll * S))
    assert len(windows) >= 26 and made.counters.clock_jumps == made.counters.times_implausible == 0


def test_readings_that_wait_are_kept_for_a_restart() -> None:
    made = build("a")
    feed(made, [row(i, i, "a") for i in range(20)])
    assert made.oldest_doubt() is None
    feed(made, [row(i - DAY, i, "a") for i in range(20, 25)])
    assert made.oldest_doubt() == START + (20 - DAY) * S


@example([300.0] * 40, "a")
@example([61.0] * 4 + [418.0, 61.0, 61.0, 418.0] + [61.0] * 10, "a")
@example([61.0, 61.0, 8659.0, 61.0, 7185.0] + [61.0] * 17, "a")
@example(([61.0] * 15 + [300.0] + [61.0] * 3 + [300.0, 61.0, 61.0, 300.0, 61.0, 300.0] + [61.0] * 8), "ab")
@given(
    st.lists(st.sampled_from([61.0, 300.0, 418.0]) | st.floats(61.0, 9000.0), min_size=MOST + 1, max_size=40),
    st.sampled_from(["a", "ab"]),
)
def test_rows_far_apart_are_windows_of_their_own(steps: list[float], channels: str) -> None:
    """One row a part: each is a window, though none lies near the one before."""
    times = np.cumsum(np.round(steps))
    made = build(channels, length=1)
    windows: list[Any] = feed(made, [row(float(t), 1.0, channels) for t in times])
    assert {round((w.end_ns - START) / S) for w in windows if not w.missing} >= {int(t) for t in times[: -MOST - 1]}
    assert made.counters.clock_jumps == 0
