# SPDX-License-Identifier: Apache-2.0
"""In which order the rows of a table stand: only rows that go forward can be followed. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from .clock import HOUR_NS

AGREE = 3  # rows behind the newest that go forward: the newest was wrong, or the clock was set back
RUN = 10  # rows of one tag, one behind the other: the tables of historians, not the values of one moment


class Order(NamedTuple):
    """How rows stand, and the index of the first one that goes back; -1: none does."""

    kind: str  # "forward", "newest first", "tag by tag", "hour again", "unsorted"
    at: int = -1


FORWARD = Order("forward")


class Forward:
    """Whether rows go forward, as they come. One time that is far ahead costs few rows: then the others are right."""

    def __init__(self) -> None:
        self._newest = 0
        self._behind, self._agreeing = 0, 0  # the last row behind the newest, and how many went forward

    def goes_back(self, at: int) -> bool:
        """Whether a row is behind those before it."""
        if at >= self._newest:
            self._newest, self._agreeing = at, 0
            return False
        self._agreeing = self._agreeing + 1 if self._agreeing and at > self._behind else 1
        self._behind = at
        if self._agreeing > AGREE:
            self._newest, self._agreeing = at, 0
            return False
        return True


def of_rows(times: Sequence[int], tags: Sequence[str] = ()) -> Order:
    """The order of rows with these times; tags: of each row, where a row has the value of one."""
    if tags:
        return _of_tags(times, tags)
    steps = [b - a for a, b in pairwise(times)]
    back = [i for i, step in enumerate(steps, 1) if step < 0]
    if not back:
        return FORWARD
    forward = sum(step > 0 for step in steps)
    if forward * 10 <= len(back):
        return Order("newest first", back[0])
    if len(back) == 1 and -HOUR_NS <= steps[back[0] - 1] <= -HOUR_NS // 3 and len(times) > 2:
        return Order("hour again", back[0])
    return Order("unsorted", back[0])


def _of_tags(times: Sequence[int], tags: Sequence[str]) -> Order:
    """Rows of other tags may lie between: each tag goes forward, and none has a long run before the next one."""
    own: dict[str, list[int]] = {}
    for tag, time_ns in zip(tags, times, strict=True):
        own.setdefault(tag, []).append(time_ns)
    kinds = sorted({of_rows(of_tag).kind for of_tag in own.values()} - {"forward"})
    for i in range(1, len(times)):
        if times[i] < times[i - 1]:
            if kinds:
                return Order(kinds[0], i)
            if _run_before(tags, i) >= RUN:
                return Order("tag by tag", i)
    return FORWARD


def runs(tags: Sequence[str]) -> int:
    """How many runs of rows of one tag there are."""
    return sum(a != b for a, b in pairwise(tags)) + bool(tags)


def _run_before(tags: Sequence[str], i: int) -> int:
    """How many rows of one tag stand right before a row."""
    count = 1
    while count < i and tags[i - 1 - count] == tags[i - 1]:
        count += 1
    return count
