# SPDX-License-Identifier: Apache-2.0
"""A federation on its real store, driven by a test: in a folder, without a network, with a clock of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fedge_aggregator.authority import Authority
from fedge_aggregator.cli.main import main
from fedge_aggregator.config.load import load
from fedge_aggregator.federation.add_model import add_model
from fedge_aggregator.federation.federation import Federation
from fedge_aggregator.gateway_api import enrolment
from fedge_aggregator.store.store import Store
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.messages.invitation import decode_invitation
from fedge_models.messages.update import Update, encode_update

CARD = Card("anomaly", (Channel("a"), Channel("b")), WindowSpec(1, 10, 5), ("mean", "std"))
MODEL = zoo.autoencoder(CARD, 4, (3,)).SerializeToString()
GRAPH = TrainableGraph.load(MODEL)
GRAPH.params.flags.writeable = False  # all tests share it
P, T = GRAPH.params.size, len(GRAPH.sizes)
ASYNCHRONOUS = 'mode = "asynchronous"\nbuffer = 2\nmax_staleness = 3\n'


class FederationBench:
    """A federation `f` in a folder, nodes `a` to `d`, and a clock."""

    def __init__(self, folder: Path, keys: str = "", rule: str = '{ name = "fedavg" }', model: bytes = MODEL) -> None:
        self.folder, self.now = folder, 1_000_000.0
        self.toml = folder / "aggregator.toml"
        self.toml.write_text(
            f'[aggregator]\nstate = "{folder}/state"\naddresses = ["127.0.0.1"]\n[federation.f]\nrule = {rule}\n{keys}'
        )
        self.config = load(self.toml)
        (folder / "state").mkdir(exist_ok=True)
        (folder / "model.onnx").write_bytes(model)
        self.keys = {name: Ed25519PrivateKey.from_private_bytes(name.encode() * 32) for name in "abcd"}
        self.sequence = 0
        self.open()
        if not self.store.models():
            add_model(self.store, self.authority, "f", self.config.federation["f"], folder / "model.onnx", self.now)
            for name, key in self.keys.items():
                self.join(name, key)
            self.open()

    def open(self) -> None:
        """Open the store and the federation again, as a restart does."""
        self.close()
        self.store = Store(self.folder / "state")
        self.authority = Authority(self.folder / "state/authority")
        if self.store.models():
            self.federation = Federation(
                self.config.federation["f"], self.store.models()[0], self.store, self.authority, self.folder
            )

    def close(self) -> None:
        """Close the store, if it is open."""
        if hasattr(self, "store"):
            self.store.close()

    def join(self, name: str, key: Ed25519PrivateKey) -> None:
        text = enrolment.invite(self.store, self.authority, "https://x:1", name, ["f"], int(self.now) + 60, self.now)
        request = x509.CertificateSigningRequestBuilder(x509.Name([])).sign(key, None)
        der = request.public_bytes(serialization.Encoding.DER)
        enrolment.join(self.store, self.authority, decode_invitation(text).secret, der, self.now)

    def update(self, name: str, code: int = 5, **changes: Any) -> bytes:
        self.sequence += 1
        current = self.federation.current
        made = Update(
            federation="f",
            node=name,
            base_version=current.header.version,
            base_hash=current.hash,
            sequence=self.sequence,
            samples=100,
            metrics={"base_loss": 1.0},
            codes=np.full(P, code, np.int8),
            spread=np.full(T, 0.1, np.float32),
        )
        return encode_update(msgspec.structs.replace(made, **changes), self.keys[name])

    def send(self, name: str, body: bytes | None = None, **changes: Any) -> bool:
        node = self.store.node(name)
        assert node is not None
        return self.federation.admit(node, body or self.update(name, **changes), self.now)

    def step(self, active: str = "abcd", seconds: float = 0) -> int:
        """Let time pass, step the federation once, and return its newest version."""
        self.now += seconds
        self.federation.step(self.now, set(active))
        return self.federation.current.header.version

    def round(self, *names: str, code: int = 5) -> None:
        """Run one round in which these nodes send an update."""
        for name in names:
            self.send(name, code=code)
        assert self.step("".join(names), 600)

    def audit(self, what: str) -> list[tuple[str | None, str]]:
        return [(row.node, row.detail) for row in self.store.audit.read(what=what)]

    def cli(self, *words: str) -> Any:
        done = CliRunner().invoke(main, [*words, "--config", str(self.toml)])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout) if "--json" in words else done.stdout


MakeBench = Callable[..., FederationBench]  # keys of the federation's table, and more of FederationBench's arguments
