# SPDX-License-Identifier: Apache-2.0
"""Decide when to ask an edge node for its births, and when no answer means that it is dead. Pure.

Two kinds of reasons. *Wanted*: something is missing that only births can give (a lost message, an unknown alias); the
node sends, so it gets `MAX_UNANSWERED` requests. *Doubt*: evidence that the node may be dead (a death certificate of
another bdSeq, a long silence); it gets one request and `patience_s` to answer, or to send anything else in order.
"""

from __future__ import annotations

import math

MAX_UNANSWERED = 3  # requests while the node sends; then it counts as dead


class Rebirths:
    """The requests to one node. `interval_s`: least time between two; `patience_s`: how long a node in doubt has."""

    def __init__(self, interval_s: float, patience_s: float) -> None:
        self.wanted = False
        self.doubt = ""  # why the node may be dead; "" : no doubt
        self._interval_s, self._patience_s = interval_s, patience_s
        self._asked = False  # since the doubt began
        self._requested_at, self._unanswered = -math.inf, 0

    @property
    def pending(self) -> bool:
        """Whether silence of the node proves nothing until it answers."""
        return self.wanted or bool(self.doubt)

    def connected(self) -> None:
        """A new connection: births are requested at once."""
        self.__init__(self._interval_s, self._patience_s)  # type: ignore[misc]
        self.wanted = True

    def suspect(self, why: str) -> None:
        """Doubt that the node is alive, until it answers or sends."""
        if not self.doubt:
            self._asked = False
        self.doubt = why

    def heard(self) -> None:
        """The node sent something in order: it is alive."""
        self.doubt = ""

    def answered(self) -> None:
        """Births arrived."""
        self.wanted, self.doubt, self._unanswered = False, "", 0

    def ended(self, ask: bool) -> None:
        """The node counts as dead. `ask`: once more, should it only seem so; a dead node has nobody who listens."""
        self.wanted, self.doubt, self._unanswered = ask, "", 0

    def take(self, now: float, born: bool) -> bool:
        """Whether to send a request now; it then counts as sent. Without a birth, a node is asked when it sends."""
        doubted = bool(self.doubt) and not self._asked
        if not (self.wanted or doubted) or now < self._requested_at + self._interval_s:
            return False
        self._requested_at, self._unanswered = now, self._unanswered + 1
        self.wanted, self._asked = self.wanted and born, True
        return True

    def given_up(self, now: float) -> str:
        """Why a node that was alive now counts as dead; "" if it does not."""
        if self.doubt and self._asked and now >= self._requested_at + self._patience_s:
            return f"{self.doubt}, and a request for a rebirth has no answer in {self._patience_s:g} s"
        late = now >= self._requested_at + self._interval_s
        if self.wanted and self._unanswered >= MAX_UNANSWERED and late:
            return f"a message was lost and {MAX_UNANSWERED} requests for a rebirth have no answer"
        return ""
