"""What a host application knows of the edge nodes that it has tags of (Sparkplug 3.0, chapters 5 and 6). Pure: clock
passed in, no socket.

A message's topic and bytes go in, readings and requests for a rebirth come out. Hostile or broken messages are counted
and said, and cost nobody else anything. A request goes to a node at most once in `rebirth_s`: when a message of it is
lost, when it tells of what no birth named, and when the connection is new, because births are not retained.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from fedge_models.errors import WireError

from ...types import Reading
from . import topics
from .codec import Metric, decode, encode
from .counts import Ledger
from .node_view import NodeView
from .topics import NodeId, Topic
from .values import BOOLEAN, write


@dataclass
class Heard:
    """What came of a message or of time: readings in order, what is said of whom, and what is to be published."""

    readings: list[Reading] = field(default_factory=list)
    problems: dict[str, str | None] = field(default_factory=dict)
    requests: list[tuple[str, bytes]] = field(default_factory=list)  # (topic, payload), QoS 0, not retained

    def add(self, later: Heard) -> None:
        """What came after this."""
        self.readings += later.readings
        self.problems.update(later.problems)
        self.requests += later.requests


class HostView:
    """All edge nodes of one source. `reorder_s`: how long a missing message is waited for (5.9)."""

    def __init__(self, tags: Sequence[str], reorder_s: float, rebirth_s: float) -> None:
        self.ledger = Ledger()
        wanted: dict[NodeId, dict[str, dict[str, str]]] = {}
        for text in tags:
            tag = topics.tag(text)
            wanted.setdefault(tag.node, {}).setdefault(tag.device, {})[tag.metric] = text
        self._nodes = {
            node: NodeView(node, devices, reorder_s, rebirth_s, self.ledger) for node, devices in wanted.items()
        }

    def subscriptions(self) -> list[str]:
        """Topic filters: everything of the nodes, and of nobody else (4.3)."""
        return [f"{topics.NAMESPACE}/{node.group}/+/{node.node}/#" for node in self._nodes]

    def connected(self, now: float, wall_ms: int) -> Heard:
        """A new connection, its subscriptions acknowledged: nothing said before it counts, and births are asked for."""
        for node in self._nodes.values():
            node.connected(now)
        return self.tick(now, wall_ms)

    def take(self, topic: str, data: bytes, retained: bool, now: float, wall_ms: int) -> Heard:
        """One message. `now`: monotonic seconds; `wall_ms`: the time that a request carries."""
        self.ledger.count("messages")
        readings: list[Reading] = []
        node = None
        try:
            parsed = topics.parse(topic)
            node = self._nodes.get(parsed.node)
            if node is not None and parsed.kind not in ("NCMD", "DCMD"):
                if retained:
                    raise WireError("a retained message, perhaps of long ago; births and data are not to be retained")
                readings = node.take(parsed, decode(data), now)
        except WireError as e:
            self.ledger.refuse("refused messages", f"{topic[:200]}: {e}")
        heard = self._settled([] if node is None else [node], now, wall_ms)
        heard.readings = readings + heard.readings
        return heard

    def tick(self, now: float, wall_ms: int) -> Heard:
        """Time has passed: what was waited for in vain, and what is to be asked."""
        return self._settled(self._nodes.values(), now, wall_ms)

    def _settled(self, nodes: Iterable[NodeView], now: float, wall_ms: int) -> Heard:
        heard = Heard()
        for node in nodes:
            heard.readings += node.tick(now)
            if node.asks(now):
                self.ledger.count("rebirths asked for")
                heard.requests.append(rebirth(node.id, wall_ms))
        heard.problems = self.ledger.take()
        return heard

    def alive_ns(self, now: float) -> int | None:
        """Until when (the nodes' time) what is known is unchanged, if it was not told anew; None: no node is alive."""
        known = [ns for node in self._nodes.values() if (ns := node.alive_ns(now)) is not None]
        return min(known, default=None)


def rebirth(node: NodeId, wall_ms: int) -> tuple[str, bytes]:
    """The command that asks a node for its births (6.4.22): (topic, payload)."""
    kind, value = write(BOOLEAN, True)
    metric = Metric(topics.REBIRTH, None, wall_ms, BOOLEAN, value, kind)
    return str(Topic("NCMD", node)), encode(wall_ms, None, [metric])
