# SPDX-License-Identifier: Apache-2.0
"""Turn the silence of a machine into an event: one when it decided and does so no more, one when it decides again.

Silence is measured by the monotonic clock while the gateway runs; what was counted before a restart is added, the time
in between is not. A machine that never decided is not silent: it waits. Pure; the clock is passed in.
"""

from __future__ import annotations

import math

import msgspec

from ..config.schema import When
from ..types import SILENT, Decision, Event, SilenceState

MARK_S = 60.0  # how often a growing silence is worth storing


class Silence:
    """The silence of one asset."""

    def __init__(self, gateway: str, asset: str, when: When, state: SilenceState, now: float, run: str) -> None:
        """now: monotonic s; run: names this start of the agent in the keys of its events, see `event_names.new_run`."""
        self._gateway, self._asset, self._when, self._run = gateway, asset, when, run
        self._stored, self._since = state, now
        self._last: Decision | None = None  # newer than the state; one struct less to build for each decision

    @property
    def state(self) -> SilenceState:
        """As of the last decision or event."""
        was, last = self._stored, self._last
        if last is None:
            return was
        return SilenceState(was.number, False, True, 0.0, last.time_ns, last.model, last.release, was.run)

    def resume(self, state: SilenceState) -> None:
        """Continue from a stored state, if it is newer."""
        if _order(state) > _order(self.state):
            self._stored, self._last = state, None

    def at(self, now: float) -> SilenceState:
        """The state to store."""
        return msgspec.structs.replace(self.state, silent_s=self._silent_s(now))

    def mark(self, now: float) -> tuple[bool, int]:
        """What has to be stored soon when it changes."""
        return self.state.decided, 0 if self.state.opened else int(self._silent_s(now) / MARK_S)

    def decided(self, decision: Decision, now: float) -> tuple[Event, SilenceState] | None:
        """The event that a decision makes: the machine decides again."""
        was, self._last, self._since = self._stored, decision, now
        if not was.opened:
            return None
        self._stored, self._last = self.state, None
        return self._event("cleared", decision, was.time_ns, "it decides again")

    def is_long(self, now: float) -> bool:
        """Whether the silence is long enough for an event, and none is open."""
        state, limit = self.state, float(self._when.silent_for)
        return state.decided and not state.opened and 0 < limit <= self._silent_s(now)

    def open(self, reason: str, now: float) -> tuple[Event, SilenceState]:
        """The event that the machine is silent; reason: why, in words."""
        state = msgspec.structs.replace(
            self.state, number=self.state.number + 1, run=self._run, opened=True, silent_s=self._silent_s(now)
        )
        self._stored, self._last, self._since = state, None, now
        last = nothing(self._asset, state.model, state.release, state.time_ns)
        return self._event("opened", last, state.time_ns, reason)

    def _silent_s(self, now: float) -> float:
        return self.state.silent_s + now - self._since if self.state.decided else 0.0

    def _event(self, what: str, decision: Decision, since_ns: int, reason: str) -> tuple[Event, SilenceState]:
        event = Event(
            key=f"{self._gateway}:{decision.model}:{self._asset}:{SILENT}-{self.state.run}-{self.state.number}",
            state=what,
            decision=decision,
            worst=decision.score,
            severity=self._when.silent_severity,
            since_ns=since_ns,
            kind=SILENT,
            reason=reason,
        )
        return event, self.state


def _order(state: SilenceState) -> tuple[int, bool, bool]:
    """Sort key of the states of one asset, oldest first."""
    return state.number, not state.opened, state.decided


def nothing(asset: str, model: str, release: int, time_ns: int) -> Decision:
    """What stands in the place of a decision while a machine is silent: no score, and no limit."""
    return Decision(asset, model, release, time_ns, math.nan, math.inf, SILENT, missing=1.0, latency_s=0.0)
