# SPDX-License-Identifier: Apache-2.0
"""The events of a history: an alert of its own, so that the past changes nothing of the alert of now.

Its events have the source times of then, and keys that follow from the values: a history that is delivered twice gives
the same keys. An event that is open at its end goes on as the alert of now, or, where that has one open, is cleared.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from ..samples.event_book import EventBook
from ..types import AlertState, Decision, Event, EventState, Window
from .alerts import Alert
from .asset_events import AssetEvents
from .event_names import of_window


class HistoryEvents:
    """The events of one asset's histories; live: those of now."""

    def __init__(
        self,
        make: Callable[[AlertState], Alert],
        live: AssetEvents,
        raise_event: Callable[[Event, EventState | None], None],
        book: EventBook | None,
    ) -> None:
        """make: an alert of the asset that begins with a state."""
        self._make, self._live, self._raise, self._book = make, live, raise_event, book
        self._alert: Alert | None = None
        self._newest: Decision | None = None
        self._withheld: tuple[int, int] | None = None  # the span of the alarm that lasts
        self.opened = 0

    def take(self, asset: str, decision: Decision, window: Window) -> None:
        """Raise what follows from a decision on a window."""
        alert = self._alert = self._alert or self._make(AlertState())
        alert.watched_ns, self._newest = self._live.watched_ns, decision
        if self._book is not None and alert.state.opened:
            alert.accepted = self._book.is_accepted(alert.key)
        made = alert.update(decision, lambda: of_window(window))
        self._withhold(asset, alert, decision)
        if made is not None:
            self._send(made[0])

    def finish(self, asset: str) -> None:
        """The history is over."""
        alert, self._alert = self._alert, None
        if alert is None or self._newest is None:
            return
        if self._withheld is not None and self._book is not None:
            self._book.withhold(asset, alert.key, *self._withheld)
        self._withheld = None
        if not alert.state.opened:
            return
        if self._live.adopt(alert.at(self._newest.time_ns)):
            self._live.beside = False
        else:
            self._send(alert.close(self._newest)[0])

    def _send(self, event: Event) -> None:
        self.opened += event.state == "opened"
        self._live.beside = event.state != "cleared"
        self._raise(msgspec.structs.replace(event, beside=bool(self._live.open_key)), None)

    def _withhold(self, asset: str, alert: Alert, decision: Decision) -> None:
        """Withhold the windows of an alarm from training."""
        if self._book is None or not self._live.withholds:
            return
        since = alert.alarm_ns
        if since is not None:
            begins = self._withheld is None
            self._withheld = since, decision.time_ns
            if begins:
                self._book.withhold(asset, alert.key, *self._withheld)
        elif self._withheld is not None:
            self._book.withhold(asset, alert.key, self._withheld[0], alert.normal_ns - 1)
            self._withheld = None
