# SPDX-License-Identifier: Apache-2.0
"""A real `fedge-aggregator start` and gateways that do nothing but talk to it, for the benchmarks of the server.

The gateways are enrolled in the database before the server starts, so that a thousand of them take a second, and then
use the agent's own connection, verification and coding. Their training is trivial: what they send is what all of them
agree on and noise of the same size, made once, and takes as many bytes as the updates of `wire.py`.
"""

from __future__ import annotations

import _common  # noqa: F401  # isort: skip  # sets the BLAS threads first

import hashlib
import http.client
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from fedge_agent.federation.identity import Identity
from fedge_agent.federation.uplink import Uplink
from fedge_agent.learning.training import Trained
from fedge_agent.learning.update import update_body
from fedge_aggregator.authority import Authority
from fedge_aggregator.config.load import load
from fedge_aggregator.federation.add_model import add_model
from fedge_aggregator.gateway_api import enrolment
from fedge_aggregator.store.store import Store
from fedge_fleet.machines.processes import Processes
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.messages.invitation import decode_invitation
from fedge_models.messages.quantize import Floats
from fedge_models.messages.release import Release, max_release_bytes
from fedge_models.messages.trust_chain import Anchor, verify_release
from fedge_models.training.loop import FitReport

FEDERATION, INPUTS = "f", 48
HIDDEN = {"5 k": (64, 24), "100 k": (256, 340), "1 M": (976, 976)}  # parameters -> layers of the MLP
SPREAD = 1.0  # of the logarithm of how far parameters move: an update is 16 % of float32, as in `wire.py`
CARD = Card(
    "classify",
    tuple(Channel(f"c{i}") for i in range(INPUTS // 3)),
    WindowSpec(100, 100, 50),
    ("mean", "std", "rms"),
    ("a", "b", "c", "d"),
)


def peak_mb(pid: int | str = "self") -> float:
    """The most resident memory that a process had, MiB (proc(5); getrusage would count what its parent had)."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024


class Server:
    """One aggregator's folder, its database and, once started, its process."""

    def __init__(self, folder: Path, parameters: str, settings: str = "", federation: str = "") -> None:
        self.folder = folder
        self.model = zoo.mlp(CARD, INPUTS, HIDDEN[parameters]).SerializeToString()
        self.graph = TrainableGraph.load(self.model)
        (folder / "model.onnx").write_bytes(self.model)
        (folder / "agg.toml").write_text(
            f'[aggregator]\nstate = "{folder}/agg"\naddresses = ["127.0.0.1"]\nlisten = "127.0.0.1:0"\n'
            f'operator = "127.0.0.1:0"\nlog_level = "warning"\n{settings}\n[federation.{FEDERATION}]\n{federation}\n'
        )
        self.config = load(folder / "agg.toml")
        (folder / "agg").mkdir()
        self.store, self.authority = Store(folder / "agg"), Authority(folder / "agg/authority")
        config = self.config.federation[FEDERATION]
        add_model(self.store, self.authority, FEDERATION, config, folder / "model.onnx", time.time())

    def enrol(self, count: int) -> list[Identity]:
        """So many nodes, as if each had joined with an invitation; before `start`."""
        with self.store.transaction():  # one commit for all
            return [self._join(f"node{i:04d}") for i in range(count)]

    def _join(self, name: str) -> Identity:
        now, store, authority = time.time(), self.store, self.authority
        text = enrolment.invite(store, authority, "https://127.0.0.1:1", name, [FEDERATION], int(now) + 60, now)
        key = Ed25519PrivateKey.generate()
        request = x509.CertificateSigningRequestBuilder(x509.Name([])).sign(key, None).public_bytes(Encoding.DER)
        _, certificate, _ = enrolment.join(store, authority, decode_invitation(text).secret, request, now)
        folder = self.folder / name
        folder.mkdir()
        pem = x509.load_der_x509_certificate(certificate).public_bytes(Encoding.PEM)
        (folder / "cert.pem").write_bytes(pem)
        (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        (folder / "ca.pem").symlink_to(self.folder / "agg/authority/ca.pem")
        return Identity("", name, (FEDERATION,), key, authority.release_key.public_key(), now + 1e9, folder)

    def start(self, processes: Processes) -> str:
        """Its URL, once it listens."""
        self.store.close()
        program = Path(sys.executable).parent / "fedge-aggregator"
        self.process = processes.start("agg", [program, "start", "--config", self.folder / "agg.toml"])
        while not (self.folder / "agg/status.addr").exists():
            processes.check()
            time.sleep(0.01)
        return f"https://{(self.folder / 'agg/listen.addr').read_text()}"

    def cpu_s(self) -> float:
        """CPU time of its process so far, s (proc(5))."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_mb(self) -> float:
        """The most resident memory that its process had, MiB."""
        return peak_mb(self.process.pid)

    def metric(self, name: str) -> float:
        """A value of its metrics page."""
        host, _, port = (self.folder / "agg/status.addr").read_text().rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=30)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        return float(next(line.split()[-1] for line in text.splitlines() if line.startswith(name)))


class Gateway:
    """One node: fetches and verifies releases, sends updates, on one kept connection."""

    def __init__(self, identity: Identity, server: Server, delta: Floats) -> None:
        self._identity, self._sizes = identity, server.graph.sizes
        self._anchor = Anchor(identity.release_key, FEDERATION, hashlib.sha256(server.model).digest(), self._sizes)
        self._cap = max_release_bytes(len(delta), len(self._sizes))
        self._uplink = Uplink(identity)
        self._delta, self._residual, self._sequence = delta, np.zeros_like(delta), 0
        self.head: Release | None = None

    def fetch(self) -> bool:
        """Whether there was a newer release; it is verified."""
        have = self.head.header.version if self.head else 0
        body = self._uplink.fetch_release(FEDERATION, have, self._cap)
        if body is not None:
            self.head = verify_release(body, self._anchor, self.head, time.time())
        return body is not None

    def train(self) -> bytes:
        """The signed update."""
        assert self.head is not None
        self._sequence += 1
        trained = Trained(FitReport((1.0,), 100, 0, False), self._delta, {"loss": 1.0}, {"loss": 0.9})
        node, key = self._identity.node, self._identity.key
        body, self._residual = update_body(self.head, trained, self._residual, self._sizes, node, self._sequence, key)
        return body

    def send(self, body: bytes) -> None:
        """Durable at the aggregator when this returns."""
        self._uplink.submit(FEDERATION, body)

    def close(self) -> None:
        """Close the connection."""
        self._uplink.close()


def gateways(server: Server, url: str, identities: Sequence[Identity]) -> list[Gateway]:
    """Gateways whose training is trivial: half of what each wants all others want too."""
    rng, d = np.random.default_rng(0), len(server.graph.params)
    size = rng.lognormal(-5, SPREAD, d).astype(np.float32)
    common = size * rng.normal(size=d).astype(np.float32)
    made = [common + size * rng.normal(size=d).astype(np.float32) for _ in range(min(len(identities), 16))]
    return [Gateway(replace(w, url=url), server, made[i % len(made)]) for i, w in enumerate(identities)]
