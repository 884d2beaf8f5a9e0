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

CLOCKS_APART_S = 10.0  # then a problem says so
SHOWN = 5  # nodes in a message
TOGETHER_NS = 1_000_000_000  # clocks that differ by less are one


class Alive(NamedTuple):
    """What the silence of nodes means whose clocks agree."""

    time_ns: int | None  # until then no metric changed that was not sent; None: nothing is known
    unsure: frozenset[str]  # the tags for which that is not known
    tags: frozenset[str]  # the tags of these nodes


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
        self._tags = frozenset(tags)

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

    def alive(self, now: float) -> list[Alive]:
        """Until when silence means no change. Each node has a clock of its own: of those that agree the slowest counts,
        and nothing is said of the other nodes."""
        times = {node: ns for node in self._nodes.values() if (ns := node.alive_ns(now)) is not None}
        groups: list[list[NodeView]] = []
        for node in sorted(times, key=times.__getitem__):
            if groups and times[node] - times[groups[-1][0]] <= TOGETHER_NS:
                groups[-1].append(node)
            else:
                groups.append([node])
        self._compare_clocks([(times[group[0]], group) for group in groups])
        found = [Alive(times[group[0]], self._tags - tags, tags) for group in groups for tags in [_tags(group)]]
        silent = [node for node in self._nodes.values() if node not in times]
        return [*found, Alive(None, self._tags, _tags(silent))] if silent else found

    def _compare_clocks(self, groups: list[tuple[int, list[NodeView]]]) -> None:
        """State a problem where the clock of some nodes is far from that of the most."""
        usual, most = max(groups, key=lambda group: (len(group[1]), group[0]), default=(0, []))
        off = [(node.id, (ns - usual) / 1e9) for ns, group in groups for node in group]
        off = [(node, by) for node, by in off if abs(by) > CLOCKS_APART_S]
        each = [f"that of {node} is {abs(by):.0f} s {'behind' if by < 0 else 'ahead'}" for node, by in off[:SHOWN]]
        more = f", and of {len(off) - SHOWN} more" if len(off) > SHOWN else ""
        of = f"{most[0].id}" + (f" and {len(most) - 1} more" if len(most) > 1 else "") if most else ""
        text = f"compared with the clock of {of}, {', '.join(each)}{more}; each node's times are used as they are, so "
        text += "its events have them; set the clock"
        self.counts.state("clocks", text if off else None)


def _tags(nodes: Iterable[NodeView]) -> frozenset[str]:
    """The tags of some nodes."""
    return frozenset[str]().union(*(node.tags for node in nodes))


def rebirth(node: NodeId, wall_ms: int) -> tuple[str, bytes]:
    """Topic and payload of the command that requests a node's births (6.4.22)."""
    kind, value = write(BOOLEAN, True)
    metric = Metric(topics.REBIRTH, None, wall_ms, BOOLEAN, value, kind)
    return str(Topic("NCMD", node)), encode(wall_ms, None, [metric])
