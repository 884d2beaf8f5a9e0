# SPDX-License-Identifier: Apache-2.0
"""Whether the primary host application of our edge node is online, by its STATE messages (Sparkplug 3.0, 5.4). Pure.

A message whose time stamp is older than the one before is of an earlier connection of the host, and does not count. The
text ONLINE or OFFLINE at STATE/<host>, as hosts of version 2.2 write it, counts as long as no STATE of version 3 came.
"""

from __future__ import annotations

from fedge_models.errors import WireError

from . import topics

OLD_STATES = {b"ONLINE": True, b"OFFLINE": False}


class PrimaryHost:
    """One host application, as one connection sees it."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.topics = (topics.state_topic(host), f"STATE/{host}")
        self.online: bool | None = None  # None: no STATE came
        self._stamp: int | None = None  # of the newest STATE of version 3
        self.refused = ""  # why the last message did not count

    def take(self, topic: str, payload: bytes) -> None:
        """Read a message of one of the topics. Raises WireError when it is no STATE."""
        if topic not in self.topics:
            raise WireError(f"topic {topic[:200]!r}; expected {self.topics[0]}")
        if topic == self.topics[1]:
            self._take_old(payload)
            return
        state = topics.read_state(payload)
        if self._stamp is not None and state.timestamp < self._stamp:
            self.refused = f"its time stamp {state.timestamp} is older than the one before, {self._stamp}"
            return
        self._stamp, self.online, self.refused = state.timestamp, state.online, ""

    def _take_old(self, payload: bytes) -> None:
        if payload not in OLD_STATES:
            raise WireError(f"STATE {payload[:40]!r} in the old format; expected ONLINE or OFFLINE")
        if self._stamp is None:
            self.online = OLD_STATES[payload]

    def __str__(self) -> str:
        """Why no births are sent, for people."""
        if self.online is None:
            return f"no STATE of the primary host {self.host!r} at {self.topics[0]}; is it connected to this broker?"
        known = "online" if self.online else "offline"
        return f"the primary host {self.host!r} is {known}" + (f" ({self.refused})" if self.refused else "")
