# SPDX-License-Identifier: Apache-2.0
"""A picture with a wrong time is decided on as of now, and makes no other one late."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from fedge_agent.config.schema import TagConfig
from fedge_agent.types import Batch, Reading, Window
from fedge_agent.windows.picture_clock import WAIT_NS
from fedge_agent.windows.snapshots import Snapshots
from fedge_agent.windows.votes import MOST
from fedge_models.graph.card import ImageSpec

S = 1_000_000_000
START = 1_700_000_000 * S
HOUR, DAY, YEAR = 3600, 86_400, 365 * 86_400
PIXELS = np.zeros((4, 4), np.uint8)


def build(labels: Sequence[TagConfig] = ()) -> Snapshots:
    return Snapshots("line", TagConfig(source="cam", tag="*"), labels, ImageSpec(height=4, width=4), 1.0)


def picture(second: float, value: int = 0) -> Reading:
    return Reading("*", START + round(second * S), np.full((4, 4), value, np.uint8))


def push(made: Snapshots, seconds: Sequence[float], received_s: float = 0.0) -> list[Window]:
    return made.push(Batch("cam", [picture(s) for s in seconds], None, round(received_s * S)))


def seconds(windows: Sequence[Window]) -> list[float]:
    return [(w.end_ns - START) / S for w in windows]


@pytest.mark.parametrize("off", [10 * YEAR, -10 * YEAR, DAY, -HOUR])
def test_a_picture_with_a_wrong_time_is_decided_on_with_the_next_one(off: int) -> None:
    made, found = build(), list[Window]()
    for i in range(40):
        found += push(made, [10 * i + off * (i == 20)], 0.1 * i)
    assert len(found) == 40 and made.counters.times_implausible == 1 and made.counters.clock_jumps == 0
    times = seconds(found)
    assert times[:20] + times[21:] == [10 * i for i in range(40) if i != 20] and 190 <= times[20] < 210
    assert made.implausible_times() == {"picture": (1, START + (200 + off) * S, (10 + off) * S)}


def test_it_waits_for_no_more_than_a_moment() -> None:
    made = build()
    for i in range(20):
        push(made, [10 * i], 10 * i)
    assert push(made, [10 * YEAR], 200) == [] == made.overdue(201 * S)
    [waited] = made.overdue(200 * S + WAIT_NS)
    assert 190 * S <= waited.end_ns - START <= 202 * S and made.overdue(999 * S) == []
    assert seconds(push(made, [210], 210)) == [210] and made.counters.times_implausible == 1


def test_what_waits_at_the_end_is_given_out() -> None:
    made = build()
    push(made, range(20))
    assert push(made, [10 * YEAR]) == [] and len(made.overdue(0, all_of_them=True)) == 1


@pytest.mark.parametrize("off", [HOUR, -HOUR, DAY, -10 * YEAR])
@pytest.mark.parametrize("paced", [False, True])
def test_a_third_of_the_pictures_with_another_clock_moves_nothing(off: int, paced: bool) -> None:
    for seed in range(8):
        wrong = np.random.default_rng(seed).random(200) < 1 / 3
        wrong[0] = False
        made, found = build(), list[Window]()
        for i in range(200):
            found += push(made, [10 * i + off * int(wrong[i])], 10 * i if paced else 0.0)
        found += made.overdue(10**9 * S, all_of_them=True)
        assert len(found) == 200 and made.counters.clock_jumps == 0
        assert all(-100 < s < 2200 for s in seconds(found)), seed
        own = set(seconds(found))
        assert {10.0 * i for i in range(200) if not wrong[i]} <= own, seed
        assert sum(wrong) - made.counters.times_implausible in range(52)


@pytest.mark.parametrize("step", [HOUR, -HOUR, 400 * DAY, -10 * YEAR])
def test_a_camera_whose_clock_is_set_is_followed(step: int) -> None:
    """Meanwhile each picture has a time of the old clock."""
    made, found = build(), list[Window]()
    for i in range(60):
        found += [*made.overdue(10 * i * S), *push(made, [10 * i + step * (i >= 30)], 10 * i)]
    times = seconds(found)
    assert len(times) == 60 and times[30 + MOST :] == [10 * i + step for i in range(30 + MOST, 60)]
    assert all(250 < s < 450 for s in times[30 : 30 + MOST - 1]) and made.counters.times_implausible == 0


def test_the_nights_of_a_folder_that_is_read_in_one_go_are_no_wrong_times() -> None:
    made = build()
    times = [day * DAY + 30.0 * i for day in range(4) for i in range(50)]
    found = [w for t in times for w in push(made, [t])]
    assert sorted(seconds(found)) == times and made.counters.times_implausible == 0


def test_a_break_that_passed_here_too_is_no_wrong_time() -> None:
    made = build()
    push(made, [0, 10, 20], 20)
    assert seconds(push(made, [DAY], DAY)) == [DAY]


def test_a_picture_of_2036_keeps_no_other_one_from_its_label() -> None:
    made = build([TagConfig(source="plc", tag="depth")])
    labelled = list[Window]()
    for i in range(40):
        made.push(Batch("plc", [Reading("depth", START + 10 * i * S, float(i))], START + 10 * i * S, 0))
        push(made, [10 * i + 10 * YEAR * (i == 20)])
        labelled += made.labelled()
    made.push(Batch("plc", [], START + 999 * S, 0))
    labelled += made.labelled()
    found = {(w.end_ns - START) / (10 * S): w.label for w in labelled}
    assert len(labelled) == 40 and all(found[i] == i for i in range(40) if i != 20)
    assert [w.label for w in labelled if (w.end_ns - START) % (10 * S)] == [None]


@pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 0.6, 1.0])
@pytest.mark.parametrize("paced", [False, True])
def test_whatever_the_times_are_each_picture_is_given_out_once(share: float, paced: bool) -> None:
    for seed in range(12):
        rng = np.random.default_rng(seed)
        made, found, now, received, off = build(), list[Window](), 0.0, 0.0, 0.0
        for i in range(120):
            step = float(rng.choice([0.2, 5, 30, 3000, 60_000], p=[0.3, 0.3, 0.3, 0.08, 0.02]))
            now, received = now + step, received + (step if paced else 0.05)
            off += float(rng.choice([-1, 1]) * 10 ** rng.uniform(1, 7)) * (rng.random() < 0.02)  # the clock was set
            wrong = float(rng.choice([-1, 1]) * 10 ** rng.uniform(1, 8)) * (rng.random() < share)
            found += made.overdue(round(received * S))
            found += made.push(Batch("cam", [picture(now + off + wrong, i)], None, round(received * S)))
        found += made.overdue(round(received * S), all_of_them=True)
        assert sorted(w.values.flat[0] for w in found) == list(range(120)), seed
        assert len({w.end_ns for w in found}) >= 118, seed
