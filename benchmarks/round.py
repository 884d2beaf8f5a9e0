# SPDX-License-Identifier: Apache-2.0
"""What a round costs: CPU seconds of all processes, and how long it takes.

One real aggregator process with its defaults and ten gateways, a thread each, in this process: over
TLS they fetch the release and verify it, add a trivial training, code and sign it and send it, and ask again every
50 ms until the next release is there. CPU time is counted over several rounds, after some to warm up.
Below that, what trust and rule cost of it, measured in this process on ten updates of the same size.
"""

from __future__ import annotations

from _common import arguments, finish, table  # isort: skip  # sets the BLAS threads first
from _gateways import Gateway, Server, gateways  # isort: skip

import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from fedge_aggregator.config.averaging import build_averaging
from fedge_aggregator.config.schema import FederationConfig
from fedge_aggregator.rounds import average
from fedge_aggregator.rounds.contribution import Contribution
from fedge_aggregator.rounds.engine import blocks
from fedge_aggregator.rounds.engine.update_rows import MemoryRows
from fedge_fleet.machines.processes import Processes
from fedge_models.messages.quantize import LIMIT

NODES, POLL_S = 10, 0.05
WARM = 3


class Cost(NamedTuple):
    """The cost of one round."""

    server_s: float  # CPU
    nodes_s: float  # CPU
    wall_s: float


def live(gateway: Gateway, stop: threading.Event, seen: dict[int, float]) -> None:
    """Run one gateway; `seen`: when a release first arrived somewhere."""
    while not stop.is_set():
        if not gateway.fetch():
            stop.wait(POLL_S)
            continue
        assert gateway.head is not None
        seen.setdefault(gateway.head.header.version, time.monotonic())
        gateway.send(gateway.train())


def rounds(parameters: str, count: int) -> Cost:
    """Return the mean cost of this many rounds."""
    with tempfile.TemporaryDirectory() as name, Processes(Path(name) / "logs", os.environ) as processes:
        server = Server(Path(name), parameters)
        identities = server.enrol(NODES)
        members = gateways(server, server.start(processes), identities)
        stop, seen = threading.Event(), dict[int, float]()
        with ThreadPoolExecutor(NODES) as pool:
            lives = [pool.submit(live, g, stop, seen) for g in members]
            try:
                began, ended = (_at(1 + WARM + k, seen, server, lives) for k in (0, count))
            finally:
                stop.set()
        for gateway in members:
            gateway.close()
    return Cost(*((b - a) / count for a, b in zip(began, ended, strict=True)))


def _at(version: int, seen: dict[int, float], server: Server, lives: list[Future[None]]) -> Cost:
    """Return all CPU time spent up to a release."""
    while version not in seen:
        if over := [one for one in lives if one.done()]:
            over[0].result()
        time.sleep(0.005)
    return Cost(server.cpu_s(), time.process_time(), seen[version])


def averaging_s(d: int) -> tuple[float, float]:
    """Return the CPU seconds of averaging ten updates of d parameters by the default, and of its rule alone."""
    rng, names = np.random.default_rng(0), [f"node{i}" for i in range(NODES)]
    common = rng.normal(0, 20, d)
    rows = MemoryRows([np.clip(common + rng.normal(0, 20, d), -LIMIT, LIMIT).astype(np.int8) for _ in names])
    ones, spread = np.ones(d, np.float32), np.ones(1, np.float32)
    updates = [Contribution(n, spread, 100, 0, {"base_loss": 1.0}) for n in names]
    due = average.DueRound("f", 1, ones, ones, updates, rows, names, 0.0, 0)
    how = build_averaging(FederationConfig(), "the defaults")
    whole = [_cpu_s(lambda: average.average(how, due, average.RoundState())) for _ in range(5)]
    rule = [_cpu_s(lambda: blocks.aggregate(how.pipeline, rows, np.ones(NODES))) for _ in range(5)]
    return statistics.median(whole), statistics.median(rule)


def _cpu_s(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def main() -> None:
    """Print the tables."""
    args = arguments(__doc__ or "")
    small, large = rounds("5 k", 20 if args.quick else 60), rounds("1 M", 5 if args.quick else 15)
    rows = [
        [
            size,
            f"{cost.server_s + cost.nodes_s:.3f}",
            f"{cost.server_s:.3f}",
            f"{cost.nodes_s:.3f}",
            f"{cost.wall_s:.2f}",
        ]
        for size, cost in (("5 k", small), ("1 M", large))
    ]
    table(["parameters", "CPU s a round", "aggregator", "10 gateways", "wall s"], rows)
    print()
    parts = [(size, *averaging_s(d)) for size, d in (("5 k", 5_000), ("1 M", 1_000_000))]
    rows = [[size, f"{whole:.4f}", f"{rule:.4f}", f"{whole - rule:.4f}"] for size, whole, rule in parts]
    table(["parameters", "of that averaging, CPU s", "rule and mixing", "trust and the rest"], rows)
    figures = {
        "round_cpu_s_10_nodes": small.server_s + small.nodes_s,
        "round_cpu_s_10_nodes_1m": large.server_s + large.nodes_s,
        "round_wall_s": small.wall_s,
    }
    finish("round", figures, args.json)


if __name__ == "__main__":
    main()
