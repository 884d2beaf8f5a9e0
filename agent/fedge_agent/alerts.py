"""From decisions to events: one when a machine gets worse, one when it is well again. Pure; the clock is passed in."""

from __future__ import annotations

import math

import msgspec
from fedge_models.structs import known

from .config import When
from .types import Decision, Event


@known
class AlertState(msgspec.Struct, frozen=True):
    """What must survive a restart, so that kill -9 neither repeats nor forgets an event."""

    number: int = 0  # of the last event
    opened: bool = False
    opened_at: float = 0.0  # Unix time of the last opening, s; 0: never
    worst: float = 0.0  # score of the open event


class Alert:
    """The alert of one asset: hysteresis over consecutive windows, and a minimum gap between openings."""

    def __init__(self, gateway: str, asset: str, when: When, state: AlertState) -> None:
        self._gateway, self._asset, self._when, self.state = gateway, asset, when, state
        self._above = self._below = 0  # consecutive windows

    def update(self, decision: Decision, now: float) -> tuple[Event, AlertState] | None:
        """The event this decision makes, with the state to persist with it. `now`: Unix time, s."""
        limit = decision.threshold if self._when.score_above == "threshold" else float(self._when.score_above)
        if not math.isfinite(decision.score) or not math.isfinite(limit):
            return None
        self._above = self._above + 1 if decision.score > limit else 0
        self._below = self._below + 1 if decision.score < limit * self._when.clear_below else 0
        if self.state.opened:
            return self._while_open(decision)
        if self._above < self._when.for_windows or self._too_soon(now):
            return None
        state = AlertState(self.state.number + 1, True, now, decision.score)
        return self._event("opened", decision, state)

    def _too_soon(self, now: float) -> bool:
        return self.state.opened_at > 0 and now - self.state.opened_at < self._when.min_gap

    def _while_open(self, decision: Decision) -> tuple[Event, AlertState] | None:
        worst = max(self.state.worst, decision.score)
        self.state = msgspec.structs.replace(self.state, worst=worst)
        if self._below < self._when.for_windows:
            return None
        return self._event("cleared", decision, msgspec.structs.replace(self.state, opened=False))

    def _event(self, kind: str, decision: Decision, state: AlertState) -> tuple[Event, AlertState]:
        event = Event(
            key=f"{self._gateway}:{decision.model}:{self._asset}:{state.number}",
            state=kind,
            asset=self._asset,
            model=decision.model,
            release=decision.release,
            time_ns=decision.time_ns,
            score=state.worst,
            threshold=decision.threshold,
            label=decision.label,
            channel=decision.channel,
            values=decision.values,
            hours_left=decision.hours_left,
            hours_left_at_least=decision.hours_left_at_least,
            context=decision.context,
        )
        self.state = state
        return event, state
