# SPDX-License-Identifier: Apache-2.0
"""Windows that came before the model had its first samples wait in order; where there is no room, the oldest go."""

from __future__ import annotations

import numpy as np
from fedge_agent.machines.early import LEAST_BYTES, MOST_BYTES, EarlyWindows, Learnt
from fedge_agent.types import Window

KB = 1024


def learnt(end_ns: int, size: int = KB) -> Learnt:
    """A window whose arrays take `size` bytes."""
    values = np.zeros((1, size // 8 - 1))
    return Learnt(Window("pump", end_ns, values, 0.0, None, 0), np.zeros(1), None, {})


def test_they_are_taken_in_their_order_and_once() -> None:
    early = EarlyWindows(1)
    for end in (10, 20, 30):
        early.append(learnt(end))
    assert early.all_wait and len(early) == 3
    assert [one.window.end_ns for one in early.take()] == [10, 20, 30]
    assert not early.all_wait and len(early) == 0 and early.given_up == 0


def test_the_oldest_are_given_up_where_there_is_no_room_and_counted() -> None:
    early, room = EarlyWindows(64), MOST_BYTES // 64 // KB
    for end in range(room + 5):
        early.append(learnt(end))
    assert early.given_up == 5 and not early.all_wait  # a restart would find no more room
    assert [one.window.end_ns for one in early.take()] == list(range(5, room + 5))


def test_room_is_free_again_after_they_were_taken() -> None:
    early = EarlyWindows(10_000)
    for _ in range(3):
        for end in range(LEAST_BYTES // KB):
            early.append(learnt(end))
        assert len(list(early.take())) == LEAST_BYTES // KB
    assert early.given_up == 0
