# SPDX-License-Identifier: Apache-2.0
"""Which servers keep a connection open after an answer, by what they did so far. Pure: the clock is passed in.

Some servers close after each answer without announcing it. What follows at once is then lost on its way, and nobody
knows whether it was received. So a request that must not be sent twice goes over a kept connection only when a kept one
of that server has lived: a request over it was answered, or it was still open some time after an answer.
"""

from __future__ import annotations

LIVES_S = 1.0  # a connection that is open so long after an answer was not closed by it
UNKEPT_S = 3600.0  # no connection is kept so long to a server that closes them
MOST = 32  # servers that are remembered


class Keeping:
    """What is known of the servers of one target. Times are monotonic, s."""

    def __init__(self) -> None:
        self._lived: dict[tuple[str, str], float] = {}  # since
        self._unkept_until: dict[tuple[str, str], float] = {}

    def keeps(self, server: tuple[str, str]) -> bool:
        """Whether a kept connection of that server has lived, and none was lost since."""
        return server in self._lived

    def may_keep(self, server: tuple[str, str], now: float) -> bool:
        """Whether a connection is worth being kept."""
        return now >= self._unkept_until.get(server, now)

    def lived(self, server: tuple[str, str], now: float) -> None:
        """Note that a kept connection was of use, or is open still."""
        _put(self._lived, server, now)

    def ended(self, server: tuple[str, str], idle_s: float, now: float) -> None:
        """Note that one was found closed before anything was sent over it."""
        if idle_s < LIVES_S:
            self._close_to(server, now)

    def lost(self, server: tuple[str, str], idle_s: float, closed: bool, now: float) -> None:
        """Note that a request over one had no answer. One that idled may have ended by a time limit of the server."""
        self._lived.pop(server, None)
        if idle_s < LIVES_S or not closed:
            self._close_to(server, now)

    def _close_to(self, server: tuple[str, str], now: float) -> None:
        self._lived.pop(server, None)
        _put(self._unkept_until, server, now + UNKEPT_S)


def _put(known: dict[tuple[str, str], float], server: tuple[str, str], at: float) -> None:
    """Note it as the newest; the oldest is forgotten."""
    known.pop(server, None)
    known[server] = at
    if len(known) > MOST:
        known.pop(next(iter(known)))
