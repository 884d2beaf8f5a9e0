# SPDX-License-Identifier: Apache-2.0
"""Count the releases that the canary refuses at this gateway, and say when that needs a person.

One refusal may be chance, as a test on few held-back samples is sometimes wrong; the next release then serves.
Refusals that go on mean that this site differs from the others, that its samples or labels are wrong, or that the
federation is attacked. The gateway then decides with a model that no longer follows the others, so somebody has to
know: after `MANY` in a row, or, where releases are rare, after two or more that are a day apart.
"""

from __future__ import annotations

from typing import Any

from fedge_models.system.text import counted

MANY = 5  # in a row: releases that follow each other are alike, so two or three wrong tests may come together
LONG_S = 86400.0  # from the first of at least two in a row
LISTED = 10
ADVICE = (
    "look whether labels and samples of this site are right (fedge-agent status, compare), and tell the aggregator's "
    "operator; canary_tolerance sets how much worse a release may be"
)


class RefusedReleases:
    """The releases that this gateway refused since the start; times are monotonic, s."""

    def __init__(self) -> None:
        self.total = self.in_a_row = 0
        self.why: dict[int, str] = {}  # release -> why it was refused; the last few
        self._at_start: int | None = None  # the newest release that was stored before the start
        self._first = 0.0  # when the first of those in a row was refused
        self._last = 0.0

    def note(self, release: int, why: str, now: float) -> None:
        """Count a release that was refused."""
        self._first = self._first if self.in_a_row else now
        self.total, self.in_a_row, self._last = self.total + 1, self.in_a_row + 1, now
        self.why = {**dict(list(self.why.items())[1 - LISTED :]), release: why}

    def restored(self, head: int | None) -> None:
        """Note the newest release of before the start: it is not tried again."""
        self._at_start = head

    def accepted(self) -> None:
        """Note that the newest release serves."""
        self.in_a_row = 0

    def status(self, head: int | None, serves: int | None) -> dict[str, Any]:
        """For the status page; head: the newest release known, serves: the one that decides (0: the model file)."""
        text = self._text(head, serves)
        return {"total": self.total, "in_a_row": self.in_a_row, "text": text, "problem": text if self._lasts else None}

    @property
    def _lasts(self) -> bool:
        return self.in_a_row >= MANY or (self.in_a_row > 1 and self._last - self._first >= LONG_S)

    def _text(self, head: int | None, serves: int | None) -> str | None:
        """Return the refused release, the reason and how many were refused in a row; None if none was refused."""
        if self.in_a_row:
            text = f"refused {list(self.why.values())[-1]}; {self.in_a_row} in a row"
            return f"{text}: {ADVICE}" if self._lasts else text
        if head is not None and head == self._at_start and serves is not None and serves < head:
            return f"release {head} does not serve: it was refused, or not tried, before the agent was started"
        if self.total:
            return f"{counted(self.total, 'release')} refused since the start, the last {list(self.why)[-1]}"
        return None
