# SPDX-License-Identifier: Apache-2.0
"""A random sample of the readings of one machine's windows, from which statistics are made; it never leaves the site.

Reservoir sampling (Vitter 1985, Algorithm R, doi:10.1145/3147.3165): of all windows so far each is as likely to be in
it. From `MOST_SEEN` windows on the newest replace older ones at a constant rate, so the sample follows the machine
(Aggarwal 2006, biased reservoir sampling). Windows that overlap the last one taken are skipped: they would count the
same readings twice. The main thread puts windows in; any thread may read, and sees at worst a mix of two windows.
"""

from __future__ import annotations

import math
import random
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

WINDOWS = 256  # that are held
VALUES = 4  # of each channel and window, evenly placed
MOST_SEEN = 64 * WINDOWS
LARGEST = 3e38  # in float32

Floats = NDArray[np.float32]


class Held(NamedTuple):
    """A copy of what a reservoir holds."""

    names: tuple[str, ...]
    seen: int  # windows, without overlapping ones
    values: Floats  # (windows, channels, VALUES), NaN where there was none
    scores: Floats  # (windows,) as parts of their limit, NaN where there was none


class Reservoir:
    """The sample of one machine; empty until `begin`."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)  # chooses windows; not used for secrecy
        self._names: tuple[str, ...] = ()
        self._span_ns = 0
        self._last_ns: int | None = None
        self._slot: int | None = None  # of the window at hand
        self._seen = 0
        self._values: Floats = np.empty((0, 0, VALUES), np.float32)
        self._scores: Floats = np.empty(0, np.float32)

    def begin(self, names: tuple[str, ...], span_ns: int) -> None:
        """Take windows of these channels, each of which covers so much source time; what is of others is dropped."""
        self._span_ns = span_ns
        if names != self._names:
            shape = WINDOWS, len(names), VALUES
            self._hold(names, 0, np.full(shape, np.nan, np.float32), np.full(WINDOWS, np.nan, np.float32))

    @property
    def seen(self) -> int:
        """How many windows there were, without overlapping ones."""
        return self._seen

    def take(self, values: NDArray[Any], end_ns: int) -> None:
        """Take a window in, or leave it out; values: (channels or more, ...) in the channels' order."""
        self._slot = None
        if self._last_ns is not None and 0 <= end_ns - self._last_ns < self._span_ns:
            return
        self._last_ns = end_ns
        seen = self._seen = self._seen + 1
        slot = seen - 1 if seen <= WINDOWS else int(self._random.random() * min(seen, MOST_SEEN))
        if slot >= WINDOWS:
            return
        self._slot = slot
        rows = values[: len(self._names)].reshape(len(self._names), -1)
        self._values[slot] = np.clip(rows[:, _places(rows.shape[1])], -LARGEST, LARGEST)
        self._scores[slot] = np.nan

    def score(self, score: float, limit: float) -> None:
        """Note the score of the window that was taken last, as a part of its limit, if it has one."""
        if self._slot is not None and 0 < limit < math.inf and math.isfinite(score):
            self._scores[self._slot] = max(-LARGEST, min(score / limit, LARGEST))

    def held(self) -> Held:
        """A copy of what it holds. Any thread."""
        count = min(self._seen, WINDOWS)
        return Held(self._names, self._seen, self._values[:count].copy(), self._scores[:count].copy())

    def restore(self, held: Held) -> None:
        """Resume from what was held before a restart; before the first window."""
        count, shape = len(held.values), (WINDOWS, len(held.names), VALUES)
        values, scores = np.full(shape, np.nan, np.float32), np.full(WINDOWS, np.nan, np.float32)
        values[:count], scores[:count] = held.values, held.scores
        self._hold(held.names, held.seen, values, scores)

    def _hold(self, names: tuple[str, ...], seen: int, values: Floats, scores: Floats) -> None:
        self._names, self._seen, self._values, self._scores = names, seen, values, scores


def _places(length: int) -> NDArray[np.int64]:
    """`VALUES` places, evenly over so many samples."""
    return ((np.arange(VALUES) + 0.5) * length / VALUES).astype(np.int64)
