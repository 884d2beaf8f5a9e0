"""Runs an output: a thread that delivers its events from the spool, with back-off, and counters.

While no event waits, it collects labels from the target and shows the newest decisions.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedge_models.errors import RefusedError, RetryError, StorageError
from fedge_models.system.worker import BackOff

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
        self._wake, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"output-{name}", daemon=True)
        self._back_off = BackOff(FIRST_WAIT_S, LONGEST_WAIT_S)
        self._delivered = self._retries = 0
        self._error: str | None = None

    def start(self) -> None:
        """Start delivering."""
        self._thread.start()

    def wake(self) -> None:
        """Look into the spool now."""
        self._wake.set()

    def show(self, decision: Decision) -> None:
        """Show a decision soon, unless a newer one of the asset comes first. Never blocks."""
        if self._output.shows_decisions:
            self._newest[decision.asset] = decision
            self._wake.set()

    def stop(self, timeout: float) -> None:
        """End after the current delivery; other events stay in the spool."""
        self._stop.set()
        self._wake.set()
        self._thread.join(timeout)

    def status(self) -> dict[str, Any]:
        """Figures for the status page."""
        counts = {**self._spool.counts(self.name), "labels": self._labels, **self._own_status()}
        return {**counts, "delivered": self._delivered, "retries": self._retries, "error": self._error}

    def _own_status(self) -> dict[str, Any]:
        try:
            return self._output.status()
        except StorageError as e:
            return {"problem": str(e)}

    def _run(self) -> None:
        while not self._stop.is_set():
            if self._guarded_step():
                self._back_off.reset()
            else:
                self._stop.wait(self._back_off.next())
        self._output.end()

    def _guarded_step(self) -> bool:
        """Whether the step succeeded. No error ends the thread."""
        try:
            return self._step()
        except (RetryError, RefusedError) as e:
            self._error = str(e)
        except Exception as e:
            logger.exception("output %s", self.name)
            self._error = f"unexpected {type(e).__name__}: {e}; see the log"
        return False

    def _step(self) -> bool:
        """Deliver the oldest event; without one collect labels, show decisions and wait. False: try again later."""
        if not self._begun:
            assert self._folder is not None
            self._output.begin(self._folder)
            self._begun = True
        entry = self._spool.next_event(self.name)
        if entry is not None:
            return self._deliver(entry)
        self._collect_labels()
        self._show_newest()
        self._wake.wait(LOOK_S)
        self._wake.clear()
        return True

    def _show_newest(self) -> None:
        """Show new decisions. One that fails is shown later, unless there is a newer one by then."""
        if not self._newest:
            return
        error: str | None = None
        for asset in list(self._newest):  # assets that arrive meanwhile are next time's
            decision = self._newest.pop(asset)
            try:
                self._output.show(decision)
            except RefusedError as e:  # this decision only; the next may be accepted
                error = str(e)
            except BaseException:
                self._newest.setdefault(asset, decision)
                raise
        self._error = error
        self._stop.wait(SHOW_S)

    def _collect_labels(self) -> None:
        """Store the labels that became known at the target, if it is time to ask."""
        poll = self._output.poll
        if self._store_label is None or poll is None or time.monotonic() - self._collected_at < poll:
            return
        self._collected_at = time.monotonic()
        try:
            for label in self._output.collect():
                self._store_label(label)
                self._labels += 1
                if self._stop.is_set():
                    break
            self._error = None
        except Exception as e:
            self._note(e, RetryError, RefusedError)

    def _deliver(self, entry: Entry) -> bool:
        """Whether the event needs no further attempt: delivered, or refused and set aside."""
        try:
            self._output.deliver(entry.event)
        except RefusedError as e:
            logger.error("output %s: event %s is set aside: %s", self.name, entry.event.key, e)
            self._spool.refused(entry, str(e))
            self._error = str(e)
            return True
        except Exception as e:
            self._retries += 1
            self._note(e, RetryError)
            return False
        self._spool.delivered(entry)
        self._delivered += 1
        self._error = None
        return True

    def _note(self, error: Exception, *expected: type[Exception]) -> None:
        """Show the error in `status`; log its traceback unless its kind is expected."""
        if not isinstance(error, expected):
            logger.error("output %s", self.name, exc_info=error)
        self._error = f"{type(error).__name__}: {error}"
