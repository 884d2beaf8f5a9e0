# SPDX-License-Identifier: Apache-2.0
"""What one aggregator process takes in: updates a second, how long each waits for its 202, and in how much memory.

A real `fedge-aggregator start` with its defaults on two cores that it shares with the gateways; each gateway has a
kept TLS connection of its own and one signed update a round, as always.
`updates_per_s`: 32 at a time send as fast as they are answered, 100 k parameters. `accept_p99_ms`: updates come at half
that rate, evenly, and are counted from when they were due. The rest: a thousand gateways and one round of a small
model, the process's peak with the average included; and a thousand updates of a million parameters, admitted and
averaged by the server's `Federation` in a process of its own.
"""

from __future__ import annotations

from _common import arguments, finish, table  # isort: skip  # sets the BLAS threads first
from _gateways import FEDERATION, Gateway, Server, gateways, peak_mb  # isort: skip

import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from fedge_aggregator.federation.federation import Federation
from fedge_aggregator.store.store import Store
from fedge_fleet.machines.processes import Processes
from fedge_models.messages.quantize import LIMIT
from fedge_models.messages.update import Update, encode_update

AT_ONCE = 32
WAIT = 'quorum = 2\ndeadline = "1h"'


class Load(NamedTuple):
    """Figures measured of one server."""

    per_s: float
    p99_ms: float
    cpu_ms: float  # of the server, an update
    rss_mb: float  # peak


def prepared(members: Sequence[Gateway], pool: ThreadPoolExecutor) -> list[bytes]:
    """Give every gateway the newest release, a connection and a signed update."""
    list(pool.map(Gateway.fetch, members))
    return [g.train() for g in members]


def flood(members: Sequence[Gateway], bodies: Sequence[bytes], pool: ThreadPoolExecutor) -> float:
    """Return the seconds until all updates are accepted."""
    began = time.perf_counter()
    list(pool.map(Gateway.send, members, bodies))
    return time.perf_counter() - began


def trickle(members: Sequence[Gateway], bodies: Sequence[bytes], rate: float, pool: ThreadPoolExecutor) -> list[float]:
    """Return, for each update, the seconds from its due time to its 202."""
    began = time.perf_counter() + 0.05

    def send(i: int) -> float:
        due = began + i / rate
        time.sleep(max(0.0, due - time.perf_counter()))
        members[i].send(bodies[i])
        return time.perf_counter() - due

    return list(pool.map(send, range(len(members))))


def wait_for(server: Server, version: int, processes: Processes) -> None:
    """Wait until the round has ended."""
    while server.metric("fedge_aggregator_release") < version:
        processes.check()
        time.sleep(0.05)


def serve(parameters: str, nodes: int, floods: int, trickles: int) -> Load:
    """Serve this many rounds of each kind; return medians, and the 99th percentile of all that trickled."""
    with (
        tempfile.TemporaryDirectory() as name,
        Processes(Path(name) / "logs", os.environ) as processes,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):
        server = Server(Path(name), parameters, f"max_connections = {nodes + 8}", WAIT)
        identities = server.enrol(nodes)
        members = gateways(server, server.start(processes), identities)
        rates, waits, cpu = [], list[float](), []
        for k in range(floods + trickles):
            bodies, before = prepared(members, pool), server.cpu_s()
            if k < floods:
                rates.append(nodes / flood(members, bodies, pool))
                cpu.append((server.cpu_s() - before) / nodes)
            else:
                waits += trickle(members, bodies, statistics.median(rates) / 2, pool)
            wait_for(server, k + 2, processes)
        peak = server.peak_mb()
        for gateway in members:
            gateway.close()
    p99 = float(np.quantile(waits, 0.99)) if waits else float("nan")
    return Load(statistics.median(rates), 1e3 * p99, 1e3 * statistics.median(cpu), peak)


def average(folder: str, parameters: str, count: int, answer: multiprocessing.SimpleQueue[list[float]]) -> None:
    """In a process of its own: admit updates and average them; print the seconds of both and the peak memory in MiB."""
    server = Server(Path(folder), parameters, federation=WAIT)
    identities = server.enrol(count)
    config, model = server.config.federation[FEDERATION], server.store.models()[0]
    store = Store(Path(folder) / "agg")
    federation = Federation(config, model, store, server.authority, Path(folder) / "agg")
    rng, d, times = np.random.default_rng(0), len(server.graph.params), [0.0, 0.0]
    head, sizes = federation.current, server.graph.sizes
    noise = np.clip(np.rint(rng.normal(0, 30, 2 * d)), -LIMIT, LIMIT).astype(np.int8)
    metrics, spread = {"base_loss": 1.0}, np.full(len(sizes), 0.1, np.float32)
    first = Update(
        federation=FEDERATION,
        node="",
        base_version=1,
        base_hash=head.hash,
        sequence=1,
        samples=100,
        metrics=metrics,
        codes=noise[:d],
        spread=spread,
    )
    for who in identities:
        start = int(rng.integers(d))
        body = encode_update(msgspec.structs.replace(first, node=who.node, codes=noise[start : start + d]), who.key)
        node = store.node(who.node)
        assert node is not None
        began = time.perf_counter()
        federation.admit(node, body, time.time())
        times[0] += time.perf_counter() - began
    began = time.perf_counter()
    federation.step(time.time(), {w.node for w in identities})
    times[1] = time.perf_counter() - began
    assert federation.current.header.version == 2
    answer.put([*times, peak_mb()])


def averaged(parameters: str, count: int) -> list[float]:
    """Run `average` in a process of its own and return its figures."""
    spawn = multiprocessing.get_context("spawn")
    answer = spawn.SimpleQueue()
    with tempfile.TemporaryDirectory() as folder:
        process = spawn.Process(target=average, args=(folder, parameters, count, answer))
        process.start()
        process.join()
        if process.exitcode:
            raise SystemExit("the process that averages has failed")
    return answer.get()


def main() -> None:
    """Print the table."""
    args = arguments(__doc__ or "")
    busy = serve("100 k", 200, 2 if args.quick else 7, 1 if args.quick else 4)
    many = serve("5 k", 1000, 1, 0)
    count = 50 if args.quick else 1000
    admitted_s, averaged_s, peak = averaged("1 M", count)
    rows = [
        ["updates accepted a second, 100 k parameters", f"{busy.per_s:.0f}"],
        ["server's CPU an update, ms", f"{busy.cpu_ms:.1f}"],
        ["99 % accepted within, at half that rate, ms", f"{busy.p99_ms:.0f}"],
        ["peak memory with 1,000 gateways, MiB", f"{many.rss_mb:.0f}"],
        [f"{count:,} updates of 1 M parameters: admitted in, s", f"{admitted_s:.1f}"],
        ["averaged in, s", f"{averaged_s:.1f}"],
        ["peak memory, MiB", f"{peak:.0f}"],
    ]
    table(["figure", "value"], rows)
    figures = {"updates_per_s": busy.per_s, "accept_p99_ms": busy.p99_ms, "rss_mb_1000_nodes": many.rss_mb}
    if not args.quick:
        figures |= {"averaged_1000_of_1m_s": averaged_s, "peak_mb_1000_of_1m": peak}
    finish("aggregator", figures, args.json)


if __name__ == "__main__":
    main()
