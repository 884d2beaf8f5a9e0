# SPDX-License-Identifier: Apache-2.0
"""What a server's values and times say about a node: when a value is of, and whether the node is alive. Pure.

The source's time counts. Where it is missing, out of range, or stands still while values change, the server's time
takes its place; where that stands still too, the time that passed here. A value that does not change is alive as long
as nothing speaks against it. What does: a source time that is of no use, or that used to move without a change and has
stopped, or a status such as UncertainLastUsableValue. Such a node is *still* once nothing of it has moved for longer
than `max_still_s`, and ten times longer than is usual for it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, NamedTuple

from fedge_models.system import times

from .skew import FAR_NS, ServerClock, Skew, words

STANDS_S = 2.0  # a time that is the same for longer while values change stands still; a shorter one is coarse
BACK_NS = 1_000_000_000  # a time that goes back further was set back
MOVES = 20  # changes in a row with a new source time, until one that stood still is used again
CHANGES = 3  # that show how often a node changes
USUAL = 10  # times the longest usual interval without a change is too long
UNMOVED = 3  # reads in a row without a new source time
MISSED = 2  # reads in a row of a value that was not sent
LAST_USABLE = ("UncertainNoCommunicationLastUsableValue", "UncertainLastUsableValue", "UncertainInitialValue")


class Fault(str, Enum):
    """What is wrong with a node's source time."""

    NONE = ""
    ABSENT = "no usable source time"
    STANDS = "a source time that stands still while values change"


class Stamp(NamedTuple):
    """Time of a value. `still`: the node is still as before, so its value is not known to be true."""

    time_ns: int
    still: bool
    replaced: bool  # it is not the source's
    repeated: bool = False  # the same value of the same time as before, over the same connection: nothing new
    sound: bool = True  # it is of the source's clock, as far as that is known
    wrong_ns: int | None = None  # the source's own time, where that fits neither the server's clock nor other nodes


class Answer(Enum):
    """What a read of a silent node says."""

    SAME = 0  # nothing new
    NEWS = 1  # the status is bad, or the node moves again: the value is a reading
    MISSED = 2  # another value than the subscription sent, twice: it has stopped to sample


@dataclass
class _Node:
    """Newest evidence of one node; moments are monotonic seconds."""

    source: int | None  # its times as they came, ns; None: not usable
    server: int | None
    skew: Skew
    value: Any
    code: int
    status: str
    time_ns: int  # of its last reading
    came: float  # its last notification
    changed: float  # its value or status was another one
    moved: float  # its source time was another one
    asked: float
    base: int | None = None  # the server's time when `source` was new
    fault: Fault = Fault.NONE
    gap: float = 0.0  # the longest usual interval between changes, s
    changes: int = 0
    moves: int = 0
    restamps: bool = False  # its source time has moved without a change
    unmoved: int = 0
    missed: int = 0
    still: str = ""  # why it is not known to be alive
    first: bool = False  # the next notification is the first of its connection


class Evidence:
    """All nodes of one source. Outlives connections: a time that stood still does so at the next one."""

    def __init__(self, max_still_s: float) -> None:
        """max_still_s: 0: no node is ever still."""
        self._max_still = max_still_s
        self._nodes: dict[Hashable, _Node] = {}
        self.clock = ServerClock()

    def connected(self, now: float) -> None:
        """A new connection: the time without one proves nothing."""
        for node in self._nodes.values():
            node.came = node.changed = node.moved = node.asked = now
            node.unmoved, node.missed, node.first = 0, 0, True

    def hear(self, data: Any, now: float) -> None:
        """Take the server's clock, the value of ServerStatus.CurrentTime."""
        stamp = data.Value.Value if data.Value is not None and not _bad(data) else None
        if isinstance(stamp, datetime) and (ns := _usable(stamp)) is not None:
            self.clock.hear(ns, now)

    def take(self, key: Hashable, data: Any, now: float) -> Stamp:
        """Time of the value of a notification (a DataValue)."""
        source, server, code = _usable(data.SourceTimestamp), _usable(data.ServerTimestamp), _code(data)
        value = data.Value.Value if data.Value is not None else None
        node = self._nodes.get(key)
        if node is None:
            return self._begin(key, data, source, server, now)
        other = not _same(value, node.value)
        moved = source is not None and source != node.source
        self._judge_time(node, source, moved, other, now)
        fits = self._fits(node.skew, source, now, node.first) if moved else not node.skew.fault
        if fits is False:
            new = moved or other or code != node.code or node.first
            step = source - node.source if source is not None and node.source is not None else 0
            time_ns = self._aligned(server, now, node.time_ns, step) if new else node.time_ns
        else:
            time_ns = _time(node, source, server, moved, other or code != node.code, now)
        if other or code != node.code:
            node.gap, node.changes = max(now - node.changed, 0.9 * node.gap), node.changes + 1
            node.changed = now
        if moved:
            node.moved, node.source, node.base = now, source, server
        if moved or other or code != node.code:
            node.still, node.unmoved, node.missed = "", 0, 0
        node.value, node.code, node.status, node.server = value, code, _status(data), server
        repeated = time_ns == node.time_ns and not node.first
        node.time_ns, node.came, node.first = time_ns, now, False
        replaced = bool(node.fault.value) or fits is False
        wrong = source if fits is False else _senseless(data.SourceTimestamp)
        return Stamp(time_ns, bool(node.still), replaced, repeated, fits is not None, wrong)

    def _begin(self, key: Hashable, data: Any, source: int | None, server: int | None, now: float) -> Stamp:
        """Note the first value of a node."""
        value, skew = data.Value.Value if data.Value is not None else None, self.clock.add()
        first = source if source is not None else server if server is not None else time.time_ns()
        fits = self._fits(skew, source, now, True)
        first = self._aligned(server, now, 0, 0) if fits is False else first
        node = _Node(source, server, skew, value, _code(data), _status(data), first, now, now, now, now, server)
        node.fault = Fault.ABSENT if source is None else Fault.NONE
        self._nodes[key] = node
        wrong = source if fits is False else _senseless(data.SourceTimestamp)
        return Stamp(first, False, bool(node.fault.value) or fits is False, sound=fits is not None, wrong_ns=wrong)

    def _fits(self, skew: Skew, source: int | None, now: float, first: bool) -> bool | None:
        """Whether a new source time is of the source's clock; None: it may be of long ago."""
        return True if source is None else self.clock.judge(skew, source, now, first)

    def _aligned(self, server: int | None, now: float, last: int, step: int) -> int:
        """The server's time of a value, as the other nodes' times are.

        Where the server gives none, or repeats the source's, it is that of its clock; values that come together keep
        the steps between their own times (step, ns), as far as that is not beyond it.
        """
        clock = self.clock.at(now)
        assert clock is not None
        if server is not None and -FAR_NS <= server - clock <= self.clock.ahead:
            return _later(server + self.clock.frame, last)
        now_ns = clock + self.clock.frame
        return last + step if step > 0 and now_ns - FAR_NS <= last + step <= now_ns else _later(now_ns, last)

    def _judge_time(self, node: _Node, source: int | None, moved: bool, other: bool, now: float) -> None:
        """Whether the source's time can be used from now on."""
        if source is None:
            node.fault = Fault.ABSENT
        elif node.fault is Fault.ABSENT:
            node.fault = Fault.NONE if moved else node.fault
        elif other and not moved:
            node.moves = 0
            node.fault = Fault.STANDS if now - node.moved > STANDS_S else node.fault
        elif moved and node.fault is Fault.STANDS:
            node.moves += 1
            node.fault = Fault.NONE if node.moves >= MOVES else node.fault

    # nodes of which nothing comes

    def silent(self, now: float, age_s: float, most: int) -> list[Hashable]:
        """The nodes to read, of which nothing came for so long; at most `most`, those asked longest ago first."""
        nodes = enumerate(self._nodes.items())
        waiting = [(n.asked, i, key) for i, (key, n) in nodes if now - max(n.came, n.asked) >= age_s]
        return [key for *_, key in sorted(waiting)[:most]]

    def heard_since(self, key: Hashable, moment: float) -> bool:
        """Whether a notification of a node came since then."""
        return self._nodes[key].came > moment

    def answer(self, key: Hashable, data: Any, now: float, exact: bool) -> Answer:
        """Judge the value that a read of a silent node gave. exact: the subscription has no deadband."""
        node, source = self._nodes[key], _usable(data.SourceTimestamp)
        node.asked = now
        if _bad(data) and _code(data) != node.code:
            return Answer.NEWS
        if not _same(data.Value.Value if data.Value is not None else None, node.value):
            node.missed += exact
            node.changed = now
            return Answer.MISSED if node.missed >= MISSED else Answer.SAME
        node.missed = 0
        if source is None or source == node.source:
            node.unmoved += 1
            return Answer.SAME
        if node.still:
            return Answer.NEWS
        node.restamps, node.unmoved, node.moved = True, 0, now
        node.source, node.base = source, _usable(data.ServerTimestamp)
        return Answer.SAME

    def take_still(self, now: float) -> Iterator[tuple[Hashable, int]]:
        """The nodes that are still from now on, with the time of the reading that says so."""
        for key, node in self._nodes.items() if self._max_still > 0 else ():
            if not node.still and (why := self._why_still(node, now)):
                node.still = why
                node.time_ns += max(1, round((now - node.came) * 1e9))
                node.came = now
                yield key, node.time_ns

    def _why_still(self, node: _Node, now: float) -> str:
        quiet = now - max(node.changed, node.moved)
        usual = USUAL * node.gap if node.changes >= CHANGES else 0.0
        if quiet <= max(self._max_still, usual):
            return ""
        if node.fault is not Fault.NONE:
            return f"{node.fault.value}, and nothing changes"
        if node.status in LAST_USABLE:
            return f"the status {node.status}, and nothing changes"
        if node.restamps and node.unmoved >= UNMOVED:
            return "a source time that moved by itself and has stopped"
        return ""

    def still(self) -> dict[str, list[Hashable]]:
        """The nodes that are still, by the reason."""
        return _grouped((node.still, key) for key, node in self._nodes.items() if node.still)

    def faults(self) -> dict[str, list[Hashable]]:
        """The nodes whose values have the server's time, by what is wrong with the source's."""
        return _grouped((why, key) for key, node in self._nodes.items() if (why := _fault(node)))

    def bad(self, now: float, for_s: float) -> dict[str, list[Hashable]]:
        """The nodes whose status has been bad for so long, by its name."""
        nodes = self._nodes.items()
        return _grouped((n.status, key) for key, n in nodes if n.code >> 30 >= 2 and now - n.changed >= for_s)

    def forget(self, keys: Sequence[Hashable]) -> None:
        """Forget nodes that are no longer there."""
        for key in keys:
            if (node := self._nodes.pop(key, None)) is not None:
                self.clock.forget(node.skew)


def _fault(node: _Node) -> str:
    """What is wrong with a node's source time, in words."""
    return node.fault.value or (words(node.skew.by_ns) if node.skew.fault else "")


def _time(node: _Node, source: int | None, server: int | None, moved: bool, other: bool, now: float) -> int:
    """Time of a node's newest value, later than that of the one before unless a clock was set back."""
    last, elapsed = node.time_ns, max(1, round((now - node.came) * 1e9))
    if node.fault is Fault.NONE and source is not None:
        if not moved and not other:
            return last
        if moved:
            return _later(source, last)
        since = server - node.base if server is not None and node.base is not None else elapsed
        return max(
            source + since, last + 1
        )  # several changes in one step of a coarse clock, or only the status changed
    return _later(server, last) if server is not None and server != node.server else last + elapsed


def _later(stamp: int, last: int) -> int:
    return last + 1 if 0 <= last - stamp < BACK_NS else stamp


def _usable(stamp: Any) -> int | None:
    """Nanoseconds of a time in the range of sensible ones; None for any other."""
    if stamp is None:
        return None
    ns = times.of(stamp)
    return ns if times.is_sensible(ns) else None


def _senseless(stamp: Any) -> int | None:
    """Nanoseconds of a time beyond the range of sensible ones; None for any other: none at all is written as 1601."""
    ns = times.of(stamp) if stamp is not None else 0
    return ns if ns > 0 and not times.is_sensible(ns) else None


def _code(data: Any) -> int:
    return data.StatusCode.value if data.StatusCode is not None else 0


def _status(data: Any) -> str:
    """Name of a status that is not good; names are looked up, which takes time."""
    return str(data.StatusCode.name) if _code(data) >> 30 else ""


def _bad(data: Any) -> bool:
    return _code(data) >> 30 >= 2


def _same(one: Any, other: Any) -> bool:
    """Whether two values are equal; NaN equals itself."""
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    return bool(one == other)


def _grouped(pairs: Iterator[tuple[str, Hashable]]) -> dict[str, list[Hashable]]:
    groups: dict[str, list[Hashable]] = {}
    for why, key in pairs:
        groups.setdefault(why, []).append(key)
    return groups
