# SPDX-License-Identifier: Apache-2.0
"""What a host knows of one edge node: whether it is alive, the order of its messages, its births. Pure.

Promises (Sparkplug 3.0, chapter 5): only metrics that a birth of this connection declared are used. A message that
arrives early waits for those before it; if they do not arrive in time, the aliases are forgotten and a rebirth is
requested. A death with the bdSeq of the birth ends the node. A death with another one, and a long silence, put it in
doubt: a rebirth is requested, nothing is known to be unchanged from then on, and without an answer the node is dead; a
message that cannot be read, and many that are too late by their seq, do so too. A node that does not count its seq is
read in the order of arrival. A birth that repeats the bdSeq answers a request: its devices have some seconds to send
theirs before they are stale.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from fedge_models.errors import WireError

from ...types import Reading
from .codec import Payload, read_metric
from .counts import Counts
from .message_clock import MessageClock
from .metrics import MS, Metrics, Sent, usable
from .rebirths import Rebirths
from .seq_evidence import SeqEvidence
from .topics import BDSEQ, NodeId, Topic

MODULUS = 256  # of seq (6.4.5)
BEHIND = 64  # a seq so little below the one expected is an old message, not one of the future
SILENT_S = 15.0  # after connecting, without a birth
DEVICES_S = 5.0  # for the devices' births after their node's
UNCOUNTED = (
    "it does not count the seq of its messages; they are used in the order in which they arrive, and a lost one is not "
    "noticed: mend the edge node"
)
MAX_UNDECLARED = 1000  # metrics that no birth declares, for each of which a rebirth is requested once


class Patience(NamedTuple):
    """How long a host waits for an edge node, in seconds."""

    reorder: float  # for a missing message
    interval: float  # between two requests for births, at least
    answer: float  # for births that were requested because the node may be dead
    silence: float  # before a node that sends nothing is asked whether it is alive; 0: for ever


class NodeView:
    """One edge node. `wanted`: device ("" for the node) -> metric -> tag."""

    def __init__(
        self,
        node: NodeId,
        wanted: Mapping[str, Mapping[str, str]],
        patience: Patience,
        counts: Counts,
    ) -> None:
        self.id, self.born = node, False
        self.tags = frozenset(tag for metrics in wanted.values() for tag in metrics.values())
        self._patience, self._counts = patience, counts
        self._rebirths = Rebirths(patience.interval, patience.answer)
        clock = MessageClock()
        self._metrics = {d: Metrics(metrics, counts, clock) for d, metrics in {"": {}, **wanted}.items()}
        self._bdseq: int | None = None
        self._expected, self._seq = 0, SeqEvidence()
        self._held: dict[int, tuple[Topic, Payload]] = {}
        self._missing_since = 0.0  # while messages are held
        self._due: dict[str, float] = {}  # device -> when its next birth must have arrived
        self._clock: tuple[int, float] | None = None  # the node's time, ns, when a message came, and when that was
        self._heard = 0.0  # when the last message came
        self._undeclared: set[str] = set()
        self._birth_by = math.inf  # when to say that nothing was heard

    def connected(self, now: float) -> None:
        """A new connection: what came before it is forgotten, births are asked for."""
        self.born, self._clock, self._birth_by = False, None, now + SILENT_S
        self._rebirths.connected()
        self._held.clear()
        self._due.clear()
        self._undeclared.clear()
        for metrics in self._metrics.values():
            metrics.forget()

    def take(self, topic: Topic, payload: Payload, now: float, wall_ms: int) -> list[Reading]:
        """One message of the node. Raises WireError when it cannot be what it says; `unread` follows then."""
        if topic.kind == "NDEATH":
            return self._death(payload, now)
        if payload.seq is None or payload.seq >= MODULUS:
            raise WireError(f"seq {payload.seq}; expected 0 to {MODULUS - 1}")
        self._heard = now
        self._set_clock(payload.timestamp, now, wall_ms)
        if topic.kind == "NBIRTH":
            return self._birth(payload, payload.seq, now)
        if not self.born:
            self._counts.count("messages before a birth")
            self._rebirths.wanted = True
            return []
        return self._ordered(topic, payload, payload.seq, now)

    def unread(self, why: str) -> None:
        """A message could not be read: what has changed by it is not known until births say so."""
        if self.born:
            self._suspect(f"a message of it cannot be read: {why}")

    def tick(self, now: float) -> list[Reading]:
        """Give up on messages and births that did not arrive in time."""
        readings = []
        if self._held and now - self._missing_since >= self._patience.reorder:
            readings += self._gap(now)
        for device in [d for d, due in self._due.items() if now >= due]:
            del self._due[device]
            readings += self._metrics[device].stale(self._time(now))
            self._counts.state(str(self.id), f"device {device!r} sent no birth after its node did")
        if not self.born and now >= self._birth_by:
            self._birth_by = math.inf
            self._counts.state(
                str(self.id),
                f"no birth in {SILENT_S:.0f} s: it is not connected to this broker, its name is another, or we may not "
                f"publish to {Topic('NCMD', self.id)}",
            )
        if self.born and 0 < self._patience.silence <= now - self._heard:
            self._rebirths.suspect(f"it has sent nothing for {self._patience.silence:g} s (max_silence)")
        if self.born and (why := self._rebirths.given_up(now)):
            readings += self._end(self._time(now))
            may = f"if it is not, may we publish to {Topic('NCMD', self.id)}?"
            self._counts.state(str(self.id), f"the edge node counts as dead: {why}; {may}")
        return readings

    def take_request(self, now: float) -> bool:
        """Whether to request a rebirth now; the request then counts as sent."""
        return self._rebirths.take(now, self.born)

    def alive_ns(self, now: float) -> int | None:
        """The node's time until which silence means no change; None: it may be dead, or a message is missing."""
        return self._time(now) if self.born and not self._rebirths.pending and not self._held else None

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
        self.born, self._birth_by = True, math.inf
        self._bdseq, self._expected = bdseq, (seq + 1) % MODULUS
        self._rebirths.answered()
        self._seq.birth()
        self._held.clear()
        self._counts.count("births")
        self._counts.state(str(self.id), self._disorder)
        return readings + self._metrics[""].birth(str(self.id), payload.metrics, self._sent(payload, now))

    def _death(self, payload: Payload, now: float) -> list[Reading]:
        bdseq = _bdseq(payload)
        if not self.born:
            self._counts.count("deaths of an earlier connection")
            return []
        if bdseq != self._bdseq and None not in (bdseq, self._bdseq):
            self._counts.count("deaths of another bdSeq")
            self._suspect(f"its death certificate has bdSeq {bdseq}, its birth {self._bdseq}")
            return []
        self._counts.count("deaths")
        self._counts.state(str(self.id), "the edge node is dead: its connection to the broker has ended")
        readings = self._end(self._time(now))
        self._rebirths.ended(ask=True)  # nodes that repeat a bdSeq live on when an earlier connection of theirs ends
        return readings

    def _suspect(self, why: str) -> None:
        """Doubt the node. A death of another bdSeq is of an earlier connection, or the node counts it differently in
        its Will."""
        self._counts.state(str(self.id), f"{why}; a rebirth is asked for")
        self._rebirths.suspect(why)

    def _end(self, time_ns: int) -> list[Reading]:
        self.born = False
        self._rebirths.ended(ask=False)
        self._held.clear()
        self._due.clear()
        self._undeclared.clear()
        readings = [r for metrics in self._metrics.values() for r in metrics.stale(time_ns)]
        for metrics in self._metrics.values():
            metrics.forget()
        return readings

    # the order of messages

    def _ordered(self, topic: Topic, payload: Payload, seq: int, now: float) -> list[Reading]:
        ahead = (seq - self._expected) % MODULUS
        if self._seq.uncounted:
            return self._as_it_came(topic, payload, seq, now)
        if ahead >= MODULUS - BEHIND or seq in self._held:
            return self._late(topic, payload, seq, now)
        if ahead:
            self._missing_since = self._missing_since if self._held else now
            self._held[seq] = (topic, payload)
            return self._gap(now) if self._patience.reorder <= 0 or len(self._held) >= BEHIND else []
        self._seq.in_order()
        self._listen()
        return self._apply(topic, payload, now) + self._follow(now)

    def _late(self, topic: Topic, payload: Payload, seq: int, now: float) -> list[Reading]:
        """A message that comes too late by its seq is dropped; many in a row say that the node does not count it."""
        too_many = self._seq.late()
        if self._seq.uncounted:
            self._held.clear()  # older than this one
            self._counts.state(str(self.id), self._disorder)
            return self._as_it_came(topic, payload, seq, now)
        self._counts.count("out of order, too late")
        if too_many:
            self._suspect(f"its messages do not count on: expected seq {self._expected}, got {seq}")
        return []

    def _as_it_came(self, topic: Topic, payload: Payload, seq: int, now: float) -> list[Reading]:
        """Read a message of a node that does not count its seq."""
        if seq != self._expected:
            self._seq.out_of_order()
            self._counts.count("without an order")
        elif self._seq.in_order():
            self._counts.state(str(self.id), None)
        self._listen()
        self._expected = seq
        return self._apply(topic, payload, now)

    def _listen(self) -> None:
        """The node sent the message that was expected: whatever died, it was not this connection of it."""
        if self._rebirths.doubt:
            self._rebirths.heard()
            if not self._rebirths.wanted:
                self._counts.state(str(self.id), self._disorder)

    @property
    def _disorder(self) -> str | None:
        """What is wrong with the order of its messages."""
        return UNCOUNTED if self._seq.uncounted else None

    def _follow(self, now: float) -> list[Reading]:
        """Apply the messages that waited for the last one."""
        readings: list[Reading] = []
        while self._expected in self._held:
            readings += self._apply(*self._held.pop(self._expected), now)
        return readings

    def _gap(self, now: float) -> list[Reading]:
        """Messages are lost, perhaps births: use metrics with names, forget all aliases."""
        first = min(self._held, key=lambda seq: (seq - self._expected) % MODULUS)
        self._counts.count("gaps")
        self._counts.state(
            str(self.id), f"messages are lost: expected seq {self._expected}, got {first}; a rebirth is asked for"
        )
        for metrics in self._metrics.values():
            metrics.forget_aliases()
        self._rebirths.wanted = True
        readings: list[Reading] = []
        while self._held:
            self._expected = min(self._held, key=lambda seq: (seq - self._expected) % MODULUS)
            readings += self._follow(now)
        return readings

    def _apply(self, topic: Topic, payload: Payload, now: float) -> list[Reading]:
        """Read the message that is next in order."""
        self._expected = (self._expected + 1) % MODULUS
        metrics = self._metrics.get(topic.device)
        if metrics is None:
            return []  # a device without a tag
        if topic.kind == "DBIRTH":
            self._due.pop(topic.device, None)
            self._counts.count("births")
            return metrics.birth(f"{self.id}/{topic.device}", payload.metrics, self._sent(payload, now))
        if topic.kind == "DDEATH":
            self._due.pop(topic.device, None)
            self._counts.count("deaths")
            readings = metrics.stale(self._time(now))
            metrics.forget()
            return readings
        if not metrics.online:
            self._counts.count("messages before a birth")
            self._rebirths.wanted = True
            return []
        readings, unknown = metrics.data(payload.metrics, self._sent(payload, now))
        undeclared = {f"{topic.device}/{name}" for name in unknown} - self._undeclared
        if undeclared and len(self._undeclared) < MAX_UNDECLARED:
            self._undeclared |= undeclared
            self._rebirths.wanted = True
        return readings

    def _set_clock(self, stamp_ms: int | None, now: float, wall_ms: int) -> None:
        """Follow the node's clock; one that stands still goes on with ours from when it stopped. Without a usable one,
        begin with ours."""
        stamp = stamp_ms * MS if usable(stamp_ms) else None
        if stamp is None and self._clock is None:
            stamp = wall_ms * MS
        if stamp is not None and (self._clock is None or stamp != self._clock[0]):
            self._clock = (stamp, now)

    def _sent(self, payload: Payload, now: float) -> Sent:
        return Sent(payload.timestamp, self._time(now) // MS)

    def _time(self, now: float) -> int:
        """The node's time now, ns, from its last message; 0 before the first."""
        if self._clock is None:
            return 0
        return self._clock[0] + round((now - self._clock[1]) * 1e9)


def _bdseq(payload: Payload) -> int | None:
    """The birth/death number of a payload, or None."""
    for data in payload.metrics:
        try:
            metric = read_metric(data)
        except WireError:
            continue  # counted when its turn comes
        if metric.name == BDSEQ and isinstance(metric.value, int):
            return metric.value
    return None
