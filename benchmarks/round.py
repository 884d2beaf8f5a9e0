"""What a round costs: CPU seconds of all processes, and how long it takes.

One real aggregator process with its defaults (trust on, fedavg) and ten gateways, a thread each, in this process: over
TLS they fetch the release and verify it, add a trivial training, code and sign it and send it, and ask again every
50 ms until the next release is there. CPU time is counted over several rounds, after some to warm up.
Below that, what the parts of averaging cost, measured in this process on rows of the same size.
"""

from __future__ import annotations

from _common import arguments, finish, table  # isort: skip  # sets the BLAS threads first
from _gateways import Gateway, Server, gateways  # isort: skip

import os
import tempfile
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from fedge_fleet.processes import Processes

NODES, POLL_S = 10, 0.05
WARM = 3


class Cost(NamedTuple):
    """Of one round."""

    server_s: float  # CPU
    nodes_s: float  # CPU
    wall_s: float


def live(gateway: Gateway, stop: threading.Event, seen: dict[int, float]) -> None:
    """One gateway's life; `seen`: when a release first was somewhere."""
    while not stop.is_set():
        if not gateway.fetch():
            stop.wait(POLL_S)
            continue
        assert gateway.head is not None
        seen.setdefault(gateway.head.header.version, time.monotonic())
        gateway.send(gateway.train())


def rounds(parameters: str, count: int) -> Cost:
    """The mean of so many rounds."""
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
    """All that was spent when a release is there."""
    while version not in seen:
        if over := [one for one in lives if one.done()]:
            over[0].result()
        time.sleep(0.005)
    return Cost(server.cpu_s(), time.process_time(), seen[version])


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
    figures = {
        "round_cpu_s_10_nodes": small.server_s + small.nodes_s,
        "round_cpu_s_10_nodes_1m": large.server_s + large.nodes_s,
        "round_wall_s": small.wall_s,
    }
    finish("round", figures, args.json)


if __name__ == "__main__":
    main()
