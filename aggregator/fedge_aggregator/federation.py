"""One federation as it lives in the server: the open round, what is admitted to it, and how it ends.

Promises that an update is durable before `admit` returns, and that ending a round is one transaction computed from
what is stored: a crash in the middle is followed by the same computation with the same result.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Sequence

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from fedge_models.errors import RefusedError, WireError
from fedge_models.quantize import Floats
from fedge_models.release import decode_release
from fedge_models.update import Update, decode_update, max_update_bytes

from . import engine, publish
from .authority import Authority
from .config import FederationConfig
from .pipeline import Pipeline
from .publish import Published, Signer
from .rounds import Round, RoundConfig
from .rows import MemoryRows
from .rules.registry import build
from .store import Model, Node, ReleaseRow, Store

logger = logging.getLogger(__name__)

RETRY_S = 30.0


class Federation:
    """The live state of one federation. Thread-safe."""

    def __init__(self, config: FederationConfig, model: Model, store: Store, authority: Authority) -> None:
        self.name, self.config, self.model = model.federation, config, model
        self.rule = build(config.rule, f"federation {model.federation}")
        self._store = store
        self._signer = Signer(self.name, model.graph, authority.release_key, int(config.lifetime))
        self._closing = threading.Lock()  # one round ends at a time
        self._current = self._load(authority.release_key.public_key())

    @property
    def current(self) -> Published:
        """The newest release."""
        return self._current

    @property
    def max_body(self) -> int:
        """Cap of an update's body, bytes."""
        return max_update_bytes(int(self.model.sizes.sum()), len(self.model.sizes))

    def body_for(self, have: int) -> bytes | None:
        """The release for a node that holds version `have`: nothing new, a difference, or all weights."""
        current = self._current
        if have == current.header.version:
            return None
        if have == current.header.version - 1 and current.difference is not None:
            return current.difference
        return current.full

    def admit(self, node: Node, body: bytes, now: float) -> bool:
        """Verify an update and take it into the round, durably. False: an exact repeat.

        Raises SignatureError, WireError (refused for good) or StaleError (fetch the newest release and retrain).
        """
        update = decode_update(body, Ed25519PublicKey.from_public_bytes(node.key), self.model.sizes)
        if update.node != node.name or update.federation != self.name:
            raise WireError(
                f"update says it is of {update.node} for {update.federation}, but came from {node.name} for {self.name}"
            )
        base = (update.base_version, update.base_hash)
        return self._store.accept(self.name, node.name, update.sequence, base, body, now)

    def round(self) -> Round:
        """The open round, from what is stored."""
        version = self._current.header.version
        limits = RoundConfig(self.config.quorum, float(self.config.deadline))
        return Round(self.name, version, limits, self._store.arrivals(self.name, version))

    def step(self, now: float, active: Iterable[str]) -> float | None:
        """End the round if it is due. Seconds until time alone may make it due, or None."""
        with self._closing:
            opened = self.round()
            if opened.due(now, active, self.rule.minimum()):
                return 0.0 if self._finish(now) else RETRY_S
            header = self._current.header
            if not opened.arrivals and now > header.created + (header.expires - header.created) / 2:
                self._publish(np.zeros_like(self._current.weights), [], "renewal", {}, now)
            return opened.next_check(now)

    def _finish(self, now: float) -> bool:
        """Average and publish; False when too few of the stored updates are usable."""
        rows = self._store.updates(self.name, self._current.header.version)
        updates = [u for u in map(self._reopen, rows) if u is not None]
        if len(updates) < self.rule.minimum():
            return False
        weights = np.array([min(u.samples, self.config.max_samples) for u in updates], np.float64)
        aggregate = engine.aggregate(Pipeline(self.rule), MemoryRows([u.codes for u in updates]), weights)
        name = str(self.config.rule["name"])
        self._publish(aggregate, [u.spread for u in updates], name, _figures(updates, weights), now)
        return True

    def _reopen(self, row: tuple[str, int, float, bytes]) -> Update | None:
        """A stored update, verified again; None when its node was revoked since, or the disk has changed it."""
        node = self._store.node(row[0])
        if node is None or node.revoked is not None:
            logger.warning("federation %s: update of %s is left out: revoked", self.name, row[0])
            return None
        try:
            return decode_update(row[3], Ed25519PublicKey.from_public_bytes(node.key), self.model.sizes)
        except RefusedError as e:
            logger.error("federation %s: stored update of %s is left out: %s", self.name, row[0], e)
            return None

    def _publish(
        self,
        aggregate: Floats,
        spreads: Sequence[Floats],
        rule: str,
        figures: dict[str, float],
        now: float,
    ) -> None:
        made = publish.next_release(
            self._signer, self._current, aggregate, spreads, self.model.sizes, rule, figures, int(now)
        )
        row = ReleaseRow(made.header.version, made.hash, now, rule, figures)
        self._store.publish(self.name, row, (made.full, made.difference, made.residual.astype("<f4").tobytes()))
        self._current = made
        logger.info("federation %s: release %d by %s of %d updates", self.name, row.version, rule, len(spreads))

    def _load(self, key: Ed25519PublicKey) -> Published:
        row, full, difference, residual = self._store.newest(self.name)
        release = decode_release(full, key, self.model.sizes)
        assert release.weights is not None and release.hash == row.hash
        owed = np.frombuffer(residual, "<f4").astype(np.float32)
        return Published(release.header, release.hash, full, difference, release.weights, owed)


def _figures(updates: Sequence[Update], weights: np.ndarray[tuple[int], np.dtype[np.float64]]) -> dict[str, float]:
    """Round figures: nodes, samples, and the weighted mean of each reported metric."""
    figures = {"nodes": float(len(updates)), "samples": float(sum(u.samples for u in updates))}
    for name in sorted({m for u in updates for m in u.metrics})[:20]:
        have = [(u.metrics[name], w) for u, w in zip(updates, weights, strict=True) if name in u.metrics]
        figures[name[:32]] = float(sum(v * w for v, w in have) / sum(w for _, w in have))
    return figures
