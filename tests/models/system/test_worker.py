# SPDX-License-Identifier: Apache-2.0
"""A worker's thread outlives what goes wrong in its step, and says what it was."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from fedge_models.errors import StorageError
from fedge_models.system.worker import BackOff, Worker
from support.waiting import LONGEST_S


class Steps:
    """A step with a script: raises what the script holds, then counts; each is waited for."""

    def __init__(self, *script: Exception) -> None:
        self._script = list(script)
        self._done = threading.Semaphore(0)
        self.finished = 0

    def __call__(self) -> float | None:
        try:
            if self._script:
                raise self._script.pop(0)
        finally:
            self._done.release()
        return None

    def wait(self) -> None:
        assert self._done.acquire(timeout=LONGEST_S)

    def finish(self) -> None:
        self.finished += 1


@contextmanager
def running(steps: Steps, retry_s: float = 1e-3) -> Iterator[Worker]:
    worker = Worker("w", steps, steps.finish, retry_s)
    worker.start()
    yield worker
    worker.stop(20)
    assert steps.finished == 1 and worker.stopping


def test_it_steps_at_the_start_and_each_time_it_is_woken() -> None:
    steps = Steps()
    with running(steps) as worker:
        steps.wait()
        for _ in range(3):
            worker.wake()
            steps.wait()


def test_nothing_ends_the_thread_and_the_problem_goes_when_a_step_succeeds(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    steps = Steps(StorageError("the disk is full"), OverflowError("int too big"))
    seen: list[str | None] = []
    worker = Worker("w", steps, retry_s=1e-3)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            worker._take_step()
            seen.append(worker.problem)
    assert seen == ["the disk is full", "unexpected OverflowError: int too big; see the log", None]
    assert "w: the disk is full" in caplog.text and "Traceback" in caplog.text


def test_it_tries_again_after_a_failure_without_being_woken() -> None:
    steps = Steps(StorageError("full"), StorageError("full"))
    with running(steps):
        for _ in range(3):
            steps.wait()


def test_what_waits_is_finished_even_when_the_last_step_failed() -> None:
    with running(Steps(StorageError("full")), retry_s=60):
        pass


def test_a_worker_that_was_never_started_can_be_stopped() -> None:
    worker = Worker("w", Steps())
    worker.stop(0)
    assert worker.stopping


def test_waits_between_failures_double_up_to_the_longest_and_begin_again() -> None:
    back_off = BackOff(1.0, 5.0)
    waits = [back_off.next() for _ in range(5)]
    for wait, middle in zip(waits, (1, 2, 4, 5, 5), strict=True):
        assert 0.75 * middle <= wait <= 1.25 * middle
    back_off.reset()
    assert back_off.next() <= 1.25
