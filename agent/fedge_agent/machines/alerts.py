# SPDX-License-Identifier: Apache-2.0
"""Turn decisions into events: one when a machine gets worse, one when it gets more severe, one when it is well again.

Of a model whose labels may hold together, one also when a label joins those that the open event names: a leak on a
machine that is known to be worn is news.

Severity comes from score and persistence. A score counts as high once it held for as many windows as it takes to open
an event, so that one odd window raises nothing. While an event is open its severity only rises.

Within the minimum gap after an opening an alarm makes an event of its own only if it is more than the last one was:
more severe, or more than `LONGER` times as long. A short false alarm must not mute the fault that follows it. What
makes none is counted (`held`).

Pure; the only clock is the source's: a backlog that is read in seconds makes the events of its hours. When that clock
is set back, an open event keeps its age, and the minimum gap counts as elapsed: a clock that was ahead mutes nothing.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

import msgspec
from fedge_models.graph.card import NONE, SEPARATOR

from ..config.schema import When
from ..types import SEVERITIES, AlertState, Decision, Event
from .event_names import follows_from_rows, of_state

LONGER = 2.0  # times as long as the last event was: such an alarm within the minimum gap is another


class Alert:
    """The alert of one asset: hysteresis over consecutive windows, and a minimum gap between openings."""

    def __init__(self, gateway: str, asset: str, when: When, state: AlertState, run: str = "", model: str = "") -> None:
        """run: names this start of the agent in the keys of its events, see `event_names`; model: the asset's."""
        self._gateway, self._asset, self._when, self._run, self._model = gateway, asset, when, run, model
        self.watched_ns = 1 << 62  # most that lies between two windows of a machine that is watched
        self.several = False  # whether a decision's label names several, of which each is news
        self.unjudged = 0  # decisions that could not alarm: the score or its limit is not finite
        self.held = 0  # alarms within the minimum gap that made no event
        self._holds = False  # such an alarm lasts
        self.resume(state)
        self._ratios: deque[float] = deque(maxlen=max(1, when.for_windows))  # score over limit, of the last windows
        self._labels: deque[frozenset[str]] = deque(maxlen=max(1, when.for_windows))  # those that held in each

    def update(self, decision: Decision, name: Callable[[], str] = str) -> tuple[Event, AlertState] | None:
        """The event this decision makes, with the state to persist with it.

        name: of an event that begins with this decision's window, where it follows from what was read.
        """
        self._follow_clock(decision.time_ns)
        limit = decision.threshold
        if not math.isfinite(decision.score) or not math.isfinite(limit):
            self.unjudged += 1  # the asset is blind, which `condition` states as a problem
            return None
        over = limit if self.accepted else limit * self._when.clear_below
        self._count(decision.score > limit, decision.score < over, decision.time_ns)
        if self._above == 1:
            self._above_name = name()
        self._follow_alarm()
        self._ratios.append(decision.score / limit if limit > 0 else 1.0)
        self._labels.append(_labels(decision.label))
        if self.state.opened:
            return self._while_open(decision)
        severity = self._severity(0.0)
        if self._above < self._when.for_windows or self._too_soon(decision.time_ns, severity):
            return None
        self._holds = False
        state = AlertState(
            self.state.number + 1,
            True,
            decision.score,
            decision.time_ns,
            severity,
            run=self._run,
            name=self._above_name,
            labels=decision.label if self.several else "",
        )
        return self._event("opened", decision, state, self._above_ns)

    def resume(self, state: AlertState) -> None:
        """Continue from a stored state."""
        self.state, self._above, self._below = state, state.above, state.below
        self._above_ns, self._below_ns = state.above_ns, state.below_ns
        self._above_name = state.above_name
        self._time_ns = state.time_ns  # end of the last window
        # Somebody took it for the new normal: it is over once the score is not above the limit.
        self.accepted: bool = False
        lasts = state.opened or state.above >= self._when.for_windows
        self.alarm_ns: int | None = (state.above_ns or state.opened_ns) if lasts else None

    def at(self, time_ns: int) -> AlertState:
        """The state after the window that ended then."""
        return msgspec.structs.replace(
            self.state,
            time_ns=time_ns,
            above=self._above,
            below=self._below,
            above_ns=self._above_ns,
            below_ns=self._below_ns,
            above_name=self._above_name,
        )

    def adopt(self, other: AlertState) -> None:
        """Go on with an event that another alert of the asset left open; none is open here."""
        opened, time_ns = other.opened_ns, self._time_ns or other.time_ns
        self.resume(
            msgspec.structs.replace(
                other, number=self.state.number + 1, time_ns=time_ns, above=0, above_ns=opened, below=0, below_ns=0
            )
        )

    def close(self, decision: Decision) -> tuple[Event, AlertState]:
        """Clear the event that is open, though its score is not below the limit: no further window comes."""
        return self._event("cleared", decision, self._cleared(decision.time_ns), decision.time_ns)

    @property
    def held_until_ns(self) -> int | None:
        """Until when the minimum gap holds back the alarm that lasts, unless it becomes more than the last event."""
        return self.state.opened_ns + round(self._when.min_gap * 1e9) if self._holds else None

    @property
    def key(self) -> str:
        """Key of the last event."""
        return self._key(self._model, self.state)

    @property
    def normal_ns(self) -> int:
        """End of the first window of those in a row that are below the limit."""
        return self._below_ns

    def _key(self, model: str, state: AlertState) -> str:
        return f"{self._gateway}:{model}:{self._asset}:{of_state(state)}"

    def _follow_alarm(self) -> None:
        """Note from when on the score is too high, also where `min_gap` allows no event (`alarm_ns`)."""
        if self._above >= self._when.for_windows:
            self.alarm_ns = self._above_ns if self.alarm_ns is None else self.alarm_ns
        elif self._below >= self._when.for_windows:
            self.alarm_ns, self.accepted, self._holds = None, False, False

    def _count(self, above: bool, below: bool, time_ns: int) -> None:
        self._above = self._above + 1 if above else 0
        self._below = self._below + 1 if below else 0
        self._above_ns = time_ns if self._above == 1 else self._above_ns
        self._below_ns = time_ns if self._below == 1 else self._below_ns

    def _follow_clock(self, time_ns: int) -> None:
        """When the source's clock was set back, take the times of this alert with it. When it goes ahead by more than
        windows are apart, nobody watched in between, or it was set: an open event does not age by that."""
        back, self._time_ns = self._time_ns - time_ns, time_ns
        if back > 0:
            self._above_ns, self._below_ns = self._above_ns - back, self._below_ns - back
            opened = self.state.opened_ns - back if self.state.opened else 0
            self.state = msgspec.structs.replace(self.state, opened_ns=opened)
        elif -back > self.watched_ns and self.state.opened:
            opened = self.state.opened_ns - back - self.watched_ns
            self.state = msgspec.structs.replace(self.state, opened_ns=opened)

    def _too_soon(self, time_ns: int, severity: int) -> bool:
        """Whether the minimum gap holds back the alarm that lasts: it is no more than the last event was."""
        last, gap = self.state, time_ns - self.state.opened_ns
        if not last.opened_ns or not 0 <= gap < self._when.min_gap * 1e9 or severity > last.severity:
            return False
        if time_ns - (time_ns if self.alarm_ns is None else self.alarm_ns) > LONGER * last.lasted_ns:
            return False
        self.held += not self._holds
        self._holds = True
        return True

    def _cleared(self, time_ns: int) -> AlertState:
        """The state in which the event that is open is over, with the window that ended then."""
        return msgspec.structs.replace(self.state, opened=False, lasted_ns=max(1, time_ns - self.state.opened_ns))

    def _while_open(self, decision: Decision) -> tuple[Event, AlertState] | None:
        worst = max(self.state.worst, decision.score)
        self.state = msgspec.structs.replace(self.state, worst=worst)
        if self._below < self._when.for_windows:
            severity = self._severity((decision.time_ns - self.state.opened_ns) / 1e9)
            named = _labels(self.state.labels)
            added = self._lasting() - named
            if severity <= self.state.severity and not added:
                return None
            labels = SEPARATOR.join(sorted(named | added)) if added else self.state.labels
            state = msgspec.structs.replace(self.state, severity=max(severity, self.state.severity), labels=labels)
            return self._event("raised", decision, state, self._above_ns)
        return self._event("cleared", decision, self._cleared(decision.time_ns), self._below_ns)

    def _lasting(self) -> frozenset[str]:
        """The labels that held for as many windows as it takes to open an event; none where a decision has only one."""
        full = self.several and len(self._labels) == self._labels.maxlen
        return frozenset.intersection(*self._labels) if full else frozenset()

    def _severity(self, open_s: float) -> int:
        """Index of SEVERITIES, after an event has been open for `open_s` seconds."""
        held = min(self._ratios) if len(self._ratios) == self._ratios.maxlen else 0.0
        for index, level in ((2, self._when.high), (1, self._when.medium)):
            if held >= level.score or open_s >= level.after:
                return index
        return 0

    def _event(self, kind: str, decision: Decision, state: AlertState, since_ns: int) -> tuple[Event, AlertState]:
        event = Event(
            key=self._key(decision.model, state),
            state=kind,
            decision=decision,
            worst=state.worst,
            severity=SEVERITIES[state.severity],
            since_ns=since_ns,
        )
        self.state = state
        return event, self.at(decision.time_ns)


def _labels(text: str) -> frozenset[str]:
    """The labels that a decision names."""
    return frozenset() if text in ("", NONE) else frozenset(text.split(SEPARATOR))


def alert_of(event: Event, prefix: str) -> AlertState:
    """The state that an open event led to, for when that was lost; none if its key does not begin with the prefix: the
    gateway or the model has another name now."""
    name = event.key.removeprefix(prefix)
    run, _, number = name.rpartition("-")
    follows = follows_from_rows(name)
    if not event.key.startswith(prefix) or not (follows or number.isdigit()):
        return AlertState()
    since, severity = event.since_ns or event.decision.time_ns, SEVERITIES.index(event.severity)
    state = AlertState(0, True, event.worst, since, severity, event.decision.time_ns)
    if follows:
        return msgspec.structs.replace(state, name=name)
    return msgspec.structs.replace(state, number=int(number), run=run)
