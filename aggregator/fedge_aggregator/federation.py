"""One federation as it lives in the server: the open round, what is admitted to it, and how it ends.

Promises that an update is durable before `admit` returns and then is in a release, that every refusal is written down
with its reason, and that ending a round is one transaction computed from what is stored: a crash in the middle is
followed by the same computation with the same result. `rounds` decides when, `aggregation` how, `chain` publishes.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Collection, Sequence
from contextlib import nullcontext
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from fedge_models.errors import IdentityError, RefusedError, StaleError, StorageError
from fedge_models.quantize import Floats
from fedge_models.update import decode_update, max_update_bytes

from . import admission, aggregation
from .aggregation import Contribution, Weighing
from .authority import Authority
from .chain import Chain
from .config import FederationConfig
from .federated_evaluation import evaluate
from .publish import Published
from .rounds import Round
from .rules.registry import build
from .store import Model, Node, Store
from .store.updates import UpdateRow

logger = logging.getLogger(__name__)

RETRY_S = 1.0


class Federation:
    """The live state of one federation. Thread-safe."""

    def __init__(self, config: FederationConfig, model: Model, store: Store, authority: Authority) -> None:
        self.name, self.config, self.model = model.federation, config, model
        self.rule = build(config.rule, f"federation {model.federation}")
        self.minimum = self.rule.minimum()
        self.limits = config.limits(self.minimum)
        self._store = store
        self._chain = Chain(model, config, store, authority)
        self._secret = hashlib.sha256(b"fedge sample" + authority.release_key.private_bytes_raw()).digest()
        self._closing = threading.Lock()  # one round ends at a time, and a synchronous one takes nothing meanwhile
        self._refusals, self._refusing = admission.Refusals(), threading.Lock()
        self._said = 0  # the release after which it was written down that the rule cannot hold

    @property
    def current(self) -> Published:
        """The newest release."""
        return self._chain.current

    @property
    def max_body(self) -> int:
        """Cap of an update's body, bytes."""
        return max_update_bytes(int(self.model.sizes.sum()), len(self.model.sizes))

    def body_for(self, have: int) -> bytes | None:
        """The release for a node that holds version `have`: nothing new, a difference, or all weights."""
        self._chain.refresh()
        current = self.current
        if have == current.header.version:
            return None
        if have == current.header.version - 1 and current.difference is not None:
            return current.difference
        return current.full

    def wants(self, node: str) -> bool:
        """Whether the node is to train in the open round."""
        return not self.limits.sampled or self.round().wants(node)

    def admit(self, node: Node, body: bytes, now: float) -> bool:
        """Verify an update and take it into the round, durably. False: an exact repeat.

        Raises SignatureError, WireError (refused for good), StaleError (fetch the newest release and retrain) or
        IdentityError (revoked).
        """
        try:
            return self._admit(node, body, now)
        except RefusedError as e:
            self._write_down(node.name, e, now)
            raise

    def round(self, node: str | None = None) -> Round:
        """The open round, from what is stored; `node`: as far as this one is concerned."""
        releases, updates = self._store.releases, self._store.updates
        with self._store.reading():
            return Round(
                self.name,
                releases.version(self.name),
                self.limits,
                updates.arrivals(self.name, node),
                updates.asked(self.name) if self.limits.sampled else {},
                releases.floor(self.name),
                self._secret,
            )

    def step(self, now: float, active: Collection[str]) -> float | None:
        """End the round if it is due. Seconds until time alone may make it due, or None."""
        with self._closing:
            self._chain.refresh()
            opened = self._opened(now, active)
            if opened.due(now, active, self.minimum) and self._store.releases.pin(self.name) is None:
                return 0.0 if self._finish(opened, now) else RETRY_S
            header = self.current.header
            if now > header.created + (header.expires - header.created) / 2:
                self._chain.renew(now)
            return opened.next_check(now)

    def status(self, now: float, active: Collection[str]) -> dict[str, Any]:
        """For the operator's page."""
        opened, header, pin = self.round(), self.current.header, self._store.releases.pin(self.name)
        newest = self._store.releases.kept(self.name, header.version)
        return {
            "release": header.version,
            "created": header.created,
            "mode": self.limits.mode,
            "rule": self.config.rule["name"],
            "figures": header.figures,
            "evaluation": newest[0].details.get("evaluation", {}) if newest else {},
            "updates": len(opened.arrivals),
            "needs": max(self.limits.quorum, self.minimum),
            "waiting": self._waiting(opened, now, active),
            "pinned": pin._asdict() if pin else None,
            "asked": sorted(opened.asked) if self.limits.sampled else None,
            "active": sorted(active),
        }

    def _admit(self, node: Node, body: bytes, now: float) -> bool:
        update = decode_update(body, Ed25519PublicKey.from_public_bytes(node.key), self.model.sizes)
        admission.check(update, node.name, self.name, self.config)
        base, sequence = update.base_version, update.sequence
        gate = self._closing if self.limits.mode == "synchronous" else nullcontext()
        with gate, self._store.transaction():
            if self._store.is_revoked(node.name):  # since it was let in
                raise IdentityError(f"node {node.name!r} is revoked: ask the aggregator's operator")
            if self._store.updates.is_repeat(self.name, node.name, sequence, body):
                return False
            staleness = self.round(node.name).admit(node.name, base, now)
            known = self._store.releases.base(self.name, base)
            if known is None or known.hash != update.base_hash:
                raise StaleError(f"base release {base} of node {node.name} is not the one published here: fetch anew")
            told = admission.told(update, staleness, self.config.max_samples)
            self._store.updates.add(self.name, UpdateRow(node.name, base, sequence, now), body, told)
        return True

    def _write_down(self, node: str, error: RefusedError, now: float) -> None:
        with self._refusing:
            words = self._refusals.words(node, str(error), now)
        try:
            if words is not None:
                self._store.audit.add(now, "refusal", words, self.name, node)
        except StorageError:  # the node is told all the same
            logger.exception("federation %s: a refusal could not be written down", self.name)

    def _opened(self, now: float, active: Collection[str]) -> Round:
        """The open round, with its clock set right and its sample drawn."""
        opened = self.round()
        if opened.settle(now):
            self._store.updates.redate(self.name, now)
        if more := opened.to_ask(now, active, self.minimum):
            self._store.updates.ask(self.name, more, now, opened.version)
            opened.asked |= dict.fromkeys(more, now)
        if len(set(active) | set(opened.arrivals)) < self.minimum and self._said != opened.version:
            self._store.audit.add(now, "waits", self._waiting(opened, now, active), self.name)
            self._said = opened.version
        return opened

    def _waiting(self, opened: Round, now: float, active: Collection[str]) -> str:
        """Why there is no next release yet, in the operator's words."""
        pin = self._store.releases.pin(self.name)
        held = f"pinned by {pin.operator}: updates are collected, no release comes of them; " if pin else ""
        rule = f"rule {self.config.rule['name']}"
        return held + opened.waiting_for(now, active, self.minimum, rule)

    def _finish(self, opened: Round, now: float) -> bool:
        """Average and publish; False when an update had to be taken out: the round may not be due without it."""
        rows = self._contributions(now)
        if len(rows) < len(opened.arrivals):
            return False
        weighing = self._weigh(rows)
        self._publish(aggregation.combine(self.rule, rows, weighing), rows, weighing, now)
        return True

    def _weigh(self, rows: Sequence[Contribution]) -> Weighing:
        """What each node counts in this round: here it is decided, and nowhere else."""
        return aggregation.weigh(rows, self.config.staleness_exponent)

    def _publish(self, aggregate: Floats, rows: Sequence[Contribution], weighing: Weighing, now: float) -> None:
        """The aggregate (P,), in steps of the newest grid, becomes the next release: here and nowhere else."""
        evaluation = evaluate(rows, weighing.weights)
        shares = weighing.weights / weighing.weights.sum()
        nodes = {
            r.node: {"samples": r.samples, "staleness": r.staleness, "share": float(s)}
            for r, s in zip(rows, shares, strict=True)
        }
        figures = {name: metric["mean"] for name, metric in evaluation.items()}
        figures |= {"nodes": float(len(rows)), "samples": float(sum(r.samples for r in rows))}  # no node names them
        if self.limits.mode == "asynchronous":
            figures["staleness"] = float(sum(r.staleness for r in rows)) / len(rows)
        details = {"evaluation": evaluation, "nodes": nodes, "damping": weighing.damping}
        name = str(self.config.rule["name"])
        self._chain.next(aggregate, [r.spread for r in rows], name, figures, details, list(nodes), now)
        version = self.current.header.version
        logger.info("federation %s: release %d by %s of %d updates", self.name, version, name, len(rows))

    def _contributions(self, now: float) -> list[Contribution]:
        """The open updates, verified again and on the newest grid; what the disk has damaged is taken out."""
        made = []
        for row in self._store.updates.open(self.name):
            try:
                made.append(self._reopen(row))
            except RefusedError as e:
                logger.error("federation %s: stored update of %s is left out: %s", self.name, row.node, e)
                self._store.updates.discard(self.name, row.node, f"stored update is left out: {e}", now)
        return made

    def _reopen(self, row: UpdateRow) -> Contribution:
        node, base = self._store.node(row.node), self._store.releases.base(self.name, row.base)
        if node is None or base is None:
            raise StaleError(f"node {row.node} or base release {row.base} is not known any more")
        key = Ed25519PublicKey.from_public_bytes(node.key)
        update = decode_update(self._store.updates.body(self.name, row.node), key, self.model.sizes)
        header = self.current.header
        return Contribution(
            node=row.node,
            codes=aggregation.regrid(update.codes, base.steps, header.steps, self.model.sizes),
            spread=update.spread,
            samples=min(update.samples, self.config.max_samples),
            staleness=header.version - row.base,
            metrics=update.metrics,
        )
