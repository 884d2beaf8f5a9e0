# SPDX-License-Identifier: Apache-2.0
"""Blocks on a Dask cluster: the same tasks over the same spans, run by workers that read the rows from shared storage.

Promises the bits of the local engine, also when workers die: a lost task is run again elsewhere, and its result is
whole numbers or columns of its own. Rows in memory are sent along; workers read rows in a file under the same path. A
cluster runs what it is sent: open its ports only to machines that you trust, or configure TLS in Dask (the engine is
``dask://tls://host:port`` then).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fedge_models.errors import ConfigError, UnreachableError, first_line
from numpy.typing import NDArray

from .runner import Part, Task, split
from .update_rows import Rows

SPAN_BYTES = 64 << 20  # of codes in a task: seconds of work, so that its overhead does not matter
CONNECT_S = 10.0
DONE_S = 600.0  # for all tasks; a cluster without workers would never answer


class Cluster:
    """A Dask scheduler at an address; each use makes a new connection."""

    def __init__(self, address: str, done_s: float = DONE_S) -> None:
        self._address = address if "://" in address else f"tcp://{address}"
        self._done_s = done_s

    def map(self, task: Task, rows: Rows, alone: bool = False) -> Iterator[Part]:
        """Yield parts as they are done; workers ignore `alone`.

        Raises UnreachableError, StorageError (of a worker); ConfigError without Dask.
        """
        import asyncio

        try:
            from distributed import Client, KilledWorker, as_completed  # an extra
        except ImportError as e:
            raise ConfigError("engine 'dask://…' needs Dask: pip install 'fedge[cluster]'") from e
        try:
            with Client(self._address, timeout=CONNECT_S, set_as_default=False) as client:
                spans = split(rows.d, rows.width, self._parts(rows, len(client.ncores())))
                futures = {client.submit(_run, task, rows.narrow(*span), pure=False): span for span in spans}
                for future, part in as_completed(futures, client.loop, True, timeout=self._done_s):
                    yield (*futures.pop(future), part)
        except (OSError, TimeoutError, asyncio.TimeoutError, KilledWorker) as e:
            raise UnreachableError(
                f"Dask cluster {self._address}: {first_line(e)}; are scheduler and workers up?"
            ) from e

    @staticmethod
    def _parts(rows: Rows, workers: int) -> int:
        return max(4 * max(workers, 1), rows.n * rows.d // SPAN_BYTES)


def _run(task: Task, rows: Rows) -> NDArray[Any]:
    return task(rows, 0, rows.d)
