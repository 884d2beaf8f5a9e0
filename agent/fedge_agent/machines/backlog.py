# SPDX-License-Identifier: Apache-2.0
"""The past that machines are still to decide on: stored before a restart, or held by a source that can wait.

It waits while a machine lacks its model or limit; `holding` decides for how long, `main_loop` pushes the readings.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping

from ..types import Batch
from .asset import Asset
from .holding import Held, Holding
from .routing import Routes

logger = logging.getLogger(__name__)

SOON_S = 0.01  # how often it is looked while windows wait for a limit
LOOK_S = 0.05  # how often it is looked whether a source has to wait
STORED = "what was stored before the restart comes first"


class Backlog:
    """What waits for machines that cannot decide yet.

    can_wait: sources that hold a stored past; hold: called with the sources that are to be read no further, and why;
    problem: states or withdraws what is wrong with a source.
    """

    def __init__(
        self,
        routes: Routes,
        assets: Mapping[str, Asset],
        can_wait: Iterable[str],
        hold: Callable[[Mapping[str, str]], None],
        problem: Callable[[str, str | None], None],
    ) -> None:
        self._routes, self._assets, self._hold, self._problem = routes, assets, hold, problem
        self._holding = Holding({name: routes.window_sources(name) for name in assets}, can_wait)
        for name in self._holding.assets:
            assets[name].past = routes.window_sources(name)
        self._held, self._looked = Held({}, frozenset(), {}), -math.inf
        self._told = set[tuple[str, str]]()  # what the log says already
        self._stored: dict[str, deque[tuple[Batch, bool]]] = {}  # of the inbox, of sources that are held

    def look(self, now: float, at_once: bool = False) -> list[Asset]:
        """Look which sources are to be read no further, and have windows decided on that waited; whose.

        now: monotonic s; at_once: also when it was looked just before.
        """
        waiting = [asset for asset in self._assets.values() if asset.pending]
        if not self._holding.assets or (now - self._looked < LOOK_S and not waiting and not at_once):
            return []
        self._looked, before = now, self._held
        lacks = {name: asset.lacks() for name, asset in self._assets.items()}  # once: other threads change it
        held = self._held = self._holding.update(lacks, now)
        for source, text in held.sources.items():
            if (source, text) not in self._told:  # a limit may be made many times while a long past is read
                self._told.add((source, text))
                logger.info("source %s is read no further: %s", source, text)
        for source in before.given_up | held.given_up:
            self._problem(source, held.given_up.get(source))
        for name in self._holding.assets:
            self._assets[name].can_wait = name in held.assets or lacks[name] is None
        for asset in waiting:
            asset.catch_up()
        for participant in {self._assets[name].participant for name in held.assets}:
            participant.hurry()
        self._hold(dict.fromkeys(self._stored, STORED) | held.sources)
        return waiting

    def soon_s(self, idle: float) -> float:
        """After how many seconds to look again, at most `idle`."""
        return SOON_S if any(asset.pending for asset in self._assets.values()) else idle

    def holds(self, batch: Batch, decided: bool) -> bool:
        """Hold a stored batch while a machine cannot decide on it; whether it is held."""
        if batch.source not in self._stored and batch.source not in self._held.sources:
            return False
        self._stored.setdefault(batch.source, deque()).append((batch, decided))
        return True

    def take(self) -> tuple[Batch, bool] | None:
        """The next stored batch of a source that is held no more, and whether it was decided on before."""
        source = next((name for name in self._stored if name not in self._held.sources), None)
        if source is None:
            return None
        found = self._stored[source].popleft()
        if not self._stored[source]:
            del self._stored[source]
            self._looked = -math.inf  # its source may be read now
        return found

    def has(self, source: str) -> bool:
        """Whether something of the source that was stored is still to come."""
        return source in self._stored

    def replaying(self) -> set[str]:
        """The assets for which something stored is still to come."""
        return {asset for source in self._stored for asset in self._routes.assets(source)}
