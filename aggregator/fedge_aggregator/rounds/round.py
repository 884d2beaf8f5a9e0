# SPDX-License-Identifier: Apache-2.0
"""Rounds, synchronous and buffered-asynchronous, as one pure state machine; the clock is passed in.

An *update* improves on a base release; its *staleness* is the number of releases since that base. A *round* leads from
one release to the next: it collects at most one update per node until it is due. Below its *quorum* no deadline ends
it, and below what the rule needs nothing does. When all active nodes have sent theirs it ends, also below the quorum.

Synchronous: only updates against the newest release (staleness 0). Due when every active node has sent its update, or
at the deadline after the *first* update if the quorum is reached. With a `share` below 1 only some nodes are asked, a
`margin` more than needed, and the round is due when enough of them have come (over-selection: Bonawitz et al. 2019,
"Towards federated learning at scale", section 2.2). A node that was asked and has not come by the deadline is replaced.

Asynchronous (FedBuff: Nguyen et al. 2022, "Federated learning with buffered asynchronous aggregation"): updates against
any release up to `max_staleness` old, due when the *buffer* is full or at the deadline as above. So a gateway that
connects once a day takes part.

Times are Unix seconds; `redate` corrects them after the clock was set back. Storing and averaging are left to others.
"""

from __future__ import annotations

import hmac
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from fedge_models.errors import StaleError

Mode = Literal["synchronous", "asynchronous"]


@dataclass(frozen=True)
class RoundConfig:
    """When a round ends, and whose updates it takes."""

    quorum: int  # updates without which the deadline does not end it
    deadline_s: float  # after the first update
    mode: Mode = "synchronous"
    share: float = 1.0  # of the active nodes, needed in a synchronous round
    margin: float = 0.25  # of what is needed: so many more are asked, for those that will not come
    buffer: int = 10  # updates that end an asynchronous round at once
    max_staleness: int = 0  # releases; asynchronous

    @property
    def sampled(self) -> bool:
        """Whether only some of the nodes are asked."""
        return self.mode == "synchronous" and self.share < 1


@dataclass
class Round:
    """The open round of one federation; it begins with release `version` and ends with the next one."""

    federation: str
    version: int
    config: RoundConfig
    arrivals: dict[str, float] = field(default_factory=dict)  # node -> when its update was accepted
    asked: dict[str, float] = field(default_factory=dict)  # node -> since when; only in a sampled round
    floor: int = 1  # no older base than this: the release of the last rollback
    secret: bytes = b""  # the aggregator's; it decides whom to ask

    @property
    def oldest(self) -> int:
        """The oldest base whose updates are admitted."""
        staleness = self.config.max_staleness if self.config.mode == "asynchronous" else 0
        return max(self.version - staleness, self.floor, 1)

    def is_asked(self, node: str) -> bool:
        """Whether the node is to train in this round."""
        return not self.config.sampled or node in self.asked

    def admit(self, node: str, base: int, now: float) -> int:
        """Take in the node's update against release `base`; returns its staleness.

        Raises StaleError, in words for the node's operator, for a base that is closed or does not exist yet, a second
        update, or a node that was not asked.
        """
        if not self.oldest <= base <= self.version:
            raise StaleError(
                f"base release {base} of node {node} is not open: {self._open()}; fetch the newest and retrain"
            )
        if node in self.arrivals:
            raise StaleError(f"node {node} already has an update in the round after release {self.version}")
        if not self.is_asked(node):
            raise StaleError(f"node {node} is not asked in the round after release {self.version}: {self._sample()}")
        self.arrivals[node] = now
        return self.version - base

    def redate(self, now: float) -> bool:
        """Give times in the future the present time: the clock was set back. True if there were any.

        Otherwise a clock that was a year ahead for a minute would hold the round open for a year.
        """
        late = [(t, n) for t in (self.arrivals, self.asked) for n, since in t.items() if since > now]
        for table, node in late:
            table[node] = now
        return bool(late)

    def to_ask(self, now: float, active: Collection[str], minimum: int) -> list[str]:
        """Nodes to ask besides those already asked; none unless the round is sampled.

        They follow the order of a keyed hash of release and node: the same after a restart, and unknown to anyone
        without the aggregator's secret (privacy amplification by sampling requires that). A node that was asked and is
        silent, or has not come within a deadline, is replaced: nodes that never train cannot hold a round open.
        """
        if not self.config.sampled:
            return []
        in_time = {n for n, since in self.asked.items() if n in active and now < since + self.config.deadline_s}
        wanted = math.ceil(self.needed(active, minimum) * (1 + self.config.margin))
        rest = sorted(set(active) - set(self.asked), key=self._draw)
        return rest[: max(0, wanted - len(in_time | set(self.arrivals)))]

    def needed(self, active: Collection[str], minimum: int) -> int:
        """The number of updates that ends the round before its deadline; minimum: what the rule needs."""
        least = max(self.config.quorum, minimum)
        if self.config.mode == "asynchronous":
            return max(self.config.buffer, minimum)
        return max(least, math.ceil(self.config.share * len(active))) if self.config.sampled else least

    def expected(self, active: Collection[str], minimum: int) -> int:
        """How many updates the round is made of when those that may send do: fewer than are active if it is sampled."""
        partial = self.config.sampled or self.config.mode == "asynchronous"
        return min(len(active), self.needed(active, minimum)) if partial else len(active)

    def least(self, active: Collection[str], minimum: int) -> int:
        """With how many updates the round may end at its deadline; all that are active where fewer are than that."""
        return min(len(active), max(self.config.quorum, minimum))

    @staticmethod
    def counted(updates: int, senders: int, quarantined: int, minimum: int) -> int:
        """How many of the updates of a round the rule sees, when all that are in quarantine send theirs, too.

        A round waits until it has as many of others as the rule needs at least.
        """
        return min(senders - quarantined, max(updates - quarantined, minimum))

    def due(self, now: float, active: Collection[str], minimum: int) -> bool:
        """Whether to average now; active: nodes that may still send, minimum: what the rule needs.

        A federation that has shrunk below its quorum averages the updates of all that are left, if the rule can.
        """
        have, late = len(self.arrivals), now >= self.deadline()
        if have < max(1, minimum):
            return False
        everyone = bool(active) and set(active) <= set(self.arrivals)
        if self.config.mode == "asynchronous":
            return have >= self.config.buffer or (late and (have >= self.config.quorum or everyone))
        enough = self.config.sampled and have >= self.needed(active, minimum)
        return everyone or enough or (late and have >= self.config.quorum)

    def deadline(self) -> float:
        """Unix time from which the quorum is enough; infinite before the first update."""
        return min(self.arrivals.values(), default=math.inf) + self.config.deadline_s

    def next_check(self, now: float) -> float | None:
        """Seconds until the passing of time may change something; None: only another update can."""
        turns = [since + self.config.deadline_s for node, since in self.asked.items() if node not in self.arrivals]
        coming = [t for t in (self.deadline(), *turns) if now < t < math.inf]
        return min(coming) - now if coming else None

    def waiting_for(
        self,
        now: float,
        active: Collection[str],
        minimum: int,
        rule: str = "the rule",
        silent: Mapping[str, float] | None = None,
    ) -> str:
        """Why the round is not due, in words for the operator.

        silent: how long nodes that were heard from since the start are silent, s; None: it is not known who was.
        """
        have, there = len(self.arrivals), set(active) | set(self.arrivals)
        if len(there) < minimum:
            return (
                f"{rule} needs updates of {minimum} nodes, and {len(there)} take part: waiting for "
                f"{minimum - len(there)} more; invite nodes or choose another rule"
            )
        missing = sorted((set(self.asked) if self.config.sampled else set(active)) - set(self.arrivals))
        return "; ".join([self._progress(now, have, active, minimum), *_missing(missing, silent)])

    def _progress(self, now: float, have: int, active: Collection[str], minimum: int) -> str:
        least, full = max(self.config.quorum, minimum), self.needed(active, minimum)
        there = len(set(active) | set(self.arrivals))
        if have < least and there < least and self.config.mode == "synchronous":
            return f"{have} of {there} updates: fewer nodes take part than the quorum of {least}, so all of them end it"
        if have < least:
            return f"{have} of at least {least} updates"
        left = f"deadline in {max(0.0, self.deadline() - now):.0f} s"
        return f"{have} of {full} updates, {left}" if have < full else f"{have} updates, {left}"

    def _open(self) -> str:
        newest = f"release {self.version} is"
        return newest if self.oldest == self.version else f"releases {self.oldest} to {self.version} are"

    def _sample(self) -> str:
        return f"{len(self.asked)} nodes are asked, others after the next release"

    def _draw(self, node: str) -> bytes:
        return hmac.digest(self.secret, f"{self.federation}/{self.version}/{node}".encode(), "sha256")


def _missing(nodes: Sequence[str], silent: Mapping[str, float] | None) -> list[str]:
    """Say whose update has not come, and apart who was not even heard from."""
    if silent is None:
        return [f"no update in this round from: {', '.join(nodes)}"] if nodes else []
    heard = [f"{node} ({silent[node]:.0f} s ago)" for node in nodes if node in silent]
    unheard = [node for node in nodes if node not in silent]
    said = [f"heard, but no update in this round: {', '.join(heard)}"] if heard else []
    return said + ([f"not heard from since the start: {', '.join(unheard)}"] if unheard else [])


def staleness_weight(staleness: int, exponent: float) -> float:
    """The weight of an update: 1 / (1 + staleness) ** exponent (Nguyen et al. 2022: exponent 1/2)."""
    return float((1 + staleness) ** -exponent)
