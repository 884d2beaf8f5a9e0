# SPDX-License-Identifier: Apache-2.0
"""Two writers with different clocks share a tag: the majority's time stays, the others' readings are counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pytest
from fedge_agent.config.schema import TagConfig
from fedge_agent.types import Batch, Reading, Window
from fedge_agent.windows.assembler import Assembler
from fedge_agent.windows.votes import CALM, LONGER, MOST

S = 1_000_000_000
START = 1_700_000_000 * S
HOUR, DAY, YEAR = 3600, 86_400, 365 * 86_400
LENGTH, HOLD, TAGS = 5, 3, "ab"
OFFSETS = [HOUR, -HOUR, 2 * HOUR, -2 * HOUR, DAY, -DAY, 10 * YEAR, -10 * YEAR]
Off = Callable[[int], int]  # row -> its offset, ns


class Result(NamedTuple):
    """What became of rows of which some have the other clock's time."""

    made: Assembler
    ends: set[int]  # rows at which a window ends, as if all times were right
    extra: int  # windows of other times

    def not_used(self) -> int:
        """Readings that were counted as not used, or still wait."""
        waiting = sum(len(c.votes.doubts) for s in self.made._sources.values() for c in s.channels)
        return self.made.counters.times_implausible + self.made.counters.late + waiting


def build(hz: float) -> Assembler:
    channels = {name: TagConfig(source="log", tag=name) for name in TAGS}
    return Assembler("m", channels, [], hz, LENGTH, 1, HOLD / hz, 2 / hz)


def time_of(i: int, hz: float) -> int:
    return START + round(i / hz * S)


def run(offs: Sequence[int], hz: float = 1.0, living: bool = False, batch: int = 1, paced: bool = False) -> Result:
    """living: the source reports its clock; batch: rows at once; paced: they come as fast as they were written."""
    made, windows = build(hz), list[Window]()
    for first in range(0, len(offs), batch):
        rows = range(first, min(first + batch, len(offs)))
        readings = [Reading(t, time_of(i, hz) + offs[i], float(i)) for i in rows for t in TAGS]
        received = round((rows[-1] + 1) / hz * S) if paced else 0
        windows += made.push(Batch("log", readings, max(r.time_ns for r in readings) if living else None, received))
    right = {time_of(i, hz): i for i in range(len(offs))}
    ends = [right[w.end_ns] for w in windows if w.end_ns in right]
    assert len(ends) == len(set(ends))
    return Result(made, set(ends), len(windows) - len(ends))


def clean(offs: Sequence[int], waiting: int = MOST) -> set[int]:
    """Rows at which a window ends that lacks no reading; what came last may still be doubted."""
    spoilt = {i + d for i, off in enumerate(offs) if off for d in range(LENGTH + HOLD)}
    return set(range(LENGTH - 1, len(offs) - waiting)) - spoilt


def drawn(seed: int, share: float, off_s: float, count: int = 300, first: bool = True) -> list[int]:
    """first: the first row has the right time."""
    wrong = np.random.default_rng(seed).random(count) < share
    wrong[0] &= not first
    return [round(off_s * S) * int(w) for w in wrong]


@pytest.mark.parametrize("living", [False, True])
@pytest.mark.parametrize("off", OFFSETS)
@pytest.mark.parametrize("hz", [0.01, 1.0, 1000.0])
def test_a_minority_with_another_clock_never_moves_the_grid(hz: float, off: int, living: bool) -> None:
    for seed in range(12):
        offs = drawn(seed, (0.1, 0.25, 1 / 3)[seed % 3], off)
        found = run(offs, hz, living, paced=seed % 2 == 0)
        assert found.made.counters.clock_jumps == found.extra == 0, seed
        assert found.ends >= clean(offs, LONGER * MOST), seed
        if not living:  # there the values are used, as of now
            counts = found.made.implausible_times()
            assert set(counts) == set(TAGS) and abs(counts["a"][2] - off * S) < 600 * S / min(1.0, hz) / 10
            assert found.not_used() - 2 * sum(map(bool, offs)) in range(2 * LONGER * MOST), seed


@pytest.mark.parametrize("off", OFFSETS)
def test_it_is_the_same_in_one_batch(off: int) -> None:
    for seed in range(12):
        offs = drawn(seed, 1 / 3, off)
        one, some, each = (run(offs, batch=size) for size in (len(offs), 7, 1))
        assert one.ends == some.ends == each.ends and one.made.counters == each.made.counters == some.made.counters


@pytest.mark.parametrize("living", [False, True])
def test_two_other_clocks_are_two_minorities(living: bool) -> None:
    """In the beginning, when no clock has a majority yet, one of them may be followed for a while."""
    for seed in range(12):
        rng = np.random.default_rng(seed)
        offs = [0] * 24 + [int(o) * S for o in rng.choice([0, 0, HOUR, -DAY], 276)]
        found = run(offs, living=living)
        assert found.made.counters.clock_jumps == found.extra == 0 and found.ends >= clean(offs, LONGER * MOST), seed
        young = run(offs[24:], living=living)
        assert max(young.ends) > 200 and young.extra < 120, seed


def test_milliseconds_taken_for_seconds_in_a_part_of_the_rows() -> None:
    """Those rows are of January 1970."""
    for seed in range(12):
        wrong = drawn(seed, 1 / 3, 1.0)
        offs = [bool(w) * (time_of(i, 1.0) // 1000 - time_of(i, 1.0)) for i, w in enumerate(wrong)]
        found = run(offs)
        assert found.made.counters.clock_jumps == found.extra == 0 and found.ends >= clean(offs, LONGER * MOST), seed


@pytest.mark.parametrize("off", [HOUR, -HOUR, DAY, -10 * YEAR])
def test_a_minority_whose_row_comes_first_is_left_for_the_majority(off: int) -> None:
    for seed in range(12):
        offs = drawn(seed, 1 / 3, off, first=False)
        offs[0] = off * S
        found = run(offs)
        assert found.ends >= clean(offs, LONGER * MOST) and found.extra <= LONGER * MOST, seed
        assert found.made.counters.clock_jumps + found.made.counters.gaps < 9, seed


@pytest.mark.parametrize("off", [HOUR, -HOUR, DAY, -DAY])
@pytest.mark.parametrize("living", [False, True])
def test_of_two_halves_one_is_taken_and_stays(off: int, living: bool) -> None:
    for seed in range(12):
        made = build(1.0)
        offs = drawn(seed, 0.5, off, 1500)
        ends, jumps = list[int](), set[int]()
        for i, by in enumerate(offs):
            time = time_of(i, 1.0) + by
            readings = [Reading(t, time, float(i)) for t in TAGS]
            ends += [w.end_ns for w in made.push(Batch("log", readings, time if living else None, 0))]
            if i > 600:
                jumps.add(made.counters.clock_jumps)
        assert len(jumps) == 1 and made.counters.clock_jumps <= 1, seed
        middle = START + min(0, off) * S // 2 if off < 0 else START + off * S // 2
        assert len({end > middle for end in ends[len(ends) // 2 :]}) == 1, seed
        assert made.counters.times_implausible > 700, seed


@pytest.mark.parametrize("off", [HOUR, -DAY])
def test_a_clock_that_only_a_few_rows_still_have_is_left(off: int) -> None:
    for seed in range(12):
        found = run([0] * 100 + drawn(seed, 0.8, off, 500))
        assert found.extra > 20 and found.made.counters.clock_jumps <= 1 and max(found.ends) < 450, seed


@pytest.mark.parametrize("size", [10, 20, 60])
def test_writers_that_write_many_rows_at_once_move_the_grid_a_few_times_at_most(size: int) -> None:
    offs = [HOUR * S * (i // size % 2) for i in range(40 * size)]
    found = run(offs)
    counters = found.made.counters
    assert counters.clock_jumps <= 3 and found.not_used() > 30 * size
    ends = [w for i in (20 * size, 40 * size) for w in [run(offs[:i])]]
    one = {len(ends[1].ends) > len(ends[0].ends), ends[1].extra > ends[0].extra}  # of which clock the later half is
    assert one == {True, False}


@pytest.mark.parametrize("step", [HOUR, -HOUR, 400 * DAY, -10 * YEAR])
@pytest.mark.parametrize("hz", [0.01, 1.0, 1000.0])
@pytest.mark.parametrize("living", [False, True])
def test_a_clock_that_is_set_while_two_write_is_followed(hz: float, step: int, living: bool) -> None:
    for seed in range(6):
        before = drawn(seed, 1 / 3, 2 * DAY, 120)
        after = [step * S] * 80
        made = build(hz)
        ends = [
            w.end_ns
            for i, by in enumerate(before + after)
            for time in [time_of(i, hz) + by]
            for w in made.push(Batch("log", [Reading(t, time, 1.0) for t in TAGS], time if living else None, 0))
        ]
        wanted = {time_of(i, hz) + step * S for i in range(120 + LENGTH, 197)}
        assert wanted <= set(ends), seed


@pytest.mark.parametrize("step", [HOUR, -HOUR, -1.5, DAY])
@pytest.mark.parametrize("living", [False, True])
def test_summer_time_and_a_clock_put_right_are_followed_after_twelve_readings(step: float, living: bool) -> None:
    hz = 100.0
    before, after = [0] * (3 * CALM), [round(step * S)] * (MOST + LENGTH)
    made = build(hz)
    for i, by in enumerate(before + after):
        time = time_of(i, hz) + by
        windows = made.push(Batch("log", [Reading(t, time, 1.0) for t in TAGS], time if living else None, 0))
    assert windows[-1].end_ns >= time - 3 * S // 100 and not made.counters.times_implausible
