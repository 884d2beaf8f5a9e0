"""What a host knows of one edge node: whether it is alive, the order of its messages, whose metrics are born. Pure.

Promises (Sparkplug 3.0, chapter 5): only what a birth of this connection named is used; a message that arrives early
waits for those before it, and when they do not come within `reorder_s` the aliases are forgotten and a rebirth is
wanted; a death ends what is known of a node only when its bdSeq is that of the birth. A birth that repeats the bdSeq
is an answer to a request: its devices have some seconds to follow before they are stale.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from fedge_models.errors import WireError

from ...types import Reading
from .codec import Payload, read_metric
from .counts import Ledger
from .metrics import LAST_MS, Metrics
from .topics import BDSEQ, NodeId, Topic

MODULUS = 256  # of seq (6.4.5)
BEHIND = 64  # a seq so little below the one expected is an old message, not one of the future
SILENT_S = 15.0  # after connecting, without a birth
DEVICES_S = 5.0  # for the devices' births after their node's
STRANGERS = 1000  # metrics that no birth names, for each of which a birth is asked for once
PATIENCE = 3  # unanswered requests, after which what is known of a node is given up


class NodeView:
    """One edge node. `wanted`: device ("" for the node) -> metric -> tag."""

    def __init__(
        self,
        node: NodeId,
        wanted: Mapping[str, Mapping[str, str]],
        reorder_s: float,
        rebirth_s: float,
        ledger: Ledger,
    ) -> None:
        self.id, self.born = node, False
        self._reorder_s, self._rebirth_s, self._ledger = reorder_s, rebirth_s, ledger
        self._metrics = {d: Metrics(metrics, ledger) for d, metrics in {"": {}, **wanted}.items()}
        self._bdseq: int | None = None
        self._expected = 0
        self._held: dict[int, tuple[Topic, Payload]] = {}
        self._missing_since = 0.0  # while messages are held
        self._due: dict[str, float] = {}  # devices that are to be born again by then
        self._ask, self._asked, self._unanswered = False, -math.inf, 0
        self._clock: tuple[int, float] | None = None  # the node's time, ns, when a message came, and when that was
        self._strange: set[str] = set()
        self._heard_by = math.inf  # when to say that nothing was heard
        self._sure_ns: int | None = None  # the node's time until which no message is missing

    def connected(self, now: float) -> None:
        """A new connection: what came before it is forgotten, births are asked for."""
        self.born, self._ask, self._unanswered, self._clock, self._sure_ns = False, True, 0, None, None
        self._heard_by, self._asked = now + SILENT_S, -math.inf
        self._held.clear()
        self._due.clear()
        self._strange.clear()
        for metrics in self._metrics.values():
            metrics.forget()

    def take(self, topic: Topic, payload: Payload, now: float) -> list[Reading]:
        """One message of the node. Raises WireError when it cannot be what it says."""
        if topic.kind == "NDEATH":
            return self._death(payload, now)
        if payload.seq is None or payload.seq >= MODULUS:
            raise WireError(f"seq {payload.seq}; expected 0 to {MODULUS - 1}")
        if payload.timestamp and payload.timestamp <= LAST_MS:
            self._clock = (payload.timestamp * 1_000_000, now)
        if topic.kind == "NBIRTH":
            return self._birth(payload, payload.seq, now)
        if not self.born:
            self._ledger.count("messages before a birth")
            self._ask = True
            return []
        return self._ordered(topic, payload, payload.seq, now)

    def tick(self, now: float) -> list[Reading]:
        """Time has passed."""
        readings = []
        if self._held and now - self._missing_since >= self._reorder_s:
            readings += self._gap(now)
        for device in [d for d, due in self._due.items() if now >= due]:
            del self._due[device]
            readings += self._metrics[device].stale(self._time(now))
            self._ledger.say(str(self.id), f"device {device!r} was not born again after its node")
        if not self.born and now >= self._heard_by:
            self._heard_by = math.inf
            self._ledger.say(
                str(self.id),
                f"no birth in {SILENT_S:.0f} s: it is not connected to this broker, its name is another, or we may not "
                f"publish to {Topic('NCMD', self.id)}",
            )
        if self.born and self._ask and self._unanswered >= PATIENCE and now >= self._asked + self._rebirth_s:
            readings += self._end(self._time(now))
            self._ledger.say(
                str(self.id),
                f"a message was lost and {PATIENCE} requests for a rebirth are unanswered; may we publish to "
                f"{Topic('NCMD', self.id)}?",
            )
        return readings

    def asks(self, now: float) -> bool:
        """Whether a request is to go out now; counts it as sent."""
        if not self._ask or now < self._asked + self._rebirth_s:
            return False
        self._asked, self._unanswered = now, self._unanswered + 1
        self._ask = self.born  # one that was never heard is asked again when it is
        return True

    def alive_ns(self, now: float) -> int | None:
        """The node's time until which silence means no change; None: it is not alive."""
        if not self.born:
            return None
        if not self._ask and not self._held:
            self._sure_ns = self._time(now)
        return self._sure_ns

    # births and deaths

    def _birth(self, payload: Payload, seq: int, now: float) -> list[Reading]:
        bdseq = _bdseq(payload)
        again = self.born and bdseq is not None and bdseq == self._bdseq
        readings = []
        for device, metrics in self._metrics.items():
            if device and metrics.online:
                readings += [] if again else metrics.stale(self._time(now))
                self._due[device] = now + DEVICES_S
            metrics.forget()
        self.born, self._heard_by = True, math.inf
        self._bdseq, self._expected = bdseq, (seq + 1) % MODULUS
        self._ask, self._unanswered = False, 0
        self._held.clear()
        self._ledger.count("births")
        self._ledger.say(str(self.id), None)
        return readings + self._metrics[""].birth(str(self.id), payload.metrics, payload.timestamp)

    def _death(self, payload: Payload, now: float) -> list[Reading]:
        bdseq = _bdseq(payload)
        if not self.born or (bdseq != self._bdseq and None not in (bdseq, self._bdseq)):
            self._ledger.count("deaths of an earlier connection")
            return []
        self._ledger.count("deaths")
        self._ledger.say(str(self.id), "the edge node is dead: its connection to the broker has ended")
        return self._end(self._time(now))

    def _end(self, time_ns: int) -> list[Reading]:
        self.born = self._ask = False
        self._held.clear()
        self._due.clear()
        self._strange.clear()
        readings = [r for metrics in self._metrics.values() for r in metrics.stale(time_ns)]
        for metrics in self._metrics.values():
            metrics.forget()
        return readings

    # the order of messages

    def _ordered(self, topic: Topic, payload: Payload, seq: int, now: float) -> list[Reading]:
        ahead = (seq - self._expected) % MODULUS
        if ahead >= MODULUS - BEHIND or seq in self._held:
            self._ledger.count("out of order, too late")
            return []
        if ahead:
            self._missing_since = self._missing_since if self._held else now
            self._held[seq] = (topic, payload)
            return self._gap(now) if self._reorder_s <= 0 or len(self._held) >= BEHIND else []
        return self._apply(topic, payload, now) + self._follow(now)

    def _follow(self, now: float) -> list[Reading]:
        """What waited for the message that has just come."""
        readings: list[Reading] = []
        while self._expected in self._held:
            readings += self._apply(*self._held.pop(self._expected), now)
        return readings

    def _gap(self, now: float) -> list[Reading]:
        """Messages are lost, perhaps births among them: what has a name is used, aliases mean nothing any more."""
        first = min(self._held, key=lambda seq: (seq - self._expected) % MODULUS)
        self._ledger.count("gaps")
        self._ledger.say(
            str(self.id), f"messages are lost: expected seq {self._expected}, got {first}; a rebirth is asked for"
        )
        for metrics in self._metrics.values():
            metrics.forget_aliases()
        self._ask = True
        readings: list[Reading] = []
        while self._held:
            self._expected = min(self._held, key=lambda seq: (seq - self._expected) % MODULUS)
            readings += self._follow(now)
        return readings

    def _apply(self, topic: Topic, payload: Payload, now: float) -> list[Reading]:
        """A message whose turn it is."""
        self._expected = (self._expected + 1) % MODULUS
        metrics = self._metrics.get(topic.device)
        if metrics is None:
            return []  # a device that nobody wants
        if topic.kind == "DBIRTH":
            self._due.pop(topic.device, None)
            self._ledger.count("births")
            return metrics.birth(f"{self.id}/{topic.device}", payload.metrics, payload.timestamp)
        if topic.kind == "DDEATH":
            self._due.pop(topic.device, None)
            self._ledger.count("deaths")
            readings = metrics.stale(self._time(now))
            metrics.forget()
            return readings
        if not metrics.online:
            self._ledger.count("messages before a birth")
            self._ask = True
            return []
        readings, unknown = metrics.data(payload.metrics, payload.timestamp)
        strange = {f"{topic.device}/{name}" for name in unknown} - self._strange
        if strange and len(self._strange) < STRANGERS:
            self._strange |= strange
            self._ask = True
        return readings

    def _time(self, now: float) -> int:
        """The node's time now, ns, as far as its messages tell."""
        if self._clock is None:
            return 0
        return self._clock[0] + round((now - self._clock[1]) * 1e9)


def _bdseq(payload: Payload) -> int | None:
    """The birth/death number, where there is one that can be read."""
    for data in payload.metrics:
        try:
            metric = read_metric(data)
        except WireError:
            continue  # counted when it is taken in
        if metric.name == BDSEQ and isinstance(metric.value, int):
            return metric.value
    return None
