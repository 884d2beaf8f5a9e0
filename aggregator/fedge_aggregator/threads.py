"""Blocks in threads of this process: NumPy releases the interpreter's lock while it works on one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from .rows import Rows
from .runner import Part, Task, split


class Threads:
    """As many at once as there are processors for this process, unless told otherwise."""

    def __init__(self, count: int | None = None) -> None:
        self.count = count or processors()

    def map(self, task: Task, rows: Rows) -> Iterator[Part]:
        """Parts in order, a few for every thread."""
        spans = split(rows.d, rows.width, 4 * self.count)
        if self.count == 1 or len(spans) == 1:
            yield from ((start, stop, task(rows, start, stop)) for start, stop in spans)
            return
        with ThreadPoolExecutor(self.count) as pool:
            done = pool.map(lambda span: task(rows, *span), spans)
            yield from ((start, stop, part) for (start, stop), part in zip(spans, done, strict=True))


def processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
