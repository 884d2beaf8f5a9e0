# SPDX-License-Identifier: Apache-2.0
"""How far the main thread has decided, and when that is worth storing."""

from __future__ import annotations

from collections.abc import Mapping

from ..durable.inbox import Progress
from ..samples.withholding import FOREVER_NS
from .asset import Asset
from .routing import Routes


class DecidedSoFar:
    """What came in and was decided on, since it was last stored."""

    def __init__(self, routes: Routes, assets: Mapping[str, Asset]) -> None:
        self._routes, self._assets = routes, assets
        self._done: dict[str, int] = {}  # source -> the newest row of the inbox that was taken in
        self._stored: dict[str, int] = {}  # the same, at the last `take`
        self._marks: dict[str, tuple[bool, int]] = {}  # asset -> what it had to store then

    def note(self, source: str, inbox_row: int) -> None:
        """A row of the inbox was taken in."""
        self._done[source] = inbox_row

    def take(self, now: float, always: bool = False) -> Progress | None:
        """What to store, if anything came since or what is silent has changed; `now`: monotonic s."""
        marks = {n: a.mark(now) for n, a in self._assets.items()}
        if self._done == self._stored and marks == self._marks and not always:
            return None
        if any(asset.waits for asset in self._assets.values()):  # a restart decides on what waits
            return None
        self._stored, self._marks = dict(self._done), marks
        needed = {
            source: min((self._assets[name].needed_ns() for name in self._routes.assets(source)), default=FOREVER_NS)
            for source in self._done
        }
        return Progress(dict(self._done), {n: a.checkpoint() for n, a in self._assets.items()}, needed)
