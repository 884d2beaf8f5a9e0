# SPDX-License-Identifier: Apache-2.0
"""A real aggregator with two federations on a free port, and the calls of a gateway."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np
from fedge_agent.federation import identity
from fedge_agent.federation.uplink import Uplink
from fedge_aggregator.app import App
from fedge_aggregator.authority import Authority
from fedge_aggregator.config.load import load
from fedge_aggregator.federation.add_model import add_model
from fedge_aggregator.gateway_api import enrolment
from fedge_aggregator.store.store import Store
from fedge_models.messages.invitation import decode_invitation
from fedge_models.messages.release import Release
from fedge_models.messages.trust_chain import Anchor, verify_release
from fedge_models.messages.update import Update, encode_update

from support.federation_bench import GRAPH, MODEL
from support.waiting import until


class RunningAggregator:
    """An aggregator with two federations on a free port, and a way to enrol gateways."""

    def __init__(
        self, folder: Path, deadline: str = "0s", more: str = "", pumps: str = "quorum = 2", *, model: bytes = MODEL
    ) -> None:
        self.folder = folder
        (folder / "model.onnx").write_bytes(model)
        (folder / "aggregator.toml").write_text(
            f'[aggregator]\nstate = "{folder}/state"\naddresses = ["127.0.0.1"]\nlisten = "127.0.0.1:0"\n'
            f'operator = "127.0.0.1:0"\n{more}\n'
            f'[federation.pumps]\n{pumps}\ndeadline = "{deadline}"\n[federation.fans]\nquorum = 2\n'
        )
        self.config = load(folder / "aggregator.toml")
        (folder / "state").mkdir(exist_ok=True)
        with closing(Store(folder / "state")) as store:
            authority = Authority(folder / "state/authority")
            for name in {"pumps", "fans"} - {m.federation for m in store.models()}:
                add_model(store, authority, name, self.config.federation[name], folder / "model.onnx", time.time())
        self.app = App(self.config)
        self.app.start()
        self.url = f"https://{self.app.address}"
        self._runs = True

    def stop(self) -> None:
        """Stop the aggregator, unless it was stopped before."""
        if self._runs:
            self._runs = False
            self.app.stop()

    def invite(self, node: str, lifetime: float = 60, federations: tuple[str, ...] = ("pumps",)) -> str:
        now = time.time()
        store, authority = self.app.store, self.app.authority
        return enrolment.invite(store, authority, self.url, node, federations, int(now + lifetime), now)

    def enrol(self, node: str) -> identity.Identity:
        return identity.join(decode_invitation(self.invite(node)), self.folder / node)


def head_of(who: identity.Identity, have: Release | None = None, federation: str = "pumps") -> Release:
    link = Uplink(who)
    body = link.fetch_release(federation, have.header.version if have else 0, 1 << 20)
    link.close()
    assert body is not None
    graph = hashlib.sha256(MODEL).digest()
    return verify_release(body, Anchor(who.release_key, federation, graph, GRAPH.sizes), have, time.time())


def update(who: identity.Identity, head: Release, sequence: int = 1, **changes: object) -> bytes:
    made = Update(
        federation="pumps",
        node=who.node,
        base_version=head.header.version,
        base_hash=head.hash,
        sequence=sequence,
        samples=100,
        metrics={"loss": 1.0},
        codes=np.full(len(GRAPH.params), 5, np.int8),
        spread=np.full(len(GRAPH.sizes), 0.1, np.float32),
    )
    return encode_update(msgspec.structs.replace(made, **changes), who.key)


def submit(who: identity.Identity, body: bytes) -> None:
    link = Uplink(who)
    try:
        link.submit("pumps", body)
    finally:
        link.close()


def wait_for_release(aggregator: RunningAggregator, version: int) -> None:
    federation = aggregator.app.federation("pumps")
    assert federation is not None
    until(lambda: federation.current.header.version >= version, federation.round)


MakeAggregator = Callable[..., RunningAggregator]  # by keys of RunningAggregator
