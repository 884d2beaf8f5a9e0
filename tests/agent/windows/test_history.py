# SPDX-License-Identifier: Apache-2.0
"""History is history: a stretch of the past gives the same windows in one batch, in many, or reading by reading."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pytest
from fedge_agent.config.schema import TagConfig
from fedge_agent.types import Batch, Quality, Reading, Window
from fedge_agent.windows.assembler import Assembler
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.examples import examples

S = 1_000_000_000
START = 1_700_000_000 * S
DAY = 86400
HOUR = 3600


def tag(name: str, source: str = "log", **more: Any) -> TagConfig:
    return TagConfig(source=source, tag=name, **more)


class Setup(NamedTuple):
    """How the windows of an asset are cut."""

    rate_hz: float = 1.0
    length: int = 5
    hop: int = 1
    hold: float = 3.0  # samples
    lateness: float = 2.0  # samples
    channels: str = "ab"
    label: bool = False

    def build(self) -> Assembler:
        return Assembler(
            "m",
            {c: tag(c) for c in self.channels},
            [tag("label")] if self.label else [],
            self.rate_hz,
            self.length,
            self.hop,
            self.hold / self.rate_hz,
            self.lateness / self.rate_hz,
        )

    @property
    def tags(self) -> list[str]:
        return [*self.channels, *(["label"] if self.label else [])]


class Row(NamedTuple):
    """What a source has of one time."""

    time_ns: int
    readings: list[Reading]


Rows = list[Row]


def feed(made: Assembler, batches: Iterable[Rows], living: bool = False) -> list[Window]:
    windows = []
    for i, rows in enumerate(batches):
        readings = [r for row in rows for r in row.readings]
        alive = rows[-1].time_ns if living and rows else None
        windows += made.push(Batch("log", readings, alive, 0, fresh=i == 0 and not living))
    return windows


def cut(rows: Rows, where: Iterable[int]) -> list[Rows]:
    edges = sorted({0, len(rows), *(w for w in where if 0 < w < len(rows))})
    return [rows[a:b] for a, b in pairwise(edges)]


def shown(windows: Sequence[Window]) -> list[Any]:
    return [(round(w.end_ns, -2), w.values.tobytes(), w.label) for w in windows]  # a third of a second is rounded


def row(setup: Setup, time_ns: int, value: float, *, without: str = "", bad: str = "") -> Row:
    readings = [
        Reading(t, time_ns, value if t != "label" else float(value // 40), Quality.BAD if t in bad else Quality.GOOD)
        for t in setup.tags
        if t not in without
    ]
    return Row(time_ns, readings)


# --- the property -----------------------------------------------------------------------------------------------

SETUPS = st.builds(
    Setup,
    rate_hz=st.sampled_from([0.01, 0.2, 1.0, 3.0, 100.0, 50_000.0]),
    length=st.integers(1, 8),
    hop=st.integers(1, 9),
    hold=st.sampled_from([1.0, 3.0, 20.0]),
    lateness=st.sampled_from([1.0, 2.0, 12.0]),
    channels=st.sampled_from(["a", "ab", "abc"]),
    label=st.booleans(),
)
HAPPENINGS = st.one_of(
    st.tuples(st.just("step"), st.sampled_from([0.25, 0.5, 0.98, 1.02, 2.0, 3.0])),  # periods
    st.tuples(st.just("hole"), st.sampled_from([6.0, 11.0, 40.0, 4000.0])),  # periods
    st.tuples(st.just("hole_s"), st.sampled_from([2.0, 30.0, 300.0, HOUR])),
    st.tuples(st.just("late_s"), st.sampled_from([0.001, 0.5, 7.0, HOUR])),  # one row that comes late
    st.tuples(st.just("set_s"), st.sampled_from([-3.0 * DAY, -HOUR, -2.0, HOUR, 3.0 * DAY])),  # the clock
    st.tuples(st.just("bad"), st.sampled_from(["a", "abc"])),
)
MISSING = st.tuples(st.just("without"), st.sampled_from(["a", "bc", "abc", "label"]))  # tags that were not sent
STEP = st.just(("step", 1.0))
STORIES = st.lists(st.one_of(STEP, STEP, STEP, STEP, STEP, HAPPENINGS, MISSING), min_size=5, max_size=60)
LIVING = st.lists(st.one_of(STEP, STEP, STEP, STEP, HAPPENINGS), min_size=5, max_size=60)
CUTS = st.lists(st.integers(1, 60), max_size=6)


def told(setup: Setup, story: Sequence[tuple[str, Any]]) -> Rows:
    now, rows = 0.0, []  # s
    for i, (what, size) in enumerate(story):
        if what == "late_s":
            rows.append(row(setup, START + round((now - size) * S), -i))
            continue
        now += size if what in ("hole_s", "set_s") else (1.0 if isinstance(size, str) else size) / setup.rate_hz
        how = {what: size} if isinstance(size, str) else {}
        rows.append(row(setup, START + round(now * S), i, **how))
    return rows


@settings(max_examples=examples(200))
@given(SETUPS, STORIES, CUTS)
@example(Setup(hold=20.0), [("step", 1.0)] * 5 + [("hole", 11.0)] + [("step", 1.0)] * 9, [3])  # held throughout
def test_windows_are_the_same_however_the_rows_are_fed(
    setup: Setup, story: list[tuple[str, Any]], where: list[int]
) -> None:
    rows = told(setup, story)
    one, some, each = setup.build(), setup.build(), setup.build()
    wanted = shown(feed(each, ([r] for r in rows)))
    assert shown(feed(one, [rows])) == wanted
    assert shown(feed(some, cut(rows, where))) == wanted
    assert one.counters == each.counters == some.counters


@settings(max_examples=examples(200))
@given(SETUPS, LIVING, CUTS, st.sampled_from([0.0, 30.0, 3.0 * DAY]))
def test_windows_of_a_source_that_reports_that_it_lives_are_the_same_however_the_rows_are_fed(
    setup: Setup, story: list[tuple[str, Any]], where: list[int], old: float
) -> None:
    """The first values may be of long ago; with each batch, what was not sent is known to be unchanged."""
    # what is known to be unchanged for half a minute makes millions of windows at 50 kHz
    story = [
        ("hole", 50.0) if what == "hole_s" and size < 60 and setup.rate_hz > 3 else (what, size) for what, size in story
    ]
    rows = told(setup, story)
    old = old if setup.rate_hz <= 3 or old > 60 else 50 / setup.rate_hz
    first = [[row(setup, START - round(old * S), 99)]]
    one, some, each = setup.build(), setup.build(), setup.build()
    wanted = shown(feed(each, [*first, *([r] for r in rows)], living=True))
    assert shown(feed(one, [*first, rows], living=True)) == wanted
    assert shown(feed(some, [*first, *cut(rows, where)], living=True)) == wanted
    assert one.counters == each.counters == some.counters


# --- over a restart ---------------------------------------------------------------------------------------------


@given(SETUPS, st.integers(20, 60), st.integers(1, 50))
def test_windows_continue_over_a_restart(setup: Setup, count: int, stop: int) -> None:
    rows = [row(setup, START + round(i / setup.rate_hz * S), i) for i in range(count)]
    whole, before, after = setup.build(), setup.build(), setup.build()
    wanted = shown(feed(whole, [rows]))
    found = shown(feed(before, [rows[:stop]]))
    start = before.next_start()
    assert start is not None
    after.resume(start)
    needed = [r for r in rows[:stop] if r.time_ns >= start - setup.hold / setup.rate_hz * S]
    again = feed(after, [needed]) if needed else []
    after.end_replay()
    assert not again and found + shown(feed(after, [rows[stop:]])) == wanted


@pytest.mark.parametrize("years", [-50, -0.0001, 0.0001, 50])
@pytest.mark.parametrize("living", [False, True])
def test_a_clock_that_is_set_while_the_agent_is_off_stops_no_window(years: float, living: bool) -> None:
    setup = Setup()
    before, after = setup.build(), setup.build()
    feed(before, [[row(setup, START + i * S, i) for i in range(10)]])
    start = before.next_start()
    assert start is not None
    after.resume(start)
    after.end_replay()
    now = START + round(years * 365 * DAY) * S
    windows = feed(after, [[row(setup, now + i * S, i)] for i in range(20)], living)
    assert windows[0].end_ns == now + 4 * S and len(windows) == 16 and not any(w.missing for w in windows)


# --- waveforms --------------------------------------------------------------------------------------------------

BLOCKS = st.lists(
    st.one_of(
        st.just(("block", 0.0)),
        st.just(("block", 0.0)),
        st.tuples(st.just("block"), st.floats(-0.2, 0.2)),  # jitter, in blocks
        st.tuples(st.just("hole"), st.sampled_from([1.0, 3.0, 500.0])),  # blocks
        st.tuples(st.just("late"), st.sampled_from([2.0, 300.0])),
        st.tuples(st.just("set"), st.sampled_from([-2.0 * DAY, 2.0 * DAY])),  # s
    ),
    min_size=3,
    max_size=25,
)


@settings(max_examples=examples(100), deadline=None)
@given(BLOCKS, st.sampled_from([100.0, 12_800.0, 50_000.0]), st.sampled_from([8, 20]), st.booleans(), CUTS)
def test_windows_of_waveforms_are_the_same_however_the_blocks_are_fed(
    story: list[tuple[str, float]], rate: float, size: int, scalar: bool, where: list[int]
) -> None:
    def build() -> Assembler:
        tags = {"x": tag("x", waveform_hz=rate), **({"t": tag("t")} if scalar else {})}
        return Assembler("m", tags, [], rate, 16, 8, 3 * size / rate, 2 / rate)

    now, rows = 0.0, []
    for i, (what, how) in enumerate(story):
        now += {"block": size / rate, "hole": how * size / rate, "set": how}.get(what, 0.0)
        at = now + {"block": how * size / rate, "late": -how * size / rate}.get(what, 0.0)
        time_ns = START + round(at * S)
        values = np.arange(i * size, (i + 1) * size, dtype=np.float32)
        rows.append(
            Row(time_ns, [Reading("x", time_ns, values), *([Reading("t", time_ns, float(i))] if scalar else [])])
        )
    one, some, each = build(), build(), build()
    wanted = shown(feed(each, ([r] for r in rows)))
    assert shown(feed(one, [rows])) == wanted == shown(feed(some, cut(rows, where)))
    assert one.counters == each.counters == some.counters
