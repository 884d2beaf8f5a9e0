"""What is counted and said of what comes in, shared by all nodes of a view."""

from __future__ import annotations

from collections import Counter

ORDINARY = ("messages", "births", "deaths", "historical", "null", "rebirths asked for")  # counted, but nothing is wrong


class Ledger:
    """Counters under plain names, the last refusal in words, and what has changed of the problems of each subject."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.last: str | None = None
        self._told: Counter[str] = Counter()
        self._changed: dict[str, str | None] = {}
        self._faulty: set[str] = set()

    def count(self, what: str) -> None:
        """One more."""
        self.counts[what] += 1

    def refuse(self, what: str, text: str) -> None:
        """One more, and why."""
        self.counts[what] += 1
        self.last = text

    def say(self, subject: str, text: str | None) -> None:
        """State a problem of a tag or node, or (None) that there is none any more."""
        if text is not None:
            self._faulty.add(subject)
        elif subject not in self._faulty:
            return
        else:
            self._faulty.discard(subject)
        self._changed[subject] = text

    def take(self) -> dict[str, str | None]:
        """What was said since the last time."""
        changed, self._changed = self._changed, {}
        return changed

    def unusable(self) -> dict[str, int]:
        """What could not be used since the last time, by what was wrong with it."""
        new = {what: n - self._told[what] for what, n in self.counts.items() if what not in ORDINARY}
        self._told = Counter(self.counts)
        return {what: n for what, n in new.items() if n}
