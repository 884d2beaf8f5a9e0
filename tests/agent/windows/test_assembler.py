# SPDX-License-Identifier: Apache-2.0
"""Windows from unsynchronised readings: gaps are explicit, clocks may jump, blocks are joined exactly."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from fedge_agent.config.schema import TagConfig
from fedge_agent.sources.host import Queue
from fedge_agent.types import Batch, Quality, Reading, Window
from fedge_agent.windows.assembler import Assembler
from hypothesis import example, given
from hypothesis import strategies as st

S = 1_000_000_000
START = 1_700_000_000 * S


def tag(name: str, **more: Any) -> TagConfig:
    return TagConfig(source="plc", tag=name, **more)


def assembler(channels: str = "ab", label: bool = False, **more: Any) -> Assembler:
    how = {"rate_hz": 1.0, "length": 4, "hop": 2, "max_hold_s": 3.0, "lateness_s": 2.0, **more}
    return Assembler("m", {c: tag(c) for c in channels}, [tag("label")] if label else [], **how)


def push(made: Assembler, *readings: Reading, alive: int | None = None, source: str = "plc") -> list[Window]:
    return made.push(Batch(source, readings, alive, 0))


def two_sources() -> Assembler:
    tags = {"a": tag("a"), "b": TagConfig(source="other", tag="b")}
    return Assembler("m", tags, [], 1.0, 4, 2, 3.0, 2.0)


def at(second: float, name: str, value: float | str, quality: Quality = Quality.GOOD) -> Reading:
    return Reading(name, START + round(second * S), value, quality)


def test_two_channels_at_the_rate() -> None:
    made, windows = assembler(), []
    for t in range(8):
        windows += push(made, at(t, "a", t), at(t, "b", 10 * t))
    assert [w.values[0].tolist() for w in windows] == [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7]]
    assert windows[0].values[1].tolist() == [0, 10, 20, 30]
    assert windows[0].end_ns == START + 3 * S and windows[0].missing == 0


def test_a_tag_in_doubt_is_not_taken_for_unchanged() -> None:
    made, windows = assembler(), []
    windows += push(made, at(0, "a", 1), at(0, "b", 2), alive=START)
    for t in range(1, 12):
        windows += made.push(Batch("plc", [], START + t * S, 0, unsure=frozenset("b")))
    assert all(w.values[0].tolist() == [1, 1, 1, 1] for w in windows)
    assert windows[0].values[1].tolist() == [2, 2, 2, 2]  # within max_hold
    assert np.isnan(windows[-1].values[1]).all()


def test_unsynchronised_channels_hold_their_last_value() -> None:
    made, windows = assembler(), []
    for t in range(8):
        windows += push(made, at(t, "a", t))
        windows += push(made, at(t + 0.4, "b", t))
    assert windows[1].values[1].tolist() == [1, 2, 3, 4]


def test_stale_value_is_a_gap_not_a_guess() -> None:
    made, windows = assembler(max_hold_s=1.5), []
    for t in range(12):
        windows += push(made, at(t, "a", t), *([at(t, "b", t)] if t < 3 else []))
    assert np.isnan(windows[-1].values[1]).all() and windows[-1].missing == 0.5


def test_unchanged_value_of_a_living_source_is_no_gap() -> None:
    made, windows = assembler(max_hold_s=1.5), []
    for t in range(12):
        readings = [at(t, "a", t), *([at(t, "b", 7)] if t == 0 else [])]
        windows += push(made, *readings, alive=START + t * S)
    assert (windows[-1].values[1] == 7).all()


def reconnected(stamp: float) -> tuple[Assembler, dict[int, Window]]:
    """Alive until 3 s, lost, connected again at 20 s, when b is 7 since `stamp`; windows by their end, s."""
    made, windows = assembler(max_hold_s=1.5, length=4, hop=1), []
    for t in range(4):
        windows += push(made, at(t, "a", t), *([at(t, "b", 7)] if t == 0 else []), alive=START + t * S)
    for t in range(20, 30):
        first = [at(stamp, "b", 7)] if t == 20 else []
        windows += made.push(Batch("plc", [at(t, "a", t), *first], START + t * S, 0, fresh=t == 20))
    return made, {(w.end_ns - START) // S: w for w in windows}


def test_what_changed_while_disconnected_is_a_gap() -> None:
    made, windows = reconnected(stamp=20)
    assert made.counters.gaps == 1 and not set(range(8, 23)) & set(windows)
    assert windows[23].values.tolist() == [[20, 21, 22, 23], [7, 7, 7, 7]]


def test_what_is_reported_to_be_unchanged_while_disconnected_is_none() -> None:
    _, windows = reconnected(stamp=0)
    assert windows[12].values[1].tolist() == [7, 7, 7, 7]  # the PLC's own stamp says so
    assert np.isnan(windows[12].values[0]).all()
    assert windows[23].values.tolist() == [[20, 21, 22, 23], [7, 7, 7, 7]]


def test_bad_quality_ends_the_value() -> None:
    made, windows = assembler(max_hold_s=100), []
    for t in range(8):
        quality = Quality.BAD if t == 4 else Quality.GOOD
        windows += push(made, at(t, "a", t), at(t, "b", t, quality))
    assert np.isnan(windows[1].values[1]).tolist() == [False, False, True, False]
    assert made.counters.bad == 1


@pytest.mark.parametrize("value", [math.nan, math.inf, "off"])
def test_value_that_is_no_number_is_a_counted_gap(value: float | str) -> None:
    made, windows = assembler(), []
    for t in range(6):
        windows += push(made, at(t, "a", value if t == 1 else t), at(t, "b", t))
    assert np.isnan(windows[0].values[0, 1]) and made.counters.not_finite == 1


def test_dead_channel_does_not_hold_up_the_others() -> None:
    made, windows = assembler(), []
    for t in range(12):
        windows += push(made, at(t, "a", t))
    assert windows and np.isnan(windows[0].values[1]).all()


def test_late_and_repeated_readings_are_counted_and_left_out() -> None:
    made = assembler()
    push(made, at(1, "a", 1), at(1, "a", 5), at(0.5, "a", 9))
    assert made.counters.late == 2


def test_clock_set_back_starts_again() -> None:
    made, windows = assembler(), []
    for t in range(6):
        windows += push(made, at(t, "a", t), at(t, "b", t))
    for t in range(6):
        windows += push(made, at(t - 1e6, "a", 100 + t), at(t - 1e6, "b", 100 + t))
    assert made.counters.clock_jumps >= 1
    assert windows[-1].values[0].tolist() == [102, 103, 104, 105]


def test_clock_set_forward_by_years_is_a_gap_not_a_loop() -> None:
    made, windows = assembler(), []
    for t in range(6):
        windows += push(made, at(t, "a", t), at(t, "b", t))
    for t in range(6):
        windows += push(made, at(3e8 + t, "a", t), at(3e8 + t, "b", t))
    assert windows[-1].values[0].tolist() == [2, 3, 4, 5] and made.counters.gaps >= 1


def test_pause_longer_than_a_window_is_a_gap() -> None:
    made, windows = assembler(max_hold_s=0.5), []
    for t in [*range(6), *range(50, 58)]:
        windows += push(made, at(t, "a", t), at(t, "b", t))
    assert made.counters.gaps == 1
    assert [w.values[0, -1] for w in windows if not w.missing] == [3, 5, 53, 55, 57]


def test_label_only_where_it_is_constant() -> None:
    made, windows = assembler(label=True), []
    for t in range(12):
        windows += push(made, at(t, "a", t), at(t, "b", t), at(t, "label", float(t >= 6)))
    assert [w.label for w in windows] == [0.0, 0.0, None, 1.0, 1.0]


def test_of_several_targets_each_is_the_windows_last_value() -> None:
    made, windows = Assembler("m", {"a": tag("a")}, [tag("p"), tag("q")], 1.0, 4, 2, 3.0, 2.0, measured=True), []
    for t in range(12):
        windows += push(made, at(t, "a", t), at(t, "p", 10.0 * t), *([at(t, "q", t / 2)] if t > 3 else []))
    assert str(windows[0].label) == "(30.0, nan)"
    assert [w.label for w in windows[1:]] == [(50.0, 2.5), (70.0, 3.5), (90.0, 4.5), (110.0, 5.5)]


def test_several_labels_count_only_where_none_of_them_changed() -> None:
    made, windows = Assembler("m", {"a": tag("a")}, [tag("p"), tag("q")], 1.0, 4, 2, 3.0, 2.0), []
    for t in range(14):
        windows += push(made, at(t, "a", t), at(t, "p", float(t >= 6)), at(t, "q", 1.0))
    assert [w.label for w in windows] == [(0.0, 1.0), (0.0, 1.0), None, (1.0, 1.0), (1.0, 1.0), (1.0, 1.0)]


def test_bad_label_is_no_label() -> None:
    made, windows = assembler(label=True), []
    for t in range(8):
        windows += push(made, at(t, "a", t), at(t, "b", t), at(t, "label", 1.0, Quality.BAD))
    assert [w.label for w in windows] == [None, None, None]


# --- waveforms --------------------------------------------------------------------------------------------------


def waves(**more: Any) -> Assembler:
    how = {"rate_hz": 100.0, "length": 50, "hop": 50, "max_hold_s": 1.0, "lateness_s": 0.5, **more}
    return Assembler("m", {"x": tag("x", waveform_hz=100.0), "t": tag("t")}, [], **how)


def block(number: int, jitter: float = 0.0, size: int = 20) -> Reading:
    values = np.arange(number * size, (number + 1) * size, dtype=np.float32)
    return Reading("x", START + round(((number + 1) * size - 1) / 100 * S + jitter * S), values)


@given(st.lists(st.floats(-0.04, 0.04), min_size=30, max_size=30))
def test_blocks_join_without_a_seam_whatever_the_jitter(jitter: list[float]) -> None:
    made, windows = waves(), []
    for i, j in enumerate(jitter):
        windows += push(made, block(i, j), at(i * 0.2, "t", 5.0))
    joined = np.concatenate([w.values[0] for w in windows])
    assert (np.diff(joined) == 1).all() and len(joined) >= 500
    assert (np.concatenate([w.values[1] for w in windows])[60:] == 5).all()


def test_missing_block_is_a_gap_of_its_length() -> None:
    made, windows = waves(), []
    for i in [0, 1, 2, 4, 5, 6, 7, 8]:
        windows += push(made, block(i), at(i * 0.2, "t", 5.0))
    assert sum(int(np.isnan(w.values[0]).sum()) for w in windows) == 20


def test_rows_of_a_two_dimensional_block() -> None:
    both = {c: tag("x", waveform_hz=100.0, index=i) for i, c in enumerate("ab")}
    made = Assembler("m", both, [], 100.0, 20, 20, 1.0, 0.5)
    values = np.arange(40, dtype=np.float32).reshape(2, 20)
    [window] = push(made, Reading("x", START, values))
    assert (window.values == values).all()


def test_overflow_drops_the_oldest_batch_but_no_tags_last_value() -> None:
    queue = Queue(2)
    for t in range(5):
        tags = [at(t, "a", t), *([at(t, "seldom", 1)] if t == 0 else [])]
        queue.put(Batch("plc", tags, None, t, fresh=t == 0))
    first, second = queue.get(0), queue.get(0)
    assert first is not None and second is not None
    assert queue.dropped == 3 and queue.get(0) is None
    assert [(r.tag, r.value) for r in first.readings] == [("seldom", 1), ("a", 3)] and first.fresh
    assert [(r.tag, r.value) for r in second.readings] == [("a", 4)] and not second.fresh


@pytest.mark.parametrize("days", [-3, 3])
def test_tag_that_seldom_changes_keeps_its_value_when_the_clock_is_set(days: int) -> None:
    made, windows = assembler(), []
    for t in range(6):
        windows += push(made, at(t, "a", t), *([at(0, "b", 7)] if t == 0 else []), alive=START + t * S)
    for t in range(6, 14):
        now = t + days * 86400
        windows += push(made, at(now, "a", t), alive=START + now * S)
    assert windows[-1].end_ns > START + (days * 86400 + 8) * S
    assert windows[-1].values.tolist() in ([[8, 9, 10, 11], [7] * 4], [[7, 8, 9, 10], [7] * 4])
    assert made.counters.clock_jumps == 1


def test_setpoint_unchanged_for_days_begins_with_the_others() -> None:
    """Three days would be a quarter of a million windows of the past before the first decision."""
    made = assembler()
    windows = push(made, at(-3 * 86400, "a", 7), at(0, "b", 0), alive=START)
    for t in range(1, 8):
        windows += push(made, at(t, "b", t), alive=START + t * S)
    assert [w.values.tolist() for w in windows] == [[[7] * 4, [t, t + 1, t + 2, t + 3]] for t in (0, 2)]
    assert made.counters.gaps == made.counters.clock_jumps == 0


def test_setpoint_that_changed_just_before_the_start_begins_with_that_change() -> None:
    made = assembler()
    windows = push(made, at(-3 * 86400, "a", 7), at(-2, "a", 8), at(-2, "b", 0), at(0, "b", 0), alive=START)
    for t in range(1, 6):
        windows += push(made, at(t, "b", t), alive=START + t * S)
    assert [(w.end_ns - START) / S for w in windows] == [1, 3] and windows[0].values.tolist() == [[8] * 4, [0, 0, 0, 1]]


def test_setpoint_of_a_source_that_comes_later_does_not_disturb_the_grid() -> None:
    made, windows = two_sources(), []
    for t in range(12):
        windows += push(made, at(t, "a", t), alive=START + t * S)
        late = [at(-3 * 86400, "b", 7)] if t == 6 else []
        windows += push(made, *late, alive=START + t * S, source="other") if t >= 6 else []
    assert [(w.end_ns - START) / S for w in windows] == [3, 5, 7, 9] and windows[-1].missing == 0


def test_clock_of_one_source_says_nothing_of_another() -> None:
    made, windows = two_sources(), []
    for t in range(12):
        windows += push(made, at(t - 3 * 86400 * (t > 5), "a", t))
        windows += push(made, at(t, "b", t), source="other")
    assert windows[-1].end_ns >= START + 9 * S and windows[-1].values[1, -1] >= 9 and len(windows) < 8


def test_block_of_the_time_before_the_clock_was_set_belongs_to_that_time() -> None:
    waves = {"a": tag("a"), "w": tag("w", waveform_hz=1.0)}
    made, windows = Assembler("m", waves, [], 1.0, 4, 2, 3.0, 2.0), []
    block = np.ones(4, np.float32)
    for t in range(0, 12, 4):
        windows += push(made, at(t + 3, "a", t), Reading("w", START + (t + 3) * S, block, Quality.GOOD))
    windows += push(made, at(-3 * 86400, "a", 5), Reading("w", START + 15 * S, block, Quality.GOOD))
    for t in range(4, 28, 4):
        now = t - 3 * 86400
        windows += push(made, at(now, "a", t), Reading("w", START + now * S, block, Quality.GOOD))
    assert windows[-1].end_ns < START and windows[-1].missing == 0 and len(windows) < 18
    last_of_old = max(w.end_ns for w in windows)
    assert last_of_old == START + 14 * S and made.counters.late == 0 and made.counters.clock_jumps == 1


def test_clock_set_back_while_all_were_silent_is_believed_when_it_goes_on() -> None:
    """The tag with the old time comes so long after all others that it could as well be right."""
    made, windows = assembler(), []
    for t in range(6):
        windows += push(made, at(t, "a", t), at(t, "b", 5), alive=START + t * S)
    windows += push(made, at(40 - 3 * 86400, "a", 40), at(40, "b", 7), alive=START + 40 * S)
    for t in range(41, 71):
        windows += push(made, at(t - 3 * 86400, "a", t), alive=START + (t - 3 * 86400) * S)
    assert windows[-1].end_ns > START + (65 - 3 * 86400) * S and len(windows) < 35  # 18 of the silence before
    assert windows[-1].values[1].tolist() == [7] * 4


@pytest.mark.parametrize("days", [-3, 3])
def test_tag_that_still_has_the_old_time_when_the_clock_is_set_neither_stops_nor_floods(days: int) -> None:
    made, windows, shift = assembler(), [], days * 86400
    for t in range(6):
        windows += push(made, at(t, "a", t), at(t, "b", 5), alive=START + t * S)
    late = START + round(max(6.0 + shift, 6.1) * S)
    windows += push(made, at(6 + shift, "a", 6), at(6.1, "b", 7), alive=late)
    for t in range(7, 16):  # b does not change any more
        windows += push(made, at(t + shift, "a", t), alive=START + (t + shift) * S)
    assert len(windows) < 10 and windows[-1].end_ns > START + (shift + 10) * S
    assert windows[-1].values[1].tolist() == [7] * 4
    for t in range(16, 24):
        changed = [at(16 + shift, "b", 9)] if t == 16 else []
        windows += push(made, at(t + shift, "a", t), *changed, alive=START + (t + shift) * S)
    assert windows[-1].values[1].tolist() == [9] * 4 and windows[-1].end_ns > START + (shift + 18) * S
    assert made.counters.clock_jumps == 1


def test_each_time_the_clock_is_set_a_tag_may_have_the_old_time() -> None:
    made, windows, shift = assembler(), [], 0.0
    for t in range(1, 81):
        before, shift = shift, shift + {20: -3, 40: 3, 60: -3}.get(t, 0) * 86400
        alive = START + round((t + max(before, shift)) * S)
        windows += push(made, at(t + shift, "a", t), at(t + before, "b", t), alive=alive)
    assert made.counters.clock_jumps == 3 and len(windows) < 40
    assert windows[-1].end_ns > START + (75 + shift) * S and windows[-1].values[1, -1] > 75


def test_heartbeat_that_is_wrong_once_stops_nothing() -> None:
    made, windows = assembler(), []
    for t in range(30):
        windows += push(made, at(t, "a", t), at(t, "b", t), alive=START + (t + 3 * 86400 * (t == 6)) * S)
    assert windows[-1].end_ns > START + 25 * S and windows[-1].values[1, -1] > 25 and len(windows) < 15


def test_clock_set_back_while_nothing_changes_is_recognised_by_the_heartbeat() -> None:
    made, windows, shift = assembler(), [], -3 * 86400
    for t in range(6):
        windows += push(made, at(t, "a", t), at(t, "b", 5), alive=START + t * S)
    for t in range(6, 9):
        windows += push(made, alive=START + (t + shift) * S)
    for t in range(9, 15):
        windows += push(made, at(t + shift, "a", t), alive=START + (t + shift) * S)
    assert made.counters.clock_jumps == 1 and windows[-1].end_ns >= START + (11 + shift) * S
    assert windows[-1].values.tolist()[1] == [5] * 4 and windows[-1].values[0, -1] >= 11


def test_one_tag_with_a_wrong_time_once_stops_nothing() -> None:
    made, windows = assembler(), []
    for t in range(6):
        windows += push(made, at(t, "a", t), at(t, "b", 5), alive=START + t * S)
    push(made, at(-3 * 86400, "b", 5))
    for t in range(6, 26):
        windows += push(made, at(t, "a", t), alive=START + t * S)
    assert windows[-1].end_ns >= START + 20 * S and len(windows) < 12
    assert windows[-1].values[1].tolist() == [5] * 4


JUMPS = st.tuples(
    st.integers(1, 12),  # steps later
    st.sampled_from([-30.0, -3.0, -0.001, 0.001, 3.0, 30.0]),  # days
    st.sampled_from([0, 40]),  # seconds of silence before
)


@given(
    st.lists(JUMPS, max_size=4),
    st.integers(0, 2**32),
    st.sampled_from([0.2, 0.5, 1.0]),
    st.sampled_from([0.1, 1.0]),
    st.booleans(),
)
@example([(12, -30.0, 0), (12, -30.0, 0), (8, 30.0, 0), (8, -30.0, 0)], 8367, 0.2, 1.0, True)  # twice in one batch
@example([(1, 3.0, 0)], 255, 0.2, 1.0, True)  # within the first batch
@example([(1, -30.0, 0)] * 3, 2323, 0.2, 0.1, True)  # the heartbeat's time was wrong in between
@example([(9, -30.0, 0), (1, -30.0, 0)], 654263, 0.2, 0.1, True)
def test_however_clocks_are_set_and_batches_cut_there_are_windows_of_now_and_no_flood(
    jumps: list[tuple[int, float, int]], seed: int, often: float, speaks: float, heartbeat: bool
) -> None:
    made, windows, waiting, rng = assembler(), [], list[Reading](), np.random.default_rng(seed)
    shift, step, now, set_, silent = 0.0, 0, 0.0, dict[int, float](), dict[int, int]()
    for after, days, silence in jumps:
        step += after
        set_[step], silent[step] = days * 86400, silence
    for t in range(step + 100):  # what is ahead by less than a leap is waited for
        now += 1 + silent.get(t, 0)
        for name in "acb":
            if name == "b":  # between two tags
                shift += set_.get(t, 0.0)
            if name == "a" or rng.random() < (speaks if heartbeat else 1.0):
                waiting.append(at(now + shift, name, now))
            if waiting and (rng.random() < often or (t == step + 99 and name == "b")):
                last = {r.tag: r.time_ns for r in waiting}
                windows += push(made, *waiting, alive=max(last.values()) if heartbeat else None)
                waiting = []
    assert abs(windows[-1].end_ns - (START + (now + shift) * S)) <= 8 * S
    assert windows[-1].values[0, -1] >= now - 8
    assert len(windows) <= t + 5 + 60 * len(jumps)


def test_holes_are_counted_until_a_window_is_full() -> None:
    made = Assembler("m", {"a": tag("a")}, (), 1.0, 5, 1, 3.0, 2.0)
    for i, seconds in enumerate((0, 60, 120, 180)):
        made.push(Batch("plc", [Reading("a", (1_780_000_000 + seconds) * 10**9, 1.0)], None, 1 + i * 60 * 10**9))
    assert made.holes() == (3, 60.0) and made.facts()[0].step_s == 60.0 and made.counters.windows == 0
    made.push(Batch("plc", [Reading("a", (1_780_000_180 + i) * 10**9, 1.0) for i in range(1, 10)], None, 10**12))
    assert made.holes() == (0, 0.0) and made.facts()[0].step_s == 0.0 and made.counters.windows > 0


def test_changes_of_a_source_that_says_what_is_unchanged_are_not_too_far_apart() -> None:
    made = Assembler("m", {"a": tag("a")}, (), 1.0, 5, 1, 3.0, 2.0)
    for i in range(5):
        time_ns = (1_780_000_000 + 20 * i) * 10**9
        made.push(Batch("plc", [Reading("a", time_ns, float(i))], time_ns, 1 + 20 * i * 10**9))
    assert made.facts()[0].step_s == 0.0 and made.holes() == (0, 0.0)
