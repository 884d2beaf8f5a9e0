# SPDX-License-Identifier: Apache-2.0
"""What the book of events still knows when the spool is lost: alerts resume, and open events are sent again.

Promises: an event that is open goes to the outputs once more, under its own key, so that it has an order; its
"cleared" follows it. Leaves to the book which events are open, and to the outputs that a key has one order. An event
that was over is not sent: nothing says whether an output had it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from ..durable.spool import Spool
from ..samples.event_book import EventBook
from ..types import AlertState, Event
from .alerts import alert_of
from .asset import Asset

logger = logging.getLogger(__name__)


class LostSpool:
    """The spool of this start. lost: the last one was gone or empty; put: gives an event to the outputs."""

    def __init__(self, spool: Spool, book: EventBook, lost: bool, put: Callable[[Event], None]) -> None:
        self._spool, self._book, self._put = spool, book, put
        self._renewed = spool.renewed
        self._lost = lost or self._renewed > 0

    def alert_state(self, gateway: str, model: str, asset: str) -> AlertState:
        """The asset's alert; of the book of events, if the spool was lost with it."""
        state = self._spool.alert_state(asset)
        found = self._book.open_event(asset) if self._lost and not (state.number or state.name) else None
        return state if found is None else alert_of(found, f"{gateway}:{model}:{asset}:")

    def resume(self, asset: Asset) -> None:
        """Send the event of an asset that has resumed with an alert, if the spool was lost before this start."""
        if self._lost:
            self._send_again(asset)

    def look(self, assets: Iterable[Asset]) -> None:
        """Send what is open, if the spool was damaged or removed since the last look."""
        if self._renewed != (renewed := self._spool.renewed):
            self._renewed = renewed
            for asset in assets:
                self._send_again(asset)

    def _send_again(self, asset: Asset) -> None:
        event = self._book.open_event(asset.name) if asset.open_key else None
        if event is not None and event.key == asset.open_key:
            logger.warning("asset %s: event %s is sent again: the spool was lost", asset.name, event.key)
            self._put(event)
