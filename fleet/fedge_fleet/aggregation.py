"""The aggregator of a simulated federation: the real messages, rules, grid and signatures; only TLS and SQLite are not.

Every update is signed, encoded, then verified and decoded as the server does it; every release is signed, and verified
as a gateway does it (once: all gateways hold the same bits).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fedge_aggregator import engine, publish
from fedge_aggregator.rules.registry import build
from fedge_models.graph import TrainableGraph
from fedge_models.trust_chain import Anchor, verify_release
from fedge_models.update import Update, decode_update, encode_update

from .member import Base, Sent

FEDERATION = "simulated"
LIFETIME_S = 10 * 365 * 86400


@dataclass
class Traffic:
    """Bytes that would have crossed the network."""

    up: int = 0
    down: int = 0  # of one gateway


class Aggregator:
    """One federation."""

    def __init__(
        self,
        graph: TrainableGraph,
        nodes: Sequence[str],
        table: Mapping[str, Any],
        max_samples: int,
        seed: int,
        where: str,
    ) -> None:
        self.rule = build(table, where)
        self.traffic = Traffic()
        self._name, self._cap, self._sizes = str(table["name"]), max_samples, graph.sizes
        self._keys = {n: _key(seed, n) for n in nodes}
        self._sequence = dict.fromkeys(nodes, 0)
        release_key = _key(seed, "")
        self._signer = publish.Signer(FEDERATION, bytes(32), release_key, LIFETIME_S)
        self._anchor = Anchor(release_key.public_key(), FEDERATION, bytes(32), graph.sizes)
        self._current = publish.first_release(self._signer, graph.params.copy(), graph.sizes, 0)
        self._head = verify_release(self._current.full, self._anchor, None, 0)
        self._updates: dict[str, Update] = {}

    def base(self) -> Base:
        """The newest release, as gateways have verified it."""
        return Base(self._head.header.version, self._head.weights, self._head.header.steps)

    def minimum(self) -> int:
        """What the rule needs."""
        return self.rule.minimum()

    def admit(self, node: str, sent: Sent, base: Base) -> None:
        """Sign, encode, send, verify, decode, keep. Raises RefusedError."""
        self._sequence[node] += 1
        update = Update(
            federation=FEDERATION,
            node=node,
            base_version=base.version,
            base_hash=self._head.hash,
            sequence=self._sequence[node],
            samples=sent.samples,
            metrics={},
            codes=sent.codes,
            spread=sent.spread,
        )
        body = encode_update(update, self._keys[node])
        self.traffic.up += len(body)
        self._updates[node] = decode_update(body, self._keys[node].public_key(), self._sizes)

    def close(self, now: float) -> None:
        """Average and publish; gateways verify the release."""
        updates = [self._updates[n] for n in sorted(self._updates)]
        weights = np.array([min(u.samples, self._cap) for u in updates], np.float64)
        aggregate = engine.aggregate(self.rule, [u.codes for u in updates], weights)
        spreads = [u.spread for u in updates]
        figures = {"nodes": float(len(updates))}
        self._current = publish.next_release(
            self._signer, self._current, aggregate, spreads, self._sizes, self._name, figures, int(now)
        )
        assert self._current.difference is not None
        self.traffic.down += len(self._current.difference)
        self._head = verify_release(self._current.difference, self._anchor, self._head, int(now))
        self._updates = {}


def _key(seed: int, name: str) -> Ed25519PrivateKey:
    """A key for a simulated site: from the seed, so that a run repeats to the bit; worth nothing outside."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(f"simulated {seed} {name}".encode()).digest())
