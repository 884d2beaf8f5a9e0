# SPDX-License-Identifier: Apache-2.0
"""Blocks in threads of this process: NumPy releases the interpreter's lock while it computes a block."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

from .runner import Part, Task, split
from .update_rows import Rows


class Threads:
    """Threads, one for each processor of this process unless `count` is given; the same ones every time.

    New threads would each get a heap of their own, and memory would seem to grow from round to round.
    """

    def __init__(self, count: int | None = None) -> None:
        self.count = count or processors()

    def map(self, task: Task, rows: Rows, alone: bool = False) -> Iterator[Part]:
        """Yield parts in order, a few for every thread."""
        spans = split(rows.d, rows.width, 4 * self.count)
        if alone or self.count == 1 or len(spans) == 1:
            yield from ((start, stop, task(rows, start, stop)) for start, stop in spans)
            return
        done = self._pool.map(lambda span: task(rows, *span), spans)
        yield from ((start, stop, part) for (start, stop), part in zip(spans, done, strict=True))

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.count, thread_name_prefix="blocks")


def processors() -> int:
    """The number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
