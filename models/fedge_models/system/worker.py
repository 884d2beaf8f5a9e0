# SPDX-License-Identifier: Apache-2.0
"""A thread that repeats one step and outlives whatever goes wrong in it, and the waits between failures.

Promises: nothing that a step raises ends the thread; what went wrong is stated in words (`problem`) until a step
succeeds; `wake` starts the next step at once. Leaves to the step what to do, and to keep what it could not do.
"""

from __future__ import annotations

import logging
import random
import sqlite3
import threading
from collections.abc import Callable

from ..errors import FedgeError

logger = logging.getLogger(__name__)

RETRY_S = 1.0


class BackOff:
    """Waits between failures that double, each a quarter longer or shorter by chance: many clients must not retry at
    once."""

    def __init__(self, first_s: float, longest_s: float) -> None:
        self._first, self._longest = first_s, longest_s
        self._next = first_s

    def next(self) -> float:
        """Seconds to wait after one more failure."""
        wait, self._next = self._next, min(2 * self._next, self._longest)
        return wait * random.uniform(0.75, 1.25)

    def reset(self) -> None:
        """Begin with the first wait again: it worked."""
        self._next = self._first


class Worker:
    """A daemon thread that calls `step` until it is stopped.

    step: does what there is to do and returns within how many seconds to call it again; None: when it is woken.
    finish: called once at the end, after the last step; what it raises is logged.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[], float | None],
        finish: Callable[[], None] | None = None,
        retry_s: float = RETRY_S,
    ) -> None:
        self.name = name
        self.problem: str | None = None  # why the last step failed, in the operator's words
        self._step, self._finish, self._retry_s = step, finish, retry_s
        self._woken, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def stopping(self) -> bool:
        """Whether the thread is to end: a long step looks at this."""
        return self._stop.is_set()

    @property
    def running(self) -> bool:
        """Whether the thread was started and has not ended."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Take the first step now."""
        self._thread.start()

    def wake(self) -> None:
        """Take the next step at once; never waits."""
        self._woken.set()

    def stop(self, timeout_s: float) -> None:
        """End after the step at hand; wait so long for it. Does nothing to a thread that was never started."""
        self._stop.set()
        self._woken.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._woken.wait(self._take_step())
            self._woken.clear()
        if self._finish is not None:
            self._guard(self._finish)

    def _take_step(self) -> float | None:
        """Seconds to wait for the next step."""
        wait: float | None = self._retry_s

        def step() -> None:
            nonlocal wait
            wait = self._step()

        if self._guard(step):
            self.problem = None
        return wait

    def _guard(self, call: Callable[[], None]) -> bool:
        """Whether the call succeeded; if not, the problem is stated, and logged when it is a new one."""
        try:
            call()
        except (FedgeError, sqlite3.Error) as e:
            self._state(str(e))
            return False
        except Exception as e:
            logger.exception("%s", self.name)
            self._state(f"unexpected {type(e).__name__}: {e}; see the log")
            return False
        return True

    def _state(self, problem: str) -> None:
        if problem != self.problem:
            logger.warning("%s: %s", self.name, problem)
        self.problem = problem
