# SPDX-License-Identifier: Apache-2.0
"""What could not be used of a table: counted by kind, each with its last example; a problem where it lasts. Pure."""

from __future__ import annotations

from typing import Protocol

from fedge_models.system.text import printable

LASTS = 10  # rows in a row with the same fault


class Count(Protocol):
    """Counts something by what was wrong with it, with an example."""

    def __call__(self, what: str, by: int = 1, example: str = "") -> None:
        """Count."""


class State(Protocol):
    """States (None: withdraws) a problem under a subject."""

    def __call__(self, subject: str, text: str | None) -> None:
        """State or withdraw."""


def ignore(what: str, by: int = 1, example: str = "") -> None:
    """Count nothing."""


def silent(subject: str, text: str | None) -> None:
    """State nothing."""


class Faults:
    """The faults of one file. A subject is what a fault is of: the cells of rows, their time, a column."""

    def __init__(self, count: Count = ignore, state: State = silent) -> None:
        self._count, self.state = count, state
        self.lasting: dict[str, int] = {}  # subject -> how many times since the last good one

    def note(self, kind: str, example: str, by: int = 1) -> None:
        """Count something that is no fault of the file."""
        self._count(kind, by, printable(example))

    def add(self, kind: str, example: str, subject: str) -> None:
        """Count a fault; a problem once it came so many times in a row."""
        example = printable(example)
        self._count(kind, 1, example)
        self.lasting[subject] = self.lasting.get(subject, 0) + 1
        if self.lasting[subject] == LASTS:
            self.state(f"rows ({subject})", f"{kind}, row after row; e.g. {example}")

    def end(self, subject: str) -> None:
        """Note a row or cell without this fault."""
        if self.lasting and self.lasting.pop(subject, 0) >= LASTS:
            self.state(f"rows ({subject})", None)
