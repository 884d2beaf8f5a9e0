"""One federation as it lives in the server: the open round, what is admitted to it, and how it ends.

Promises that an update is durable before `admit` returns and then is in a release, that every refusal is written down
with its reason, and that ending a round is one transaction computed from what is stored: a crash in the middle is
followed by the same computation with the same result. `rounds` decides when, `averaging` how, `chain` publishes.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import threading
from collections.abc import Collection
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from fedge_models.errors import IdentityError, RefusedError, StaleError, StorageError
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.messages.quantize import expand
from fedge_models.messages.update import Update, decode_update, max_update_bytes
from fedge_models.training import personal

from ..authority import Authority
from ..config.averaging import build_averaging
from ..config.schema import FederationConfig
from ..rounds import average, central_privacy
from ..rounds.average import Averaged, Gathered
from ..rounds.engine.runners import build_runner
from ..rounds.round import Round
from ..rounds.trust import heldback
from ..rounds.trust.assessment import explain
from ..rounds.trust.outside_evidence import Court
from ..store.store import Model, Node, Store
from ..store.updates import UpdateRow
from . import admission
from .gathering import Verified, rows_of
from .publish import Published
from .release_chain import Chain
from .report import report

logger = logging.getLogger(__name__)

RETRY_S = 1.0


class Federation:
    """The live state of one federation. Thread-safe."""

    def __init__(
        self, config: FederationConfig, model: Model, store: Store, authority: Authority, folder: Path
    ) -> None:
        self.name, self.config, self.model = model.federation, config, model
        self.how = build_averaging(config, f"federation {model.federation}")
        self.minimum = self.how.pipeline.minimum()
        self.limits = config.limits(self.minimum)
        self._runner = build_runner(config.engine, f"federation {model.federation}")
        self._store, self._folder = store, folder
        if config.held_back or config.privacy:
            graph = TrainableGraph.load(store.model_file(self.name), where=f"model of {self.name}")
            court = Court(graph, heldback.load(config.held_back, graph)) if config.held_back else None
            self.how = replace(self.how, court=court, local=personal.local_mask(graph))
        self._chain = Chain(model, config, store, authority)
        self._secret = hashlib.sha256(b"fedge sample" + authority.release_key.private_bytes_raw()).digest()
        self._closing = threading.Lock()  # one round ends at a time, and a synchronous one takes nothing meanwhile
        self._admissions = store.joint(self._closing if self.limits.mode == "synchronous" else nullcontext())
        self._verified = Verified()
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
            held = self._store.releases.pin(self.name) is not None or self._stopped() is not None
            if opened.due(now, active, self.minimum) and not held:
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
            "rule": self.how.name,
            "trust": self.trust(now),
            "privacy": self._spent(),
            "figures": header.figures,
            "evaluation": newest[0].details.get("evaluation", {}) if newest else {},
            "updates": len(opened.arrivals),
            "needs": max(self.limits.quorum, self.minimum),
            "waiting": self._waiting(opened, now, active),
            "pinned": pin._asdict() if pin else None,
            "asked": sorted(opened.asked) if self.limits.sampled else None,
            "active": sorted(active),
        }

    def trust(self, now: float) -> dict[str, list[str]]:
        """What there is to say of each member's conduct."""
        standings, config = self._store.carried.standings(self.name), self.config.trust
        return {
            node: explain(node, standings[node], config, now)
            for node in self._store.members(self.name)
            if node in standings
        }

    def quarantined(self) -> int:
        """How many members are in quarantine."""
        standings = self._store.carried.standings(self.name)
        return sum(standings[n].quarantined for n in self._store.members(self.name) if n in standings)

    def _spent(self) -> dict[str, Any] | None:
        bound = self.how.privacy
        return central_privacy.status(self._store.carried.load(self.name).spent, bound, self.name) if bound else None

    def _stopped(self) -> str | None:
        """Why there are no more rounds for good."""
        bound = self.how.privacy
        return central_privacy.stopped(self._store.carried.load(self.name).spent, bound, self.name) if bound else None

    def _admit(self, node: Node, body: bytes, now: float) -> bool:
        update = decode_update(body, Ed25519PublicKey.from_public_bytes(node.key), self.model.sizes)
        admission.check(update, node.name, self.name, self.config)
        digest = hashlib.sha256(body).digest()
        new = self._admissions.run(lambda: self._take_in(update, body, digest, now))
        if new:
            self._verified.keep(digest, update)
        return new

    def _take_in(self, update: Update, body: bytes, digest: bytes, now: float) -> bool:
        """In a transaction: what has to hold at the moment an update is stored."""
        node, base, sequence = update.node, update.base_version, update.sequence
        if self._store.is_revoked(node):  # since it was let in
            raise IdentityError(f"node {node!r} is revoked: ask the aggregator's operator")
        if self._store.updates.is_repeat(self.name, node, sequence, digest):
            return False
        staleness = self.round(node).admit(node, base, now)
        known = self._store.releases.base(self.name, base)
        if known is None or known.hash != update.base_hash:
            raise StaleError(f"base release {base} of node {node} is not the one published here: fetch anew")
        told = admission.told(update, staleness, self.config.max_samples)
        self._store.updates.add(self.name, UpdateRow(node, base, sequence, now), body, digest, told)
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
        if why := self._stopped():
            return held + why
        rule = f"rule {self.how.name}"
        return held + opened.waiting_for(now, active, self.minimum, rule)

    def _finish(self, opened: Round, now: float) -> bool:
        """Average and publish; False when an update had to be taken out: the round may not be due without it."""
        header, verified = self.current.header, self._verified.hand_over()
        with rows_of(self._store, self.model, header, self.config.max_samples, self._folder, verified) as (there, rows):
            for node, why in there.damaged.items():
                logger.error("federation %s: update of %s: %s", self.name, node, why)
                self._store.updates.discard(self.name, node, why, now)
            if rows is None or rows.n < len(opened.arrivals):
                return False
            seed = hmac.digest(self._secret, f"average {self.name} {header.version}".encode(), "sha256")
            due = Gathered(
                federation=self.name,
                release=header.version,
                weights=self.current.weights,
                grid=expand(header.steps, self.model.sizes),
                updates=there.updates,
                rows=rows,
                members=self._store.members(self.name),
                now=now,
                seed=int.from_bytes(seed[:8], "big"),
            )
            self._publish(average.average(self.how, due, self._store.carried.load(self.name), self._runner), due)
        return True

    def _publish(self, made: Averaged, due: Gathered) -> None:
        """What a round has come to becomes the next release, with what it leaves to the one after: one transaction."""
        figures, details = report(made, due, self.how.privacy, self.limits.mode)
        spreads = [u.spread for u in due.updates if made.shares[u.node]]
        if self.how.privacy:  # nothing of what nodes report may show
            spreads = [central_privacy.spread(self.how.privacy, self.model.sizes)]
        nodes, now = [u.node for u in due.updates], due.now
        with self._store.transaction():
            release = self._chain.next(made.step, spreads, self.how.name, figures, details, nodes, now)
            self._store.carried.keep(self.name, made.carried, made.changes, now, due.release + 1)
        self._chain.adopt(release)
        for change in made.changes:
            logger.warning("federation %s: %s", self.name, change)
        logger.info(
            "federation %s: release %d by %s of %d updates", self.name, due.release + 1, self.how.name, len(nodes)
        )
