# SPDX-License-Identifier: Apache-2.0
"""How long ago something happened to an order, by a clock that nobody sets.

Promises: an age is never longer than the true one, as far as this process can know, and it grows while the process
runs. So a wall clock that is set neither ends a wait early nor keeps one for ever.
"""

from __future__ import annotations

from collections.abc import Callable

from .orders import MAX_ORDERS

LONGEST_S = 30 * 86400.0  # between two processes; what is longer is more likely a wall clock that was set


class Ages:
    """When something happened, by the key of its event. Both clocks in seconds."""

    def __init__(self, monotonic: Callable[[], float], wall: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._began, self._wall_began = monotonic(), wall()
        self._at: dict[str, float] = {}

    def note(self, key: str) -> None:
        """It happened now."""
        self._at[key] = self._monotonic()
        if len(self._at) > MAX_ORDERS:
            del self._at[next(iter(self._at))]

    def forget(self, key: str) -> None:
        """Nobody will ask any more."""
        self._at.pop(key, None)

    def at_least(self, key: str) -> float:
        """Seconds since it happened; since this process began, if it happened before that."""
        return self._monotonic() - self._at.get(key, self._began)

    def about(self, key: str, unix_s: float) -> float:
        """The same, and what passed before this process by the wall clock; nothing if that clock was surely set."""
        before = 0.0 if key in self._at else self._wall_began - unix_s
        return self.at_least(key) + (before if 0.0 <= before <= LONGEST_S else 0.0)
