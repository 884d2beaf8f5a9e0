# SPDX-License-Identifier: Apache-2.0
"""When the recordings of one gateway begin: those with times in common keep them to each other; others begin at once.

A table of March and pictures of June would else be months apart. Spans are (first, last) in ns. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping

Span = tuple[int, int]


def meet(one: Span, other: Span) -> bool:
    """Whether two spans have a time in common."""
    return one[0] <= other[1] and other[0] <= one[1]


def together(spans: Mapping[str, Span]) -> dict[str, int]:
    """Name -> the time at which its replay begins: that of the earliest of those that it meets, by others or itself."""
    begins = dict[str, int]()
    end, begin = None, 0
    for name, (first, last) in sorted(spans.items(), key=lambda entry: entry[1]):
        if end is None or first > end:
            begin, end = first, last
        begins[name], end = begin, max(end, last)
    return begins


def longest_s(spans: Mapping[str, Span], begins: Mapping[str, int]) -> float:
    """How long the longest replay lasts at real time, s."""
    return max((last - begins[name]) / 1e9 for name, (_, last) in spans.items())
