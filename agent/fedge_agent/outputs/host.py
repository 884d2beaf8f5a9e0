# SPDX-License-Identifier: Apache-2.0
"""Runs an output: a thread that delivers its events from the spool, with back-off, and counters.

While no event waits, it collects labels from the target and shows the newest decisions.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedge_models.errors import RefusedError, RetryError, StorageError
from fedge_models.system.worker import BackOff, Worker

from ..durable.spool import Entry, Spool
from ..types import Decision, Label, Output

logger = logging.getLogger(__name__)

FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 300.0
LOOK_S = 5.0  # how often to look without being woken
SHOW_S = 0.1  # between two decisions shown


class HostedOutput:
    """An output in its own thread.

    `folder`: for the output's own state; without one `begin` is not called. `store_label`: stores a collected label
    durably; without it no labels are collected.
    """

    def __init__(
        self,
        name: str,
        output: Output,
        spool: Spool,
        folder: Path | None = None,
        store_label: Callable[[Label], None] | None = None,
    ) -> None:
        self.name = name
        self._output, self._spool, self._folder, self._store_label = output, spool, folder, store_label
        self._newest: dict[str, Decision] = {}  # asset -> decision that is not shown yet
        self._begun = folder is None
        self._collected_at, self._labels = time.monotonic(), 0
        self._worker = Worker(f"output-{name}", self._step, output.end)
        self._back_off, self._not_before = BackOff(FIRST_WAIT_S, LONGEST_WAIT_S), 0.0  # monotonic, s
        self._delivered = self._retries = 0
        self._error: str | None = None

    def start(self) -> None:
        """Start delivering."""
        self._worker.start()

    def wake(self) -> None:
        """Look into the spool now."""
        self._worker.wake()

    def show(self, decision: Decision) -> None:
        """Show a decision soon, unless a newer one of the asset comes first. Never blocks."""
        if self._output.shows_decisions:
            self._newest[decision.asset] = decision
            self._worker.wake()

    def stop(self, timeout: float) -> None:
        """End after the current delivery; other events stay in the spool."""
        self._worker.stop(timeout)

    def status(self) -> dict[str, Any]:
        """Figures for the status page."""
        counts = {**self._spool.counts(self.name), "labels": self._labels, **self._own_status()}
        return {**counts, "delivered": self._delivered, "retries": self._retries, "error": self._error}

    @property
    def storage_problem(self) -> str | None:
        """Why the output's own state is not written at the moment."""
        return self._output.storage_problem

    def _own_status(self) -> dict[str, Any]:
        try:
            return self._output.status()
        except StorageError as e:
            return {"problem": str(e)}

    def _step(self) -> float:
        """Make one attempt; seconds until the next one."""
        pause = self._not_before - time.monotonic()
        if pause > 0:  # woken by a new event or decision: that shortens no pause
            return pause
        try:
            wait = self._attempt()
            self._back_off.reset()
        except Exception as e:
            self._note(e)
            wait = self._pause(self._back_off.next())
        return wait

    def _attempt(self) -> float:
        """Deliver the oldest event; if there is none, collect labels and show decisions. Seconds until the next."""
        if not self._begun:
            assert self._folder is not None
            self._output.begin(self._folder)
            self._begun = True
        entry = self._spool.next_event(self.name)
        if entry is not None:
            self._deliver(entry)
            return 0.0
        self._collect_labels()
        self._show_newest()
        return LOOK_S

    def _deliver(self, entry: Entry) -> None:
        """Deliver an event, or set it aside if the target refuses it. Raises what else the output raises."""
        try:
            self._output.deliver(entry.event)
        except RefusedError as e:
            logger.error("output %s: event %s is set aside: %s", self.name, entry.event.key, e)
            self._spool.refused(entry, str(e))
            self._error = str(e)
            return
        except Exception:
            self._retries += 1
            raise
        self._spool.delivered(entry)
        self._delivered += 1
        self._error = None

    def _collect_labels(self) -> None:
        """Store the labels that became known at the target, if it is time to ask. A failure delays no event."""
        poll = self._output.poll
        if self._store_label is None or poll is None or time.monotonic() - self._collected_at < poll:
            return
        self._collected_at = time.monotonic()
        try:
            for label in self._output.collect():
                self._store_label(label)
                self._labels += 1
                if self._worker.stopping:
                    break
            self._error = None
        except Exception as e:
            self._note(e)

    def _show_newest(self) -> None:
        """Show new decisions. One that fails is shown later, unless there is a newer one by then."""
        if not self._newest:
            return
        error: str | None = None
        for asset in list(self._newest):  # assets that arrive meanwhile are shown next time
            decision = self._newest.pop(asset)
            try:
                self._output.show(decision)
            except RefusedError as e:  # this decision only; the next may be accepted
                error = str(e)
            except BaseException:
                self._newest.setdefault(asset, decision)
                raise
        self._error = error
        self._pause(SHOW_S)

    def _pause(self, seconds: float) -> float:
        """Make no attempt for so long, whoever wakes the thread."""
        self._not_before = time.monotonic() + seconds
        return seconds

    def _note(self, error: Exception) -> None:
        """Show the error in `status`; log its traceback if it is not one of ours."""
        if isinstance(error, (RetryError, RefusedError)):
            self._error = str(error)
            return
        logger.error("output %s", self.name, exc_info=error)
        self._error = f"unexpected {type(error).__name__}: {error}; see the log"
