# SPDX-License-Identifier: Apache-2.0
"""The events of one asset: alarms and silences, and the windows that an alarm withholds from training."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from fedge_models.graph.card import Card

from ..config.schema import AssetConfig
from ..samples.event_book import EventBook
from ..samples.withholding import FOREVER_NS
from ..types import AlertState, Decision, DriftState, Event, EventState, SilenceState, Window
from ..windows.channel import NEVER_NS
from .alerts import Alert
from .checkpoint import Checkpoint
from .condition_judge import stale_after
from .event_names import of_window
from .pace import Pace
from .silence import Silence


class AssetEvents:
    """The events of asset `name`, raised by calling `raise_event`."""

    def __init__(
        self,
        gateway: str,
        name: str,
        config: AssetConfig,
        alert: AlertState,
        silence: SilenceState,
        run: str,
        raise_event: Callable[[Event, EventState | None], None],
        book: EventBook | None,
    ) -> None:
        """alert, silence: as they were stored with the last event; run: see `event_names.new_run`."""
        self._name, self._config, self._raise, self._book = name, config, raise_event, book
        self._alert = Alert(gateway, name, config.when, alert, run, config.model)
        self._silence = Silence(gateway, name, config.when, silence, time.monotonic(), run)
        self.withholds = False  # windows of an alarm from training
        self._withheld = ""  # key of the event for which windows are withheld
        self._decided_ns = NEVER_NS  # replay: end of the newest window that was decided on
        self.opened = 0
        self.beside = False  # an event of a history is open

    def begin(self, card: Card, pace: Pace) -> None:
        """Withhold windows from now on, of a model that takes every window for normal."""
        self._alert.watched_ns = round(stale_after(pace.hop_s, pace.wait_s) * 1e9)
        self._alert.several = card.task == "multilabel"
        self.withholds = card.task == "anomaly" and not self._config.labelled

    def resume(self, saved: Checkpoint | None) -> None:
        """Continue from a checkpoint; a replay follows, until `live`."""
        if saved is not None:
            if _order(self._alert.state) <= _order(saved.alert):  # else an event was raised after the checkpoint
                self._alert.resume(saved.alert)
            self._silence.resume(saved.silence)
        if self._book is not None:
            lasts = self._alert.alarm_ns is not None
            self._book.resume(self._name, self._alert.key, self._alert.state, lasts)
        self._decided_ns = self._alert.state.time_ns

    @property
    def watched_ns(self) -> int:
        """Most that lies between two windows of a machine that is watched."""
        return self._alert.watched_ns

    @property
    def open_key(self) -> str:
        """Key of the alert that is open; "": there is none."""
        return self._alert.key if self._alert.state.opened else ""

    @property
    def lasts(self) -> bool:
        """Whether the asset is in alarm, and nobody took that for the new normal."""
        if self._alert.state.opened:
            return not self.is_accepted(self._alert.key)
        return self._alert.alarm_ns is not None

    @property
    def accepted_key(self) -> str:
        """Key of the open alert if somebody took it for the new normal; "": nobody did."""
        key = self.open_key
        return key if key and self.is_accepted(key) else ""

    def live(self) -> None:
        """End the replay: what follows is new."""
        self._decided_ns = NEVER_NS

    def take(self, decision: Decision, window: Window, now: float) -> None:
        """Raise what follows from a decision on a window, unless that was done before; `now`: monotonic s."""
        if decision.time_ns <= self._decided_ns:
            return
        if self._book is not None and self._alert.state.opened:
            self._alert.accepted = self._book.is_accepted(self._alert.key)
        alarm = self._alert.update(decision, lambda: of_window(window))
        self._withhold(self._alert.alarm_ns)
        if alarm is not None:
            self.opened += alarm[0].state == "opened"
            self._raise(msgspec.structs.replace(alarm[0], beside=True) if self.beside else alarm[0], alarm[1])
        silence = self._silence.decided(decision, now)
        if silence is not None:
            self._raise(*silence)

    def adopt(self, state: AlertState) -> bool:
        """Go on with an event that a history left open; False: one of now is open, and covers it."""
        if self._alert.state.opened:
            return False
        self._alert.adopt(state)
        self._withhold(self._alert.alarm_ns)
        return True

    def is_accepted(self, key: str) -> bool:
        """Whether somebody took what an event is about for the new normal."""
        return self._book is not None and self._book.is_accepted(key)

    def withhold_drift(self, key: str, since_ns: int, until_ns: int | None) -> None:
        """Withhold the windows of a drift from training, while it lasts (None) or up to its end."""
        if self._book is not None and (self.withholds or self._book.has_hold(key)):
            self._book.withhold(self._name, key, since_ns, FOREVER_NS if until_ns is None else until_ns)

    def resume_drifts(self, opened: Mapping[str, int], state: DriftState) -> None:
        """Make the book agree with the drifts (key -> since when) that a restart found open."""
        if self._book is not None:
            newest_ns = max(state.time_ns, state.unlike.time_ns)
            self._book.resume_drifts(self._name, opened, newest_ns, self._config.when.drift_severity)

    def is_long_silent(self, now: float) -> bool:
        """Whether the asset has been silent for long enough for an event, and none is open; `now`: monotonic s."""
        return self._silence.is_long(now)

    def take_silence(self, reason: str, now: float) -> None:
        """Raise the event that the asset is silent; reason: why, in words."""
        self._raise(*self._silence.open(reason, now))

    def mark(self, now: float) -> tuple[bool, int]:
        """What has to be stored soon when it changes; `now`: monotonic s."""
        return self._silence.mark(now)

    def alert_at(self, time_ns: int | None) -> AlertState:
        """The alert to store after the window that ended then; None: no window was decided on."""
        return self._alert.at(self._alert.state.time_ns if time_ns is None else time_ns)

    def silence_at(self, now: float) -> SilenceState:
        """The silence to store; `now`: monotonic s."""
        return self._silence.at(now)

    def status(self) -> dict[str, Any]:
        """For the status page."""
        return {
            "alert": msgspec.structs.asdict(self._alert.state),
            "silence": msgspec.structs.asdict(self._silence.at(time.monotonic())),
            "unjudged": self._alert.unjudged,
            "alarms_held": self._alert.held,
            "held_until_ns": self._alert.held_until_ns,
        }

    def _withhold(self, since_ns: int | None) -> None:
        """Withhold the windows of an alarm from training, while it lasts since then."""
        if self._book is None or not self.withholds:
            return
        if since_ns is None and self._withheld:
            self._book.end(self._name, self._alert.normal_ns - 1)
            self._withheld = ""
        elif since_ns is not None and self._withheld != self._alert.key:
            self._withheld = self._alert.key
            self._book.begin(self._name, self._withheld, since_ns)


def _order(state: AlertState) -> tuple[int, bool, int]:
    """Sort key of the states of one alert, oldest first; the time counts last, since a clock may be set back."""
    return state.number, not state.opened, state.time_ns
