# SPDX-License-Identifier: Apache-2.0
"""What a host application knows of the edge nodes that its tags name (Sparkplug 3.0, chapters 5 and 6). Pure.

Topic and bytes of a message go in; readings and requests for a rebirth come out. Hostile or malformed messages are
counted and reported, and affect no other node. A node is asked for a rebirth at most once in `Patience.interval`: when
a message of it is lost, when it sends a metric that no birth named, when it may be dead, and on a new connection,
because births are not retained.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from fedge_models.errors import WireError

from ...types import Reading
from . import topics
from .codec import Metric, decode, encode
from .counts import Counts
from .node_view import NodeView, Patience
from .topics import NodeId, Topic
from .values import BOOLEAN, write

CLOCKS_APART_S = 10.0


class Alive(NamedTuple):
    """What the silence of nodes means."""

    time_ns: int | None  # until then no metric changed that was not sent; None: nothing is known
    unsure: frozenset[str]  # the tags for which that is not known


@dataclass
class Outcome:
    """The outcome of a message or of passed time: readings in order, problems by subject, requests to publish."""

    readings: list[Reading] = field(default_factory=list)
    problems: dict[str, str | None] = field(default_factory=dict)
    requests: list[tuple[str, bytes]] = field(default_factory=list)  # (topic, payload), QoS 0, not retained

    def add(self, later: Outcome) -> None:
        """Append the outcome of what came later."""
        self.readings += later.readings
        self.problems.update(later.problems)
        self.requests += later.requests


class HostView:
    """All edge nodes of one source."""

    def __init__(self, tags: Sequence[str], patience: Patience) -> None:
        self.counts = Counts()
        wanted: dict[NodeId, dict[str, dict[str, str]]] = {}
        for text in tags:
            tag = topics.tag(text)
            wanted.setdefault(tag.node, {}).setdefault(tag.device, {})[tag.metric] = text
        self._nodes = {node: NodeView(node, devices, patience, self.counts) for node, devices in wanted.items()}

    def subscriptions(self) -> list[str]:
        """Topic filters: all messages of these nodes, and of no others (4.3)."""
        return [f"{topics.NAMESPACE}/{node.group}/+/{node.node}/#" for node in self._nodes]

    def connected(self, now: float, wall_ms: int) -> Outcome:
        """Start over on a new connection whose subscriptions are acknowledged: births are requested."""
        for node in self._nodes.values():
            node.connected(now)
        return self.tick(now, wall_ms)

    def take(self, topic: str, data: bytes, retained: bool, now: float, wall_ms: int) -> Outcome:
        """Read one message. `now`: monotonic, s; `wall_ms`: the Unix time that a request carries, ms."""
        self.counts.count("messages")
        readings: list[Reading] = []
        node = None
        try:
            parsed = topics.parse(topic)
            node = self._nodes.get(parsed.node)
            if node is not None and parsed.kind not in ("NCMD", "DCMD"):
                if retained:
                    raise WireError("a retained message, which may be old; births and data must not be retained")
                readings = self._read(node, parsed, data, now, wall_ms)
        except WireError as e:
            self.counts.refuse("refused messages", f"{topic[:200]}: {e}")
        outcome = self._advance([] if node is None else [node], now, wall_ms)
        outcome.readings = readings + outcome.readings
        return outcome

    def _read(self, node: NodeView, topic: Topic, data: bytes, now: float, wall_ms: int) -> list[Reading]:
        """Give a message to its node. Raises WireError."""
        try:
            return node.take(topic, decode(data), now, wall_ms)
        except WireError as e:
            node.unread(str(e))
            raise

    def tick(self, now: float, wall_ms: int) -> Outcome:
        """Give up on messages that did not arrive in time, and request rebirths that are due."""
        return self._advance(self._nodes.values(), now, wall_ms)

    def _advance(self, nodes: Iterable[NodeView], now: float, wall_ms: int) -> Outcome:
        outcome = Outcome()
        for node in nodes:
            outcome.readings += node.tick(now)
            if node.take_request(now):
                self.counts.count("rebirths asked for")
                outcome.requests.append(rebirth(node.id, wall_ms))
        outcome.problems = self.counts.take_problems()
        return outcome

    def alive(self, now: float) -> Alive:
        """Until when silence means no change, by the slowest clock of the nodes that are alive."""
        times = {node.id: node.alive_ns(now) for node in self._nodes.values()}
        known = {node: ns for node, ns in times.items() if ns is not None}
        self._compare_clocks(known)
        unsure = [node.tags for node in self._nodes.values() if times[node.id] is None]
        return Alive(min(known.values(), default=None), frozenset().union(*unsure))

    def _compare_clocks(self, known: dict[NodeId, int]) -> None:
        """State a problem where the slowest clock would let values of the other nodes look old."""
        slow, fast = (at(known, key=known.__getitem__, default=None) for at in (min, max))
        apart = (known[fast] - known[slow]) / 1e9 if slow and fast else 0.0
        text = f"the clock of {slow} is {apart:.0f} s behind that of {fast}; set it, or use a source for each node"
        self.counts.state("clocks", text if apart > CLOCKS_APART_S else None)


def rebirth(node: NodeId, wall_ms: int) -> tuple[str, bytes]:
    """Topic and payload of the command that requests a node's births (6.4.22)."""
    kind, value = write(BOOLEAN, True)
    metric = Metric(topics.REBIRTH, None, wall_ms, BOOLEAN, value, kind)
    return str(Topic("NCMD", node)), encode(wall_ms, None, [metric])
