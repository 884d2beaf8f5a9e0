# SPDX-License-Identifier: Apache-2.0
"""A long stretch of the past: in the order of its times, and in pieces between which others have their turn."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

from fedge_agent.config.schema import TagConfig
from fedge_agent.durable.inbox import Inbox
from fedge_agent.sources.host import HostedSource, Queue
from fedge_agent.sources.order import PIECE, in_time_order, pieces
from fedge_agent.types import Batch, Reading, Source, SourceHost
from fedge_agent.windows.assembler import Assembler
from hypothesis import given
from hypothesis import strategies as st
from support.at_end import AtEnd
from support.waiting import until

S = 10**9
T0 = 1_700_000_000 * S


def stretch(tag: str, first: int, count: int) -> list[Reading]:
    return [Reading(tag, T0 + (first + i) * S, float(first + i)) for i in range(count)]


def test_whole_stretches_of_one_tag_after_the_other_are_merged() -> None:
    readings = [*stretch("a", 0, 100), *stretch("b", 0, 100)]
    random.Random(1).shuffle(groups := [readings[:100], readings[100:]])
    ordered = in_time_order([r for group in groups for r in group])
    assert [r.time_ns for r in ordered] == [T0 + i // 2 * S for i in range(200)]
    made = Assembler("m", {t: TagConfig(source="s", tag=t) for t in "ab"}, [], 1.0, 5, 1, 3.0, 2.0)
    windows = [w for part in pieces(ordered) for w in made.push(Batch("s", part, None, 0))]
    assert len(windows) == 96 and not any(w.missing for w in windows) and made.counters.late == 0


def test_what_comes_late_or_after_a_clock_was_set_is_not_mixed_with_what_came_before() -> None:
    late = [*stretch("a", 0, 5), *stretch("a", 2, 1), *stretch("a", 5, 3)]
    assert in_time_order(late) == late
    again = [*stretch("a", 9, 2), *stretch("b", 8, 2), *stretch("a", 0, 2), *stretch("b", 0, 2)]
    seconds = [(r.tag, (r.time_ns - T0) // S) for r in in_time_order(again)]
    assert seconds == [("b", 8), ("a", 9), ("b", 9), ("a", 10), ("a", 0), ("b", 0), ("a", 1), ("b", 1)]


@given(st.lists(st.integers(0, 40), max_size=600))
def test_pieces_are_the_whole_and_end_between_two_times(seconds: list[int]) -> None:
    readings = [Reading("a", T0 + s * S, 0.0) for s in sorted(seconds)]
    parts = list(pieces(readings))
    assert [r for part in parts for r in part] == readings
    assert all(a[-1].time_ns < b[0].time_ns for a, b in pairwise(parts))
    assert all(len(part) <= PIECE or part[PIECE - 1].time_ns == part[-1].time_ns for part in parts)


class Backlog(Source):
    """Hands over a long stretch at once."""

    def run(self, tags: object, host: SourceHost) -> None:
        host.store(stretch("a", 0, 10 * PIECE), None, [b"chunk"])
        host.stop.wait()

    def check(self, tags: object) -> list[str]:
        return []


def test_others_have_their_turn_within_a_long_stretch_and_the_inbox_is_done_with_the_last_piece(
    at_end: AtEnd, tmp_path: Path
) -> None:
    inbox, queue = at_end(Inbox(tmp_path / "inbox.sqlite", 1 << 24, 1e9)), Queue(1000)
    hosted = HostedSource("log", Backlog(), ["a"], queue, tmp_path, inbox)
    hosted.start()
    until(lambda: len(queue) >= 2, hosted.status)
    queue.put(Batch("plc", [Reading("x", T0, 1.0)], T0, 0))
    taken = [batch for _ in range(11) if (batch := queue.get(60.0)) is not None]
    hosted.join(5)
    assert [b.source for b in taken].index("plc") < 4
    rows = [b.inbox_row for b in taken if b.source == "log"]
    assert len(rows) == 10 and rows[-1] > 0 and not any(rows[:-1])
    assert [b.fresh for b in taken if b.source == "log"] == [True] + 9 * [False]


def test_an_empty_batch_is_one_piece() -> None:
    assert list(pieces([])) == [[]]
