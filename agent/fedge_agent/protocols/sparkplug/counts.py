# SPDX-License-Identifier: Apache-2.0
"""Counts of what a host received, and the problems of tags and nodes; shared by all nodes of a view. Pure."""

from __future__ import annotations

from collections import Counter

ORDINARY = ("messages", "births", "deaths", "historical", "null", "rebirths asked for")  # counted, but nothing is wrong


class Counts:
    """Counters under plain names, the last refusal, and the problems that changed since they were last taken."""

    def __init__(self) -> None:
        self.totals: Counter[str] = Counter()
        self.last_refusal: str | None = None
        self._taken: Counter[str] = Counter()
        self._changed: dict[str, str | None] = {}
        self._faulty: set[str] = set()

    def count(self, what: str) -> None:
        """Count one more."""
        self.totals[what] += 1

    def refuse(self, what: str, text: str) -> None:
        """Count one more, and remember why it was refused."""
        self.totals[what] += 1
        self.last_refusal = text

    def state(self, subject: str, text: str | None) -> None:
        """State (or with None: withdraw) the problem of a tag or node."""
        if text is not None:
            self._faulty.add(subject)
        elif subject not in self._faulty:
            return
        else:
            self._faulty.discard(subject)
        self._changed[subject] = text

    def take_problems(self) -> dict[str, str | None]:
        """Problems that were stated or withdrawn since the last call, by subject."""
        changed, self._changed = self._changed, {}
        return changed

    def take_unusable(self) -> dict[str, int]:
        """Input since the last call that could not be used, by what was wrong with it."""
        new = {what: n - self._taken[what] for what, n in self.totals.items() if what not in ORDINARY}
        self._taken = Counter(self.totals)
        return {what: n for what, n in new.items() if n}
