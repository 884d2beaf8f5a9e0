# SPDX-License-Identifier: Apache-2.0
"""A federation in simulated time: sites train, send, are slow or away; rounds end by the aggregator's own rules.

The demo's comparison lines, the accuracy tables (every site present and honest) and `fedge-fleet simulate` use this one
loop. It is deterministic: time is simulated, events at the same time happen in the order in which they were planned,
and sites that are free train in their order.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, Protocol

from fedge_aggregator.rounds.round import Round, RoundConfig
from fedge_models.errors import RefusedError, StaleError, StopError
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.training import personal

from ..data.member import Base, Member, Plan, Sent
from ..data.site_data import Floats


class Server(Protocol):
    """The aggregator's side: what it has published, what it admits, how it averages."""

    def base(self) -> Base:
        """The newest release."""

    def minimum(self) -> int:
        """Number of updates below which it does not average."""

    def admit(self, node: str, sent: Sent, base: Base) -> None:
        """Take an update into the open round. Raises RefusedError."""

    def close(self, now: float) -> None:
        """Average what was admitted and publish."""


class Hostile(Protocol):
    """The hostile sites, which see everything."""

    names: frozenset[str]

    def turn(self, nodes: Sequence[str], base: Base, honest: Sequence[tuple[Base, Sent]]) -> Mapping[str, Sent]:
        """Return what each of these nodes sends in answer to a release; `honest`: what each honest site sent last."""


class Trip(NamedTuple):
    """How long a site is busy with a release, and whether its update arrives at the end of that."""

    seconds: float
    arrives: bool = True


@dataclass(frozen=True)
class SiteModels:
    """The result of the rounds so far: the newest release, and the tensors that each site keeps for itself."""

    params: Floats
    own: dict[str, Floats]
    mask: personal.Mask

    def at(self, site: str) -> Floats:
        """The weights that decide at a site; the release itself where the site never trained."""
        return personal.compose(self.params, self.own.get(site), self.mask)


def at_once(node: str, version: int) -> Trip:
    """Every site takes one second for everything."""
    return Trip(1.0)


@dataclass
class Loop:
    """The state between two events; times in seconds from the start."""

    graph: TrainableGraph
    members: Mapping[str, Member]
    plan: Plan
    server: Server
    limits: RoundConfig
    active_s: float  # sites silent for longer are not waited for
    trip: Callable[[str, int], Trip] = at_once
    hostile: Hostile | None = None
    secret: bytes = b""  # draws who is asked
    now: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)  # admitted, late, lost, refused
    reasons: Counter[str] = field(default_factory=Counter)  # why refused

    def __post_init__(self) -> None:
        self.mask = personal.local_mask(self.graph)
        self._seen = dict.fromkeys(self.members, 0.0)
        self._sent: dict[str, tuple[Base, Sent]] = {}  # what honest sites sent last
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._planned = 0
        self._free: set[str] = set(self.members)
        self._round = self._open()

    def run(self, look: Callable[[int, SiteModels], None] | None = None) -> SiteModels:
        """Run all rounds of the plan. `look` gets each release, with the number of rounds before it."""
        self._ask()
        self._start(list(self.members))
        for version in range(1, self.plan.rounds + 1):
            while not self._round.due(self.now, self._active(), self.server.minimum()):
                self._next()
                self._ask()
            self.server.close(self.now)
            self._round = self._open()
            if look is not None:
                look(version, self.so_far())
            if version < self.plan.rounds:
                self._ask()
                self._start([n for n in self.members if n in self._free])
        return self.so_far()

    def so_far(self) -> SiteModels:
        """The models of all sites as they are now."""
        own = {n: m.own for n, m in self.members.items() if m.own is not None}
        return SiteModels(self.server.base().weights, own, self.mask)

    def _open(self) -> Round:
        return Round("simulated", self.server.base().version, self.limits, secret=self.secret)

    def _ask(self) -> None:
        """Ask as many sites as the open round wants now; those that are free begin."""
        more = self._round.to_ask(self.now, self._active(), self.server.minimum())
        self._round.asked |= dict.fromkeys(more, self.now)
        self._start([n for n in more if n in self._free])

    def _active(self) -> list[str]:
        return [n for n, seen in self._seen.items() if self.now - seen <= self.active_s]

    def _next(self) -> None:
        """Let time pass until the next event, or until the open round may be due by time alone."""
        wait = self._round.next_check(self.now)
        due = float("inf") if wait is None else max(self.now + wait, math.nextafter(self.now, math.inf))
        if self._events and self._events[0][0] <= due:
            self.now, _, event = heapq.heappop(self._events)
            event()
        elif wait is not None:
            self.now = due
        else:
            why = self._round.waiting_for(self.now, self._active(), self.server.minimum())
            refused = f" ({self.counts['refused']} refused)" if self.counts["refused"] else ""
            raise StopError(f"round {self._round.version} cannot end: no site sends another update{refused}: {why}")

    def _after(self, seconds: float, event: Callable[[], None]) -> None:
        self._planned += 1
        heapq.heappush(self._events, (self.now + seconds, self._planned, event))

    def _start(self, nodes: Sequence[str]) -> None:
        """Those of the sites that are wanted fetch the newest release and answer it; hostile ones last, for they look
        at the others'."""
        nodes = [n for n in nodes if self._round.is_asked(n)]
        base, names = self.server.base(), self.hostile.names if self.hostile else frozenset()
        answers = {n: self.members[n].turn(self.graph, base, self.mask, self.plan) for n in nodes if n not in names}
        self._sent |= {n: (base, sent) for n, sent in answers.items()}
        if self.hostile and (theirs := [n for n in nodes if n in names]):
            answers |= self.hostile.turn(theirs, base, list(self._sent.values()))
        for node in nodes:
            self._free.discard(node)
            self._seen[node] = self.now
            trip = self.trip(node, base.version)
            arrives = partial(self._arrive, node, answers[node], base) if trip.arrives else partial(self._lose, node)
            self._after(trip.seconds, arrives)

    def _arrive(self, node: str, sent: Sent, base: Base) -> None:
        self._seen[node] = self.now
        try:
            self._round.admit(node, base.version, self.now)
            self.server.admit(node, sent, base)
            self.counts["admitted"] += 1
        except StaleError:
            self.counts["late"] += 1
        except RefusedError as e:
            del self._round.arrivals[node]
            self.counts["refused"] += 1
            self.reasons[str(e).replace(node, "a node")] += 1
        self._free.add(node)
        if base.version < self._round.version:
            self._start([node])

    def _lose(self, node: str) -> None:
        """A site that was away is back; the update it had to send is lost."""
        self.counts["lost"] += 1
        self._free.add(node)
        self._start([node])
