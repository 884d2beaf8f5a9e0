"""Drains the spool into an output: a thread, back-off with jitter for ever, counters. While nothing waits, what became
known at the target is collected, and the newest decisions are shown."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedge_models.errors import RefusedError, RetryError, StorageError

from ..durable.spool import Entry, Spool
from ..types import Decision, Label, Output

logger = logging.getLogger(__name__)

FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 300.0
LOOK_S = 5.0  # how often to look without being woken
SHOW_S = 0.1  # between showings
POLL_S = 60.0  # how often an output is asked for what became known, unless it says otherwise


class HostedOutput:
    """An output in its own thread; `folder`: where it may keep things, `keep`: takes the labels it collects."""

    def __init__(
        self,
        name: str,
        output: Output,
        spool: Spool,
        folder: Path | None = None,
        keep: Callable[[Label], None] | None = None,
    ) -> None:
        self.name = name
        self._output, self._spool, self._folder, self._keep = output, spool, folder, keep
        self._collect = getattr(output, "collect", None) if keep else None
        self._show = getattr(output, "show", None)
        self._newest: dict[str, Decision] = {}  # asset -> what is to be shown of it
        self._begun = folder is None or not hasattr(output, "begin")
        self._collected_at, self._labels = time.monotonic(), 0
        self._wake, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"output-{name}", daemon=True)
        self._delivered = self._retries = 0
        self._error: str | None = None

    def start(self) -> None:
        """Deliver from now on."""
        self._thread.start()

    def wake(self) -> None:
        """There is something new."""
        self._wake.set()

    def show(self, decision: Decision) -> None:
        """The newest decision of an asset: neither blocks nor is kept when there is a newer one before it is shown."""
        if self._show is not None:
            self._newest[decision.asset] = decision
            self._wake.set()

    def stop(self, timeout: float) -> None:
        """End after the delivery at hand; what waits stays in the spool."""
        self._stop.set()
        self._wake.set()
        self._thread.join(timeout)

    def status(self) -> dict[str, Any]:
        """For the status page."""
        counts = {**self._spool.counts(self.name), "labels": self._labels, **self._own_status()}
        return {**counts, "delivered": self._delivered, "retries": self._retries, "error": self._error}

    def _own_status(self) -> dict[str, Any]:
        try:
            return self._output.status() if hasattr(self._output, "status") else {}
        except StorageError as e:
            return {"problem": str(e)}

    def _run(self) -> None:
        wait = FIRST_WAIT_S
        while not self._stop.is_set():
            try:
                self._begin()
                entry = self._spool.next_event(self.name)
                if entry is None:
                    self._collect_labels()
                    self._show_newest()
                    wait = FIRST_WAIT_S
                    self._wake.wait(LOOK_S)
                    self._wake.clear()
                    continue
                if self._deliver(entry):
                    wait = FIRST_WAIT_S
                    continue
            except RetryError as e:
                self._error = str(e)
            except RefusedError as e:
                self._error = str(e)
            except Exception as e:
                logger.exception("output %s", self.name)
                self._error = f"unexpected {type(e).__name__}: {e}; see the log"
            self._stop.wait(wait * random.uniform(0.75, 1.25))
            wait = min(2 * wait, LONGEST_WAIT_S)
        if hasattr(self._output, "end"):
            self._output.end()

    def _begin(self) -> None:
        if not self._begun:
            assert self._folder is not None
            self._output.begin(self._folder)  # type: ignore[attr-defined]
            self._begun = True

    def _show_newest(self) -> None:
        """Show what is new. A decision that could not be shown is shown later, unless there is a newer one then."""
        if self._show is None or not self._newest:
            return
        error: str | None = None
        for asset in list(self._newest):  # what comes meanwhile has its turn later
            decision = self._newest.pop(asset)
            try:
                self._show(decision)
            except RefusedError as e:  # of this one; the next may be taken
                error = str(e)
            except BaseException:
                self._newest.setdefault(asset, decision)
                raise
        self._error = error
        self._stop.wait(SHOW_S)

    def _collect_labels(self) -> None:
        """Ask the target what became known, if it is time."""
        poll = getattr(self._output, "poll", POLL_S)
        if self._collect is None or self._keep is None or time.monotonic() - self._collected_at < poll:
            return
        self._collected_at = time.monotonic()
        try:
            for label in self._collect():
                self._keep(label)
                self._labels += 1
                if self._stop.is_set():
                    break
            self._error = None
        except Exception as e:
            if not isinstance(e, (RetryError, RefusedError)):
                logger.exception("output %s", self.name)
            self._error = f"{type(e).__name__}: {e}"

    def _deliver(self, entry: Entry) -> bool:
        """Whether the entry is done with."""
        try:
            self._output.deliver(entry.event)
        except RefusedError as e:
            logger.error("output %s: event %s is set aside: %s", self.name, entry.event.key, e)
            self._spool.refused(entry, str(e))
            self._error = str(e)
            return True
        except Exception as e:
            if not isinstance(e, RetryError):
                logger.exception("output %s", self.name)
            self._retries += 1
            self._error = f"{type(e).__name__}: {e}"
            self._spool.failed(entry, self._error)
            return False
        self._spool.delivered(entry)
        self._delivered += 1
        self._error = None
        return True
