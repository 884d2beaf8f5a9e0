# SPDX-License-Identifier: Apache-2.0
"""What a plant does to an OPC UA connection, with node-opcua: how long until values come again, and the gap marked.

"Usable again" is when the server answers a connection that is tried again and again by the test; from there on ten
seconds are allowed. The host is the agent's own, with its back-off. Figures: `pytest --log-cli-level INFO`.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from fedge_agent.protocols.opcua import security
from fedge_agent.sources.host import HostedSource, Queue
from fedge_agent.sources.opcua import OpcuaConfig, OpcuaSource
from fedge_agent.types import Batch, Reading
from support.black_hole import BlackHoleLink
from support.node_opcua import NodeServer
from support.waiting import LONGEST_S, until

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

logger = logging.getLogger(__name__)

ALLOWED_S = 10.0
TAGS = [f"Plant/T{i}" for i in range(40)]


class Gateway:
    """A hosted source and what came out of it."""

    def __init__(self, url: str, state: Path | None = None, **config: Any) -> None:
        self.queue = Queue(10_000)
        self.source = HostedSource("plc", OpcuaSource("plc", OpcuaConfig(url, **config), state), TAGS, self.queue)
        self.source.start()
        self.batches: list[Batch] = []

    def values_again(self, timeout: float = 60.0) -> float:
        """Seconds until every tag has come once more, in a batch that marks the gap."""
        began, seen, fresh = time.monotonic(), set[str](), False
        while time.monotonic() - began < timeout:
            batch = self.queue.get(0.1)
            if batch is None:
                continue
            fresh, seen = (True, set()) if batch.fresh else (fresh, seen)
            seen |= {r.tag for r in batch.readings}
            if fresh and len(seen) == len(TAGS):
                return time.monotonic() - began
        raise AssertionError(self.source.status())

    def value(self, tag: str, value: float) -> None:
        """Wait for a value of a tag."""
        until(lambda: any((r.tag, r.value) == (tag, value) for r in self._readings()), f"{tag} = {value}")

    def _readings(self) -> list[Reading]:
        batch = self.queue.get(0.1)
        return list(batch.readings) if batch else []

    def problem(self, text: str, timeout: float = 60.0) -> None:
        until = time.monotonic() + timeout
        while text not in str(self.source.status()["problems"]):
            assert time.monotonic() < until, self.source.status()
            self.queue.get(0.1)

    def drain(self) -> None:
        while self.queue.get(0) is not None:
            pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[list[NodeServer]]:
    """The server of the test; it may put another in its place."""
    running = [NodeServer(tmp_path / "pki", tags=len(TAGS), limits={"maxMonitoredItemsPerCall": 7}, accept=True)]
    yield running
    running[0].stop()


@pytest.fixture
def gateway(server: list[NodeServer]) -> Iterator[Gateway]:
    made = Gateway(server[0].url)
    made.values_again()
    yield made
    made.source.join(LONGEST_S)


def until_usable(port: int) -> None:
    """Wait until the server says hello."""
    hello = b"HELF" + (32 + 10).to_bytes(4, "little") + bytes(4) + b"".join(
        n.to_bytes(4, "little") for n in (65536, 65536, 0, 0, 10)
    ) + b"opc.tcp://"  # fmt: skip

    def answers() -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as probe:
            probe.settimeout(1)
            probe.sendall(hello)
            return probe.recv(4) == b"ACKF"
        return False

    until(answers, "the server to be usable")


def measured(name: str, gateway: Gateway) -> None:
    gateway.drain()
    took = gateway.values_again()
    logger.info(f"{name}: values again {took:.1f} s after the server was usable")
    assert took < ALLOWED_S


@pytest.mark.parametrize("away", [0.0, 15.0], ids=["at once", "after 15 s"])
def test_restarted_server(server: list[NodeServer], gateway: Gateway, away: float) -> None:
    server[0].stop()
    time.sleep(away)  # not a synchronisation: how long the plant's server is away
    server[0] = server[0].again()
    until_usable(server[0].port)
    measured(f"restart_{away:.0f}_s", gateway)


def test_pauses_shorter_than_the_time_out_cost_nothing(server: list[NodeServer]) -> None:
    """Three pauses of 3 s under a time-out of 30 s: a busy server, or a busy gateway."""
    gateway = Gateway(server[0].url, timeout=30.0)
    gateway.values_again()
    for value in range(3):
        server[0].signal(signal.SIGSTOP)
        time.sleep(3.0)  # not a synchronisation: how long the server is paused
        server[0].signal(signal.SIGCONT)
        server[0].do("write", name="T1", value=100 + value)
        gateway.value("Plant/T1", 100.0 + value)
    assert gateway.source.status()["reconnects"] == 0 and not gateway.source.status()["problems"]
    gateway.source.join(LONGEST_S)


@pytest.mark.parametrize("stopped", [12.0, 25.0])
def test_blocked_server(server: list[NodeServer], gateway: Gateway, stopped: float) -> None:
    server[0].signal(signal.SIGSTOP)
    time.sleep(stopped)
    gateway.drain()
    server[0].signal(signal.SIGCONT)
    measured(f"blocked_{stopped:.0f}_s", gateway)


@pytest.mark.parametrize("dead", [7.0, 21.0])
def test_half_open_link(server: list[NodeServer], dead: float) -> None:
    proxy = BlackHoleLink(server[0].port)
    gateway = Gateway(f"opc.tcp://127.0.0.1:{proxy.port}")
    gateway.values_again()
    proxy.swallow()
    time.sleep(dead)
    proxy.heal()
    measured(f"half_open_{dead:.0f}_s", gateway)
    gateway.source.join(LONGEST_S)
    proxy.close()


def test_changed_certificate_is_refused_until_it_is_trusted(server: list[NodeServer], tmp_path: Path) -> None:
    folder = tmp_path / "state/opcua/trusted"
    gateway = Gateway(server[0].url, tmp_path / "state", security="Basic256Sha256/SignAndEncrypt")
    gateway.problem("no certificate is. Compare")
    security.pin(folder, "plc", _shown(server[0]))
    gateway.values_again()
    server[0].stop()
    server[0] = NodeServer(tmp_path / "pki2", server[0].port, tags=len(TAGS), accept=True)  # a PLC that was replaced
    gateway.problem("shows another certificate")
    assert gateway.source.status()["readings"] == len(TAGS)
    security.pin(folder, "plc", _shown(server[0]))
    began = time.monotonic()
    gateway.values_again()
    logger.info(f"new certificate trusted: values again after {time.monotonic() - began:.1f} s")
    assert time.monotonic() - began < ALLOWED_S
    gateway.source.join(LONGEST_S)


def test_tags_that_appear_late(server: list[NodeServer], tmp_path: Path) -> None:
    server[0].stop()
    server[0] = NodeServer(tmp_path / "pki", server[0].port, limits={"maxMonitoredItemsPerCall": 7})
    gateway = Gateway(server[0].url)
    gateway.problem("nothing is called 'T0'")
    for i in range(len(TAGS)):
        server[0].do("add", name=f"T{i}", value=i)
    began, seen = time.monotonic(), set[str]()
    while len(seen) < len(TAGS):
        assert time.monotonic() - began < ALLOWED_S
        batch = gateway.queue.get(0.1)
        seen |= {r.tag for r in batch.readings} if batch else set()
    logger.info(f"{len(TAGS)} tags that appeared late: values after {time.monotonic() - began:.1f} s")
    gateway.source.join(LONGEST_S)


def _shown(server: NodeServer) -> bytes:
    source = OpcuaSource("plc", OpcuaConfig(server.url))
    offered = asyncio.run(source.connector.endpoints())
    return security.split_chain(offered[0].ServerCertificate)[0]
