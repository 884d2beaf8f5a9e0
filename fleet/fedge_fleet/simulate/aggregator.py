# SPDX-License-Identifier: Apache-2.0
"""The aggregator of a simulated federation: real messages, rules, grid and signatures, but no TLS and no SQLite.

Every update is signed, encoded, then verified and decoded as the server does it; every release is signed, and verified
as a gateway does it (once: all gateways hold the same bits).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fedge_aggregator.config.schema import FederationConfig
from fedge_aggregator.federation import admission, publish
from fedge_aggregator.rounds import start_value
from fedge_aggregator.rounds.average import Averaging, DueRound, RoundState, average
from fedge_aggregator.rounds.contribution import Contribution, regrid
from fedge_aggregator.rounds.engine.update_rows import MemoryRows
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.messages.quantize import Codes, Floats, expand
from fedge_models.messages.release import DRIFT_SHARE
from fedge_models.messages.trust_chain import Anchor, verify_release
from fedge_models.messages.update import Update, decode_update, encode_update

from ..data.member import Base, Sent

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
        how: Averaging,
        federation: FederationConfig,
        seed: int,
    ) -> None:
        self.how, self.traffic = how, Traffic()
        self.changes: list[str] = []  # the report of each entry into quarantine and each exit
        self._federation, self._sizes, self._seed = federation, graph.sizes, seed
        self._state = RoundState()
        self._keys = {n: _key(seed, n) for n in nodes}
        self._sequence = dict.fromkeys(nodes, 0)
        release_key = _key(seed, "")
        self._signer = publish.Signer(FEDERATION, bytes(32), release_key, LIFETIME_S)
        self._anchor = Anchor(release_key.public_key(), FEDERATION, bytes(32), graph.sizes)
        self._current = publish.first_release(self._signer, graph.params.copy(), graph.sizes, 0)
        self._head = verify_release(self._current.full, self._anchor, None, 0)
        self._hashes = {1: self._head.hash}
        self._updates: dict[str, tuple[Contribution, Codes]] = {}

    def base(self) -> Base:
        """The newest release, as gateways have verified it."""
        header = self._head.header
        part, share = self._state.losses.participants, header.figures.get(DRIFT_SHARE, 1.0)
        return Base(header.version, self._head.weights, header.steps, share, part)

    def minimum(self) -> int:
        """Number of updates below which the open round is not averaged; nodes in quarantine do not count."""
        silent = sum(n in self._updates for n in self.quarantined())
        return self.how.pipeline.minimum() + silent

    def admit(self, node: str, sent: Sent, base: Base) -> None:
        """Sign, encode, send, verify, decode and store an update. Raises RefusedError."""
        self._sequence[node] += 1
        update = Update(
            federation=FEDERATION,
            node=node,
            base_version=base.version,
            base_hash=self._hashes[base.version],
            sequence=self._sequence[node],
            samples=sent.samples,
            metrics=sent.metrics,
            codes=sent.codes,
            spread=sent.spread,
        )
        body = encode_update(update, self._keys[node])
        self.traffic.up += len(body)
        arrived = decode_update(body, self._keys[node].public_key(), self._sizes)
        admission.check(arrived, node, FEDERATION, self._federation, self.how.local.mask if self.how.local else None)
        header = self._head.header
        samples, staleness = min(arrived.samples, self._federation.max_samples), header.version - base.version
        made = Contribution(node, arrived.spread, samples, staleness, arrived.metrics)
        self._updates[node] = made, regrid(arrived.codes, base.steps, header.steps, self._sizes)

    def close(self, now: float) -> None:
        """Average and publish; gateways verify the release."""
        names, header = sorted(self._updates), self._head.header
        due = DueRound(
            federation=FEDERATION,
            release=header.version,
            weights=self._head.weights,
            grid=expand(header.steps, self._sizes),
            updates=[self._updates[n][0] for n in names],
            rows=MemoryRows([self._updates[n][1] for n in names]),
            members=self._keys,
            now=now,
            seed=self._seed + header.version,
        )
        made = average(self.how, due, self._state)
        self._state = made.state
        self.changes += [f"release {header.version}: {change}" for change in made.changes]
        reported = [u.spread for u in due.updates if made.shares[u.node]]
        spreads = start_value.grid_spreads(self.how.local, reported, header.steps)
        self._publish(made.step, spreads, now)
        self._updates = {}

    def quarantined(self) -> tuple[str, ...]:
        """Names of the nodes in quarantine now."""
        return tuple(sorted(n for n, s in self._state.reputations.items() if s.quarantined))

    def _publish(self, step: Floats, spreads: Sequence[Floats], now: float) -> None:
        figures = {"nodes": float(len(spreads)), DRIFT_SHARE: self.how.pipeline.drift}
        self._current = publish.next_release(
            self._signer, self._current, step, spreads, self._sizes, self.how.name, figures, int(now)
        )
        assert self._current.difference is not None
        self.traffic.down += len(self._current.difference)
        self._head = verify_release(self._current.difference, self._anchor, self._head, int(now))
        self._hashes[self._head.header.version] = self._head.hash


def _key(seed: int, name: str) -> Ed25519PrivateKey:
    """Make a key for a simulated site from the seed, so that a run repeats to the bit; it protects nothing outside."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(f"simulated {seed} {name}".encode()).digest())
