# SPDX-License-Identifier: Apache-2.0
"""The contract of a runner, which decides where column blocks are computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from numpy.typing import NDArray

from .update_rows import Rows

Task = Callable[[Rows, int, int], NDArray[Any]]  # pure and picklable: rows, start, stop
Part = tuple[int, int, NDArray[Any]]  # start, stop, the task's result


class Runner(Protocol):
    """Runs a task over all columns of the rows."""

    def map(self, task: Task, rows: Rows, alone: bool = False) -> Iterator[Part]:
        """Yield parts for spans of whole blocks that cover all columns once, in any order.

        alone: the task is faster if no other task runs in the same interpreter.
        """


def split(d: int, width: int, parts: int) -> list[tuple[int, int]]:
    """At most `parts` spans (start, stop) of about equal length over 0..d-1, all but the last of whole blocks."""
    step = max(1, -(-d // (width * parts))) * width
    return [(start, min(start + step, d)) for start in range(0, d, step)]
