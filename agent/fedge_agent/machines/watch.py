# SPDX-License-Identifier: Apache-2.0
"""What was seen of an asset's windows and decisions: the pace, the share with gaps, the last score.

Written by the main thread, read by any: each value is replaced, or copied, in one step. Ages are those of the monotonic
clock, which is passed in. The judgement is left to `condition_judge`.
"""

from __future__ import annotations

import math
from collections import deque
from statistics import median

from ..types import Array, Decision

WINDOWS = 100  # of which the share with gaps is kept
INTERVALS = 32  # between batches that completed windows


class Watch:
    """The last windows and decisions of one asset."""

    def __init__(self, now: float) -> None:
        self.began = now  # from when on it could decide
        self.decided: float | None = None  # the last decision
        self.accepted: float | None = None  # the last window without too many gaps
        self.decision: Decision | None = None
        self._received = 0.0  # when the batch came that completed the last accepted window
        self._intervals: deque[float] = deque(maxlen=INTERVALS)
        self._refused = self._windows = 0  # recent ones: a bit each, the newest is the lowest; and how many there are
        self._missing: Array | None = None  # share of each row without a value, in the newest window with gaps
        self._without = 0  # recent windows for which a formula gave no number: a bit each
        self._undefined: tuple[str, ...] = ()  # the derived channels of the last of those

    def begin(self, now: float) -> None:
        """From now on there is a model, and windows come."""
        self.began = now

    def window(self, missing: Array | None, refused: bool, received: float, undefined: tuple[str, ...] = ()) -> None:
        """A window was completed; missing: the share of each row without a value, None: there are no gaps; undefined:
        the derived channels whose formulas gave no number."""
        self._missing = missing
        self._refused = (self._refused << 1 | refused) & ((1 << WINDOWS) - 1)
        self._without = (self._without << 1 | bool(undefined)) & ((1 << WINDOWS) - 1)
        self._undefined = undefined or self._undefined
        self._windows = min(self._windows + 1, WINDOWS)
        if refused or undefined:
            return
        if self.accepted is not None and received > self._received:
            self._intervals.append(received - self._received)
        self.accepted = self._received = received

    def decide(self, decision: Decision, now: float) -> None:
        """A window was decided on."""
        self.decision, self.decided = decision, now

    @property
    def usual_s(self) -> float | None:
        """Usual time between two batches that complete windows; None: not known."""
        intervals = tuple(self._intervals)
        return median(intervals) if intervals else None

    @property
    def windows(self) -> tuple[int, int]:
        """Recent windows that had too many gaps, of how many."""
        return self._refused.bit_count(), self._windows

    @property
    def undefined(self) -> tuple[int, tuple[str, ...]]:
        """Recent windows for which a formula gave no number, and the derived channels of the last of those."""
        return self._without.bit_count(), self._undefined

    @property
    def newest_refused(self) -> bool:
        """Whether the newest window had too many gaps."""
        return bool(self._refused & 1)

    @property
    def score(self) -> float:
        """Score of the last decision; NaN if one of its estimates is not finite."""
        decision = self.decision
        if decision is None:
            return 0.0
        return decision.score if all(map(math.isfinite, decision.values.values())) else math.nan

    def missing(self, names: list[str]) -> dict[str, float]:
        """Share of each channel without a value, in the newest window."""
        shares = self._missing
        return {} if shares is None else dict(zip(names, shares.tolist(), strict=False))
