# SPDX-License-Identifier: Apache-2.0
"""A federation in the running server: the open round, what is admitted to it, and how it ends.

Promises that an update is durable before `admit` returns and then is in a release, that every refusal is logged with
its reason, and that ending a round is one transaction computed from what is stored: after a crash the same computation
gives the same result. `rounds.round` decides when, `rounds.average` how, `release_chain` publishes.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import threading
from collections.abc import Collection, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from fedge_models.errors import IdentityError, RefusedError, StaleError, StorageError
from fedge_models.graph.card import read_card
from fedge_models.graph.onnx_file import parse
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.messages.idle import Idle
from fedge_models.messages.quantize import expand
from fedge_models.messages.release import DRIFT_SHARE
from fedge_models.messages.update import Update, decode_update, max_update_bytes

from ..authority import Authority
from ..config.averaging import build_averaging
from ..config.schema import FederationConfig
from ..rounds import average, central_privacy, start_value
from ..rounds.average import DueRound, RoundResult
from ..rounds.engine.runners import build_runner
from ..rounds.round import Round
from ..rounds.trust import heldback
from ..rounds.trust.assessment import explain
from ..rounds.trust.outside_evidence import HeldBackCheck
from ..store.store import Model, Node, Store
from ..store.updates import UpdateRow
from . import admission
from .gathering import StaleOffers, VerifiedUpdates, gather
from .publish import Published
from .release_chain import ReleaseChain
from .report import report
from .site_statistics import SharedStatistics

logger = logging.getLogger(__name__)

START_UNUSED = (
    'the card\'s local_start = "shared" has no effect with [federation.X.privacy]: no release holds a start value; '
    "tell gateways to leave offer_start at false"
)
RETRY_S = 1.0  # next look at a round after a damaged update was deleted from it


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
        file, where = store.model_file(self.name), f"model of {self.name}"
        if config.held_back:
            graph = TrainableGraph.load(file, where=where)
            self.how = replace(self.how, held_back=HeldBackCheck(graph, heldback.load(config.held_back, graph)))
        card = read_card(parse(file, where, schemas=False), where)
        self.how = replace(self.how, local=start_value.local_of(card, model.names, model.sizes))
        if self._start_unused():
            logger.warning("federation %s: %s", self.name, START_UNUSED)
        self._chain = ReleaseChain(model, config, store, authority)
        self.statistics = SharedStatistics(model, config, store, authority)
        self._secret = hashlib.sha256(b"fedge sample" + authority.release_key.private_bytes_raw()).digest()
        self._closing = threading.Lock()  # one round ends at a time; a synchronous one admits nothing meanwhile
        self._admissions = store.group_commit(self._closing if self.limits.mode == "synchronous" else nullcontext())
        self._verified = VerifiedUpdates()
        self._refusals, self._refusing = admission.Refusals(), threading.Lock()
        self._idle: dict[str, Idle] = {}  # node -> why it sends no update
        self._older: dict[str, int] = {}  # node -> the release that serves there, as it refused a newer one
        self._warned = 0  # release after which the log says that too few nodes take part for the rule

    def _start_unused(self) -> bool:
        """Whether gateways are asked for a start value that no release will hold."""
        return self.how.privacy is not None and self.how.local is not None and self.how.local.shared

    @property
    def current(self) -> Published:
        """The newest release."""
        return self._chain.current

    @property
    def max_body(self) -> int:
        """Largest size of an update's body, bytes."""
        return max_update_bytes(int(self.model.sizes.sum()), len(self.model.sizes))

    def body_for(self, have: int) -> bytes | None:
        """The message for a node that holds version `have`: the difference or all weights; None if it is the newest."""
        self._chain.refresh()
        current = self.current
        if have == current.header.version:
            return None
        if have == current.header.version - 1 and current.difference is not None:
            return current.difference
        return current.full

    def note_idle(self, node: str, why: Idle | None) -> None:
        """Note why a node sends no update, by what it says; None: it sends, or says nothing."""
        if why is not None:
            self._idle[node] = why
        else:
            self._idle.pop(node, None)

    def idle(self) -> dict[str, str]:
        """Why members send no update, by what they said last."""
        said = self._idle.copy()
        return {node: said[node].value for node in self._store.members(self.name) if node in said}

    def note_serves(self, node: str, older: int | None) -> None:
        """Note which older release serves at a node, as it refused the newest that it has; None: it serves that."""
        if older is not None:
            self._older[node] = older
        else:
            self._older.pop(node, None)

    def older(self) -> dict[str, int]:
        """Members that refused the newest release they have, and the release that serves there, by their last call."""
        said = self._older.copy()
        return {node: said[node] for node in self._store.members(self.name) if node in said}

    def asks(self, node: str) -> bool:
        """Whether the node should train in the open round."""
        return not self.limits.sampled or self.round().is_asked(node)

    def admit(self, node: Node, body: bytes, now: float) -> bool:
        """Verify an update and store it in the open round, durably. False: it was stored before.

        Raises SignatureError or WireError (the same bytes are always refused), StaleError (fetch the newest release and
        retrain) or IdentityError (revoked).
        """
        try:
            return self._admit(node, body, now)
        except RefusedError as e:
            self._log_refusal(node.name, e, now)
            raise

    def admit_statistics(self, node: Node, body: bytes, now: float) -> bool:
        """Verify a site's statistics and store them, durably. Raises as `SharedStatistics.admit`."""
        try:
            return self.statistics.admit(node, body, now)
        except RefusedError as e:
            self._log_refusal(node.name, e, now)
            raise

    def round(self, node: str | None = None) -> Round:
        """The open round, from what is stored; node: without the updates of others."""
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
        """End the round if it is due. Returns the seconds until the passing of time may make it due, or None."""
        with self._closing:
            self._chain.refresh()
            opened = self._prepared_round(now, active)
            stopped = self._store.releases.pin(self.name) is not None or self._why_stopped() is not None
            if opened.due(now, active, self.minimum) and opened.due(now, active, self._least(opened)) and not stopped:
                return 0.0 if self._finish(opened, now) else RETRY_S
            header = self.current.header
            if now > header.created + (header.expires - header.created) / 2:
                self._chain.renew(now)
            return opened.next_check(now)

    def status(self, now: float, active: Collection[str], silent: Mapping[str, float] | None = None) -> dict[str, Any]:
        """The federation on the operator's status page; silent: how long nodes that were heard from are silent, s."""
        opened, header, pin = self.round(), self.current.header, self._store.releases.pin(self.name)
        newest = self._store.releases.find(self.name, header.version)
        idle = self.idle()
        senders = [node for node in active if node not in idle]
        out = len(self._without_weight(senders))
        expected, least = (
            opened.counted(updates, len(senders), out, self.minimum)
            for updates in (opened.expected(senders, self.minimum), opened.least(senders, self.minimum))
        )
        return {
            "release": header.version,
            "created": header.created,
            "mode": self.limits.mode,
            "rule": self.how.name,
            "trust": self.trust(now),
            "privacy": self._privacy_status(),
            "figures": header.figures,
            "evaluation": newest[0].details.get("evaluation", {}) if newest else {},
            "updates": len(opened.arrivals),
            "needs": max(self.limits.quorum, self.minimum),
            "waiting": self._waiting(opened, now, active, silent),
            "holds": self.how.pipeline.holds(expected),
            "in_a_round": expected,
            "holds_least": self.how.pipeline.holds(least),
            "least_in_a_round": least,
            "in_quarantine": out,
            "pinned": pin._asdict() if pin else None,
            "asked": sorted(opened.asked) if self.limits.sampled else None,
            "active": sorted(active),
            "idle": idle,
            "serves_older": self.older(),
            "statistics": self.statistics.status(now),
            "start_value_problem": START_UNUSED if self._start_unused() else "",
        }

    def trust(self, now: float) -> dict[str, list[str]]:
        """Each member's trust and the reason for it, in lines of text."""
        reputations, config = self._store.round_states.reputations(self.name), self.config.trust
        return {
            node: explain(node, reputations[node], config, now)
            for node in self._store.members(self.name)
            if node in reputations
        }

    def quarantined(self) -> int:
        """How many members are in quarantine."""
        reputations = self._store.round_states.reputations(self.name)
        return sum(reputations[n].quarantined for n in self._store.members(self.name) if n in reputations)

    def doubted(self) -> int:
        """How many members had no weight in their last round without being in quarantine."""
        reputations = self._store.round_states.reputations(self.name)
        return sum(reputations[n].doubted for n in self._store.members(self.name) if n in reputations)

    def _privacy_status(self) -> dict[str, Any] | None:
        """What the privacy budget has been spent on; None without privacy."""
        if self.how.privacy is None:
            return None
        return central_privacy.status(self._store.round_states.load(self.name).spent, self.how.privacy, self.name)

    def _why_stopped(self) -> str | None:
        """Why there will be no more rounds, or None."""
        if self.how.privacy is None:
            return None
        return central_privacy.why_stopped(self._store.round_states.load(self.name).spent, self.how.privacy, self.name)

    def _admit(self, node: Node, body: bytes, now: float) -> bool:
        """`admit` without the log of refusals."""
        update = decode_update(body, Ed25519PublicKey.from_public_bytes(node.key), self.model.sizes)
        admission.check(update, node.name, self.name, self.config, self.how.local.mask if self.how.local else None)
        digest = hashlib.sha256(body).digest()
        new = self._admissions.run(lambda: self._store_update(update, body, digest, now))
        if new:
            self._verified.add(digest, update)
        return new

    def _store_update(self, update: Update, body: bytes, digest: bytes, now: float) -> bool:
        """Check what must hold at the moment an update is stored, and store it; runs in a transaction."""
        node, base, sequence = update.node, update.base_version, update.sequence
        if self._store.is_revoked(node):  # since the request was authenticated
            raise IdentityError(f"node {node!r} is revoked: ask the aggregator's operator")
        if self._store.updates.is_repeat(self.name, node, sequence, digest):
            return False
        staleness = self.round(node).admit(node, base, now)
        known = self._store.releases.base(self.name, base)
        if known is None or known.hash != update.base_hash:
            raise StaleError(f"base release {base} of node {node} is not the one published here: fetch the newest")
        detail = admission.summary(update, staleness, self.config.max_samples)
        self._store.updates.add(self.name, UpdateRow(node, base, sequence, now), body, digest, detail)
        return True

    def _log_refusal(self, node: str, error: RefusedError, now: float) -> None:
        """Add a refusal to the audit log, unless there are too many."""
        with self._refusing:
            line = self._refusals.line(node, str(error), now)
        try:
            if line is not None:
                self._store.audit.add(now, "refusal", line, self.name, node)
        except StorageError:  # the node gets its answer even so
            logger.exception("federation %s: a refusal could not be logged", self.name)

    def _least(self, opened: Round) -> int:
        """Updates below which the open round cannot be averaged: those of nodes in quarantine do not count."""
        return self.minimum + len(self._without_weight(opened.arrivals))

    def _without_weight(self, nodes: Collection[str]) -> list[str]:
        """Those of the nodes whose updates the rule does not see, because they are in quarantine."""
        if self.how.trust.action == "watch":
            return []
        reputations = self._store.round_states.reputations(self.name)
        return [n for n in nodes if n in reputations and reputations[n].quarantined]

    def _prepared_round(self, now: float, active: Collection[str]) -> Round:
        """The open round, with times in the future corrected and its nodes asked."""
        opened = self.round()
        if opened.redate(now):
            self._store.updates.redate(self.name, now)
        if more := opened.to_ask(now, active, self.minimum):
            self._store.updates.ask(self.name, more, now, opened.version)
            opened.asked |= dict.fromkeys(more, now)
        if len(set(active) | set(opened.arrivals)) < self.minimum and self._warned != opened.version:
            self._store.audit.add(now, "waits", self._waiting(opened, now, active), self.name)
            self._warned = opened.version
        return opened

    def _waiting(
        self, opened: Round, now: float, active: Collection[str], silent: Mapping[str, float] | None = None
    ) -> str:
        """Why there is no next release yet, in words for the operator."""
        pin = self._store.releases.pin(self.name)
        pinned = f"pinned by {pin.operator}: updates are collected, but no release is made; " if pin else ""
        if why := self._why_stopped():
            return pinned + why
        rule = f"rule {self.how.name}"
        return pinned + opened.waiting_for(now, active, self._least(opened), rule, silent)

    def _finish(self, opened: Round, now: float) -> bool:
        """Average and publish; False when a damaged update was deleted: without it the round may not be due."""
        header, verified = self.current.header, self._verified.take_all()
        local, offers = self.how.local, None
        if local is not None and local.shared and self.how.privacy is None:
            offers = StaleOffers(local.mask, self._chain.weights, header.version)
        how = self._store, self.model, header, self.config.max_samples, self._folder, verified, offers
        with gather(*how) as (found, rows):
            for node, why in found.damaged.items():
                logger.error("federation %s: update of %s: %s", self.name, node, why)
                self._store.updates.discard(self.name, node, why, now)
            if rows is None or rows.n < len(opened.arrivals):
                return False
            seed = hmac.digest(self._secret, f"average {self.name} {header.version}".encode(), "sha256")
            due = DueRound(
                federation=self.name,
                release=header.version,
                weights=self.current.weights,
                grid=expand(header.steps, self.model.sizes),
                updates=found.updates,
                rows=rows,
                members=self._store.members(self.name),
                now=now,
                seed=int.from_bytes(seed[:8], "big"),
            )
            state = self._store.round_states.load(self.name)
            self._publish(average.average(self.how, due, state, self._runner), due)
        return True

    def _publish(self, made: RoundResult, due: DueRound) -> None:
        """Publish the result of a round and store the state that it leaves, in one transaction."""
        figures, details = report(made, due, self.how.privacy, self.limits.mode)
        details["idle"] = {node: why for node, why in self.idle().items() if node not in details["nodes"]}
        figures[DRIFT_SHARE] = self.how.pipeline.drift
        details["holds"] = self.how.pipeline.holds(sum(share > 0 for share in made.shares.values()))
        reported = [u.spread for u in due.updates if made.shares[u.node]]
        spreads = start_value.grid_spreads(self.how.local, reported, self.current.header.steps)
        if self.how.privacy:  # nothing that nodes report may show
            spreads = [central_privacy.spread(self.how.privacy, self.model.sizes)]
        nodes, now = [u.node for u in due.updates], due.now
        with self._store.transaction():
            release = self._chain.next(made.step, spreads, self.how.name, figures, details, nodes, now)
            self._store.round_states.save(self.name, made.state, made.changes, now, due.release + 1)
        self._chain.adopt(release)
        for change in made.changes:
            logger.warning("federation %s: %s", self.name, change)
        logger.info(
            "federation %s: release %d by %s from %d updates", self.name, due.release + 1, self.how.name, len(nodes)
        )
