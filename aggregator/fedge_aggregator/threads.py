"""Blocks in threads of this process: NumPy releases the interpreter's lock while it works on one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from numpy.typing import NDArray

from .rows import Rows


class Threads:
    """As many at once as there are processors for this process, unless told otherwise."""

    def __init__(self, count: int | None = None) -> None:
        self.count = count or processors()

    def map(self, task: Callable[[int, int], NDArray[Any]], rows: Rows) -> Iterator[tuple[int, int, NDArray[Any]]]:
        """(start, stop, task(start, stop)) for spans of whole blocks, a few for every thread."""
        spans = split(rows.d, rows.width, 4 * self.count)
        if self.count == 1 or len(spans) == 1:
            yield from ((start, stop, task(start, stop)) for start, stop in spans)
            return
        with ThreadPoolExecutor(self.count) as pool:
            done = pool.map(lambda span: task(*span), spans)
            yield from ((start, stop, part) for (start, stop), part in zip(spans, done, strict=True))


def processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def split(d: int, width: int, parts: int) -> list[tuple[int, int]]:
    """At most `parts` spans (start, stop) of about equal length that cover 0..d-1, of whole blocks but the last."""
    step = max(1, -(-d // (width * parts))) * width
    return [(start, min(start + step, d)) for start in range(0, d, step)]
