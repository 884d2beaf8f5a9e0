"""The aggregator of a simulated federation: the real messages, rules, grid and signatures; only TLS and SQLite are not.

Every update is signed, encoded, then verified and decoded as the server does it; every release is signed, and verified
as a gateway does it (once: all gateways hold the same bits).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fedge_aggregator import admission, engine, publish
from fedge_aggregator import server_optimizers as optimizers
from fedge_aggregator.aggregation import Contribution, regrid, weigh
from fedge_aggregator.config import FederationConfig
from fedge_aggregator.pipeline import Pipeline
from fedge_aggregator.rows import MemoryRows
from fedge_aggregator.rules.rule import Weights
from fedge_aggregator.server_optimizers import ServerOptimizer
from fedge_aggregator.standing import TrustConfig
from fedge_models.graph import TrainableGraph
from fedge_models.quantize import Codes, Floats, expand
from fedge_models.trust_chain import Anchor, verify_release
from fedge_models.update import Update, decode_update, encode_update

from .member import Base, Sent
from .trusting import Trusting

FEDERATION = "simulated"
LIFETIME_S = 10 * 365 * 86400


@dataclass
class Traffic:
    """Bytes that would have crossed the network."""

    up: int = 0
    down: int = 0  # of one gateway


@dataclass(frozen=True)
class Averaging:
    """What makes one step of a round's updates."""

    name: str  # of the rule
    pipeline: Pipeline
    optimizer: ServerOptimizer
    federation: FederationConfig  # what is admitted, and what staleness costs
    trust: TrustConfig | None = None


class Aggregator:
    """One federation."""

    def __init__(
        self,
        graph: TrainableGraph,
        nodes: Sequence[str],
        averaging: Averaging,
        seed: int,
    ) -> None:
        self.averaging, self.traffic = averaging, Traffic()
        self._sizes, self._seed = graph.sizes, seed
        self._state = optimizers.first_state(averaging.optimizer, len(graph.params))
        self.trusting = None if averaging.trust is None else Trusting(averaging.trust)
        self._moved: Floats | None = None  # (P,) the aggregate before, in parameter units
        self._keys = {n: _key(seed, n) for n in nodes}
        self._sequence = dict.fromkeys(nodes, 0)
        release_key = _key(seed, "")
        self._signer = publish.Signer(FEDERATION, bytes(32), release_key, LIFETIME_S)
        self._anchor = Anchor(release_key.public_key(), FEDERATION, bytes(32), graph.sizes)
        self._current = publish.first_release(self._signer, graph.params.copy(), graph.sizes, 0)
        self._head = verify_release(self._current.full, self._anchor, None, 0)
        self._hashes = {1: self._head.hash}
        self._updates: dict[str, Contribution] = {}

    def base(self) -> Base:
        """The newest release, as gateways have verified it."""
        return Base(self._head.header.version, self._head.weights, self._head.header.steps)

    def minimum(self) -> int:
        """What the rule needs."""
        return self.averaging.pipeline.minimum()

    def admit(self, node: str, sent: Sent, base: Base) -> None:
        """Sign, encode, send, verify, decode, keep. Raises RefusedError."""
        self._sequence[node] += 1
        update = Update(
            federation=FEDERATION,
            node=node,
            base_version=base.version,
            base_hash=self._hashes[base.version],
            sequence=self._sequence[node],
            samples=sent.samples,
            metrics={},
            codes=sent.codes,
            spread=sent.spread,
        )
        body = encode_update(update, self._keys[node])
        self.traffic.up += len(body)
        arrived = decode_update(body, self._keys[node].public_key(), self._sizes)
        admission.check(arrived, node, FEDERATION, self.averaging.federation)
        header = self._head.header
        self._updates[node] = Contribution(
            node,
            regrid(arrived.codes, base.steps, header.steps, self._sizes),
            arrived.spread,
            min(arrived.samples, self.averaging.federation.max_samples),
            header.version - base.version,
            arrived.metrics,
        )

    def close(self, now: float) -> None:
        """Average and publish; gateways verify the release."""
        factors = self._factors(now)
        updates = [self._updates[n] for n in factors]
        weighing = weigh(updates, self.averaging.federation.staleness_exponent)
        weights = weighing.weights * list(factors.values())
        step = self._step([u.codes for u in updates], weights, weighing.damping)
        spreads, figures, rule = [u.spread for u in updates], {"nodes": float(len(updates))}, self.averaging.name
        self._current = publish.next_release(
            self._signer, self._current, step, spreads, self._sizes, rule, figures, int(now)
        )
        assert self._current.difference is not None
        self.traffic.down += len(self._current.difference)
        self._head = verify_release(self._current.difference, self._anchor, self._head, int(now))
        self._hashes[self._head.header.version] = self._head.hash
        self._updates = {}

    def _factors(self, now: float) -> dict[str, float]:
        """Whose updates are averaged, in order of names, and what trust leaves of their weight."""
        names = sorted(self._updates)
        if self.trusting is None:
            return dict.fromkeys(names, 1.0)
        rows = [self._updates[n].codes for n in names]
        return self.trusting.weigh(names, rows, self._head.header.version, now, self.minimum(), self._keys)

    def _step(self, rows: Sequence[Codes], weights: Weights, damping: float) -> Floats:
        """What rule and optimiser make of the rows, in grid units."""
        grid = expand(self._head.header.steps, self._sizes)
        before = None if self._moved is None else self._moved / grid
        aggregate = engine.aggregate(
            self.averaging.pipeline,
            MemoryRows(rows),
            weights,
            reference=before,
            seed=self._seed + self._head.header.version,
        )
        self._moved = aggregate * grid * np.float32(damping)
        step, self._state = self.averaging.optimizer.step(self._state, self._moved)
        out: Floats = step / grid
        return out


def _key(seed: int, name: str) -> Ed25519PrivateKey:
    """A key for a simulated site: from the seed, so that a run repeats to the bit; worth nothing outside."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(f"simulated {seed} {name}".encode()).digest())
