# SPDX-License-Identifier: Apache-2.0
"""Whether the time of a metric fits that of the message which brought it. Pure.

A node sends a value after it was measured, so no metric is newer than its message: one that says so was stamped by
another clock, such as that of a device behind the node. A node that stamps its messages wrongly, but its metrics
rightly, is told by this: no metric of it ever had the time of its message.
"""

from __future__ import annotations

AHEAD_NS = 2 * 10**9  # further ahead of its message, a time is of another clock


class MessageClock:
    """The clock that stamps the messages of one node."""

    def __init__(self) -> None:
        self._borne_out = False  # a metric had a time near that of its message

    def ahead(self, time_ns: int, message_ns: int) -> int:
        """How far a metric's time is ahead of that of its message, ns; 0: it fits, or nothing speaks for the latter."""
        by = time_ns - message_ns
        if by <= AHEAD_NS:
            self._borne_out = self._borne_out or -by <= AHEAD_NS
            return 0
        return by if self._borne_out else 0
