# SPDX-License-Identifier: Apache-2.0
"""The engine on a real Dask cluster: scheduler and two worker processes on loopback."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fedge_aggregator.rounds.engine import blocks, update_rows
from fedge_aggregator.rounds.engine.cluster import Cluster
from fedge_aggregator.rounds.engine.runner import Part, Runner, Task
from fedge_aggregator.rounds.engine.runners import LOCAL, build_runner
from fedge_aggregator.rounds.engine.update_rows import FileRows, MemoryRows, Rows, RowsWriter
from fedge_aggregator.rounds.rules.registry import build_pipeline
from fedge_models.errors import ConfigError, StorageError, UnreachableError
from support import rule_references as references
from support.counterparts import counterpart
from support.faulty_rows import SlowRows, UnsharedRows
from support.paths import TESTS
from support.waiting import LONGEST_S

counterpart("distributed")

N, D = 14, 60_000


class Processes:
    """A scheduler and its workers."""

    def __init__(self) -> None:
        self.scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        assert self.scheduler.stderr is not None
        self.address = next(m[1] for line in self.scheduler.stderr if (m := re.search(r"Scheduler at:\s+(\S+)", line)))
        threading.Thread(target=self.scheduler.stderr.read, daemon=True).start()
        self.workers = [self.worker() for _ in range(2)]

    def worker(self) -> subprocess.Popen[str]:
        return self._start("worker", self.address, "--nthreads", "1", "--no-nanny", "--no-dashboard")

    def stop(self) -> None:
        for process in [*self.workers, self.scheduler]:
            process.kill()
            process.wait()
            assert process.stderr is not None
            process.stderr.close()

    @staticmethod
    def _start(*words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-W", "ignore", "-m", "dask", *words]
        env = {
            **os.environ,
            "OPENBLAS_NUM_THREADS": "1",
            "PYTHONPATH": str(TESTS),
        }  # where workers find `support.faulty_rows`
        return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=env)


@pytest.fixture(scope="module")
def processes() -> Iterator[Processes]:
    started = Processes()
    yield started
    started.stop()


@pytest.fixture(scope="module")
def codes() -> np.ndarray:
    return np.random.default_rng(0).integers(-127, 128, (N, D)).astype(np.int8)


@pytest.fixture(scope="module")
def filed(codes: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FileRows]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(update_rows, "BLOCK_BYTES", N * 4096)  # many blocks, so that there are many tasks
        with RowsWriter(tmp_path_factory.mktemp("shared") / "rows", D, N) as writer:
            for row in codes:
                writer.append(row)
            yield writer.rows()


def run(table: dict[str, Any], where: Rows, runner: Runner) -> np.ndarray:
    mixing = references.MIXINGS[0] if table["name"] == "trimmed_mean" else None
    before = np.linspace(-60, 60, D, dtype=np.float32)
    return blocks.aggregate(
        build_pipeline(table, mixing, "t"), where, np.arange(1.0, N + 1), reference=before, runner=runner
    )


@pytest.mark.parametrize("table", references.TABLES, ids=lambda t: t["name"])
def test_a_cluster_gives_the_same_bits(
    table: dict[str, Any], processes: Processes, codes: np.ndarray, filed: FileRows
) -> None:
    local = run(table, MemoryRows(codes), LOCAL)
    cluster = build_runner(f"dask://{processes.address.removeprefix('tcp://')}", "t")
    assert (run(table, filed, cluster) == local).all()


def test_rows_in_memory_are_sent_along(processes: Processes, codes: np.ndarray) -> None:
    table: dict[str, Any] = {"name": "centred_clipping"}
    assert (run(table, MemoryRows(codes), Cluster(processes.address)) == run(table, MemoryRows(codes), LOCAL)).all()


class KillsAWorker(Cluster):
    """Kills a process when the first of several parts has come in."""

    def __init__(self, address: str, victims: list[subprocess.Popen[str]]) -> None:
        super().__init__(address)
        self.victims = victims
        self.left: list[int] = []

    def map(self, task: Task, where: Rows, alone: bool = False) -> Iterator[Part]:
        parts = super().map(task, where, alone)
        yield next(parts)
        if self.victims:
            self.victims.pop().send_signal(signal.SIGKILL)
        rest = list(parts)
        self.left.append(len(rest))
        yield from rest


def test_a_worker_killed_in_the_middle_changes_no_bit(processes: Processes, filed: FileRows, codes: np.ndarray) -> None:
    table: dict[str, Any] = {"name": "geometric_median"}
    local = run(table, MemoryRows(codes), LOCAL)
    victim = processes.workers[0]
    runner = KillsAWorker(processes.address, [victim])
    slow = SlowRows(filed.path, filed.n, filed.d, filed.width, filed.capacity)
    assert (run(table, slow, runner) == local).all()
    assert victim.wait(LONGEST_S) == -signal.SIGKILL and runner.left[0] > 3


def test_storage_that_workers_do_not_share_is_reported(processes: Processes, filed: FileRows) -> None:
    elsewhere = UnsharedRows(filed.path, filed.n, filed.d, filed.width, filed.capacity)
    with pytest.raises(StorageError, match="/nowhere/rows"):
        run({"name": "median"}, elsewhere, Cluster(processes.address))


def test_a_cluster_that_is_away_is_an_error_to_try_again(filed: FileRows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedge_aggregator.rounds.engine.cluster.CONNECT_S", 0.3)
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:9"):
        run({"name": "median"}, filed, Cluster("127.0.0.1:9"))


def test_a_cluster_that_does_not_get_on_is_not_waited_for_without_end(processes: Processes, filed: FileRows) -> None:
    slow = SlowRows(filed.path, filed.n, filed.d, filed.width, filed.capacity)
    with pytest.raises(UnreachableError, match="are scheduler and workers up"):
        run({"name": "median"}, slow, Cluster(processes.address, done_s=0.1))


def test_an_unknown_engine_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"'local' or 'dask://HOST:PORT', got 'spark"):
        build_runner("spark://x", "aggregator.toml")
