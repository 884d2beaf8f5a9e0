# SPDX-License-Identifier: Apache-2.0
"""An event loop in a thread of its own, for outputs: it keeps a session alive between two deliveries."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Coroutine
from typing import Any, TypeVar

from fedge_models.errors import UnreachableError
from fedge_models.system.worker import Worker

T = TypeVar("T")

STOP_S = 5.0


class Loop:
    """An event loop that runs from the first `call` to `stop`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._worker: Worker | None = None

    def call(self, work: Coroutine[Any, Any, T], timeout: float) -> T:
        """Run a coroutine and return its result. Raises UnreachableError when it takes longer than `timeout`, s."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._worker = Worker(f"opcua-{self._name}", self._loop.run_forever)
            self._worker.start()
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout)
        except concurrent.futures.TimeoutError as e:
            future.cancel()
            raise UnreachableError(f"{self._name}: no answer within {timeout:g} s") from e

    def stop(self) -> None:
        """Cancel all tasks and end the thread."""
        loop, worker, self._loop, self._worker = self._loop, self._worker, None, None
        if loop is None or worker is None:
            return
        asyncio.run_coroutine_threadsafe(_cancel_all(), loop).result(STOP_S)
        loop.call_soon_threadsafe(loop.stop)
        worker.stop(STOP_S)
        if not worker.running:
            loop.close()


async def _cancel_all() -> None:
    tasks = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
