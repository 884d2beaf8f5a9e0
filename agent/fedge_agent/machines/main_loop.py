# SPDX-License-Identifier: Apache-2.0
"""The main thread: give each machine its readings, look at what is silent, report how far it has decided.

An exception in one asset never stops another. Leaves to the caller where batches come from and what is done each
second besides.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping

from fedge_models.system import service

from ..durable.inbox import Progress, StoredBatch
from ..durable.replay_guard import ReplayGuard
from ..types import Batch, Decision
from .asset import Asset
from .backlog import Backlog
from .condition import SourceFacts
from .progress import DecidedSoFar
from .routing import Routes
from .shown import Shown

logger = logging.getLogger(__name__)

IDLE_S = 0.5
STUCK_S = 30.0
PROGRESS_S = 1.0  # how often progress is written


class MainLoop:
    """The main thread of an agent.

    backlog: what waits for machines that cannot decide yet; get: the next batch, or None after so many seconds; facts:
    what each source knows that its readings do not say; verdicts: called with an asset and the readings of its
    inspection; show: called with what outputs are to show; store: called with how far it has decided; look: called with
    each batch.
    """

    def __init__(
        self,
        routes: Routes,
        assets: Mapping[str, Asset],
        backlog: Backlog,
        get: Callable[[float], Batch | None],
        facts: Callable[[], Mapping[str, SourceFacts]],
        verdicts: Callable[[str, Batch], None],
        show: Callable[[Decision], None],
        store: Callable[[Progress], None],
        look: Callable[[Batch], None] | None = None,
    ) -> None:
        self._routes, self._assets, self._backlog = routes, assets, backlog
        self._get, self._facts, self._verdicts, self._store, self._look = get, facts, verdicts, store, look
        self._shown, self._decided = Shown(show), DecidedSoFar(routes, assets)
        self.failures = 0  # batches that an asset could not use
        self._guard: ReplayGuard | None = None  # of a replay that has not ended
        self._beat = time.monotonic()

    @property
    def stuck(self) -> bool:
        """Whether it has not asked for a batch for long."""
        return time.monotonic() - self._beat >= STUCK_S

    def run(self, stop: threading.Event, each_second: Callable[[], None]) -> None:
        """Decide until `stop` is set."""
        watchdog = service.watchdog_interval()
        notified = reported = time.monotonic()
        while not stop.is_set():
            self._look_at_backlog()
            batch = self._get(0 if self._push_stored() else self._backlog.soon_s(IDLE_S))
            self._beat = time.monotonic()
            if batch is not None:
                self._push(batch)
                del batch  # it may be a picture of many MB, and the next one may be long in coming
            if self._beat - reported > PROGRESS_S:
                self._judge_histories()
                self._look_at_assets()
                self._report()
                each_second()
                reported = self._beat
            if watchdog and self._beat - notified > min(watchdog, IDLE_S * 2):
                service.notify("WATCHDOG=1")
                notified = self._beat

    def replay(self, stored: Iterable[StoredBatch], guard: ReplayGuard) -> None:
        """Push readings of the inbox through the windows again; decide on what was not decided before.

        Raises StorageError; `end_replay` ends it nevertheless.
        """
        self._guard = guard
        for old in stored:
            if old.source in self._routes:
                now = time.monotonic_ns()
                batch = Batch(old.source, old.readings, old.alive_ns, now, old.fresh, old.id, origin=old.origin)
                self._look_at_backlog()
                if not self._backlog.holds(batch, old.decided):
                    self._push(batch, old.decided)

    def end_replay(self) -> None:
        """What comes is new from now on, but for what is held."""
        self._end_replay()
        self._look_at_backlog(at_once=True)  # before the first source reads
        self._report()  # after another kill soon, the replay begins here

    def drain(self) -> None:
        """Decide on what the sources left in the queue; report how long each machine has been silent."""
        while (batch := self._get(0)) is not None:
            self._push(batch)
        self._judge_histories(all_of_it=True)
        self._report(always=True)

    def _push(self, batch: Batch, decided: bool = False) -> None:
        """Give each asset of the source its own readings."""
        if self._look is not None:
            self._look(batch)
        for part in self._routes.divide(batch):
            asset = self._assets[part.asset]
            try:
                asset.push(part.windows, part.context, decided)
                if part.inspection is not None:
                    self._verdicts(part.asset, part.inspection)
            except Exception:
                self.failures += 1
                logger.exception("asset %s: a batch of %s could not be used", asset.name, batch.source)
            self._shown.newest(asset)
        if batch.inbox_row:
            self._decided.note(batch.source, batch.inbox_row)

    def _look_at_backlog(self, at_once: bool = False) -> None:
        for asset in self._backlog.look(time.monotonic(), at_once):
            self._shown.newest(asset)

    def _push_stored(self) -> bool:
        """Push one batch that was stored before the restart and is held no more; whether there was one."""
        found = self._backlog.take()
        if found is None:
            return False
        batch, decided = found
        if self._guard is not None:
            self._guard.mark(batch.inbox_row)
        self._push(batch._replace(received_ns=time.monotonic_ns()), decided)
        if not self._backlog.has(batch.source):
            self._end_replay()
        return True

    def _end_replay(self) -> None:
        """What comes to an asset is new from now on, unless something stored for it is still to come."""
        replaying = self._backlog.replaying()
        for asset in self._assets.values():
            if asset.name not in replaying:
                asset.live()
        if not replaying and self._guard is not None:
            self._guard.end()
            self._guard = None

    def _judge_histories(self, all_of_it: bool = False) -> None:
        for asset in self._assets.values():
            try:
                asset.judge_history(time.monotonic(), all_of_it)
            except Exception:
                self.failures += 1
                logger.exception("asset %s: a history could not be used", asset.name)

    def _look_at_assets(self) -> None:
        for asset in self._assets.values():
            asset.look(self._facts, self._beat)
            self._shown.unseen(asset, self._beat)

    def _report(self, always: bool = False) -> None:
        progress = self._decided.take(time.monotonic(), always)
        if progress is not None:
            self._store(progress)
