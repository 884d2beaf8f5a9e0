"""The engine on a real Dask cluster: scheduler and two worker processes on loopback."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rule_references as references
from counterparts import counterpart
from fedge_aggregator import engine
from fedge_aggregator.cluster import Cluster
from fedge_aggregator.rows import FileRows, MemoryRows, Rows, RowsWriter
from fedge_aggregator.rules.registry import build_pipeline
from fedge_models.errors import ConfigError, StorageError, UnreachableError

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
        env = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "DASK_DISTRIBUTED__LOGGING__DISTRIBUTED": "info"}
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
    with RowsWriter(tmp_path_factory.mktemp("shared") / "rows", D, N) as writer:
        for row in codes:
            writer.append(row)
        yield writer.rows()


def run(table: dict[str, object], rows: Rows, runner: engine.Runner) -> np.ndarray:
    mixing = references.MIXINGS[0] if table["name"] == "trimmed_mean" else None
    before = np.linspace(-60, 60, D, dtype=np.float32)
    return engine.aggregate(
        build_pipeline(table, mixing, "t"), rows, np.arange(1.0, N + 1), reference=before, runner=runner
    )


@pytest.mark.parametrize("table", references.TABLES, ids=lambda t: t["name"])
def test_a_cluster_gives_the_same_bits(
    table: dict[str, object], processes: Processes, codes: np.ndarray, filed: FileRows
) -> None:
    local = run(table, MemoryRows(codes), engine.LOCAL)
    cluster = engine.build_runner(f"dask://{processes.address.removeprefix('tcp://')}", "t")
    assert (run(table, filed, cluster) == local).all()


def test_rows_in_memory_are_sent_along(processes: Processes, codes: np.ndarray) -> None:
    table = {"name": "centred_clipping"}
    assert (
        run(table, MemoryRows(codes), Cluster(processes.address)) == run(table, MemoryRows(codes), engine.LOCAL)
    ).all()


def slow(rows: Rows, start: int, stop: int) -> np.ndarray:
    time.sleep(0.3)
    return rows.block(start, stop).sum(axis=0, dtype=np.int64)


def test_a_worker_killed_in_the_middle_changes_no_bit(processes: Processes, filed: FileRows, codes: np.ndarray) -> None:
    import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers know fedge, not its tests
    victim, parts = processes.workers[0], []
    for part in Cluster(processes.address).map(slow, filed):
        parts.append(part)
        if len(parts) == 1:
            os.kill(victim.pid, signal.SIGKILL)
    assert victim.wait(10) == -signal.SIGKILL
    got = np.concatenate([values for _, _, values in sorted(parts, key=lambda part: part[0])])
    assert len(parts) >= 8 and (got == codes.sum(axis=0, dtype=np.int64)).all()
    table = {"name": "geometric_median"}
    assert (run(table, filed, Cluster(processes.address)) == run(table, filed, engine.LOCAL)).all()


def test_storage_that_workers_do_not_share_is_said(processes: Processes, filed: FileRows) -> None:
    elsewhere = FileRows(Path("/nowhere/rows"), filed.n, filed.d, filed.width, filed.capacity)
    with pytest.raises(StorageError, match="/nowhere/rows"):
        run({"name": "median"}, elsewhere, Cluster(processes.address))


def test_a_cluster_that_is_away_is_an_error_to_try_again(filed: FileRows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedge_aggregator.cluster.CONNECT_S", 0.3)
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:9"):
        run({"name": "median"}, filed, Cluster("127.0.0.1:9"))


def test_an_unknown_engine_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"'local' or 'dask://HOST:PORT', got 'spark"):
        engine.build_runner("spark://x", "aggregator.toml")
