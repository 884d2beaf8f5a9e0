# SPDX-License-Identifier: Apache-2.0
"""How far the source time of a node is from the server's clock, and whether that is a fault. Pure.

The server's clock comes as a value of its own (ServerStatus.CurrentTime). A change of a value that arrives now is of
now: its source time lies near the server's clock, or the clock that gave it is off. The first value of a connection may
be of long ago. A PLC whose clock differs from the server's for *all* nodes alike is no fault: its times are used as
they are, and are the `frame`. Where nodes differ from each other, those near the server's clock are right.
"""

from __future__ import annotations

from dataclasses import dataclass

FAR_NS = 30 * 10**9  # further behind, a clock is another one; less is latency, or a PLC without NTP
AHEAD_NS = 2 * 10**9  # further ahead, it is another one, too: nothing is delayed into the future
BESIDE_NS = 10**9  # so little ahead of other nodes it is theirs
CREEP_NS = 10**6  # the difference of all nodes falls by, with each change
STEADY_NS = 5 * 10**9  # what a constant difference may vary by
STEADY = 3  # changes in a row with the same difference
STEADY_S = 2.0  # over so long: a backlog comes at once
SOUND_AGAIN = 20  # changes in a row near the clock, until a node's own time is used again
DRIFT = 1e-4  # of two good clocks


@dataclass
class Skew:
    """What is known of one node."""

    far: bool | None = None  # whether its last time was far from the server's clock; None: not known
    by_ns: int = 0  # how far, ahead of it
    steady: int = 0  # changes in a row with that difference
    since: float = 0.0  # monotonic: the first of them
    fault: bool = False  # it is constantly off
    near: int = 0  # changes in a row that were not


class ServerClock:
    """The server's clock, carried on by the monotonic one, and the nodes' distance to it."""

    def __init__(self) -> None:
        self._offset: int | None = None  # of the monotonic clock, ns
        self._heard = 0.0
        self._near = 0  # nodes near the clock
        self._lead = 0  # how far the first of those is ahead of it, ns
        self._told = self._step = 0  # its last time as it came, and how far apart two are
        self._frame: int | None = None  # the difference of all nodes; None: not known
        self._nodes: list[Skew] = []

    def hear(self, time_ns: int, now: float) -> None:
        """Take the server's time. Of several the least delayed counts; one that is far off means that it was set."""
        offset = time_ns - round(now * 1e9)
        step = time_ns - self._told if self._told else 0
        self._step = max(min(step, FAR_NS - AHEAD_NS), self._step * 9 // 10)
        self._told = time_ns
        if self._offset is None or abs(offset - self._offset) > FAR_NS:
            self._offset, self._frame, self._near, self._lead = offset, None, 0, 0
            for skew in self._nodes:
                skew.far, skew.steady, skew.near = None, 0, 0
        else:
            self._offset = max(offset, self._offset - round(DRIFT * 1e9 * (now - self._heard)))
        self._heard = now

    def at(self, now: float) -> int | None:
        """The server's time, ns; None: not known."""
        return None if self._offset is None else self._offset + round(now * 1e9)

    @property
    def frame(self) -> int:
        """How far ahead of the server's clock the nodes are that agree, ns."""
        return self._frame or 0

    @property
    def ahead(self) -> int:
        """How far ahead of it a time may be, ns: it may have gone on for a step since it was told."""
        return AHEAD_NS + self._step

    def until(self, now: float) -> int | None:
        """Until when nothing has changed that was not sent, by the clock that the nodes agree on; None: not known."""
        return None if self._offset is None else self._offset + round(now * 1e9) + self.frame

    def add(self) -> Skew:
        """Another node."""
        self._nodes.append(skew := Skew())
        return skew

    def forget(self, skew: Skew) -> None:
        """Forget a node that is no longer there."""
        self._near -= skew.far is False
        self._nodes = [s for s in self._nodes if s is not skew]

    def judge(self, skew: Skew, source_ns: int, now: float, first: bool) -> bool | None:
        """Whether a new source time of a node is of the clock; None: it may be of long ago, so nothing is known."""
        if self._offset is None:
            return True
        by = source_ns - self._offset - int(now * 1e9)
        if skew.far is False and not skew.fault and -FAR_NS <= by <= self.ahead:
            self._lead = max(self._lead, by)
            return True
        if first and by < -FAR_NS:
            return None
        self._classify(skew, by, now)
        if skew.far and self._is_off(skew):
            skew.near = 0
            skew.fault = skew.fault or (skew.steady >= STEADY and now - skew.since >= STEADY_S)
            return False if by > 0 or skew.fault else None  # what is behind may be a backlog
        skew.near += 1
        skew.fault = skew.fault and skew.near < SOUND_AGAIN
        return not skew.fault

    def _classify(self, skew: Skew, by: int, now: float) -> None:
        far = not -FAR_NS <= by <= self.ahead
        self._near += (far is False) - (skew.far is False)
        same = skew.far is far and abs(by - skew.by_ns) <= STEADY_NS
        skew.steady, skew.since = (skew.steady + 1, skew.since) if same else (1, now)
        skew.far, skew.by_ns = far, by
        if self._near:
            self._frame = 0
        elif self._frame is None:
            self._frame = by
        elif abs(by - self._frame) <= AHEAD_NS:  # it drifts
            self._frame = max(by, self._frame - CREEP_NS)

    def _is_off(self, skew: Skew) -> bool:
        """Whether a node that is far from the server's clock is far from that of the other nodes, too."""
        assert self._frame is not None
        most = max(self.ahead, self._lead + BESIDE_NS) if self._near else self.ahead
        if -FAR_NS <= skew.by_ns - self._frame <= most:
            return False
        if skew.fault:
            return True
        others = [s for s in self._nodes if s is not skew and s.far is not None]
        if not others and skew.steady >= STEADY:
            self._frame = skew.by_ns
            return False
        if not _agree(others, self._frame, STEADY):  # but if all nodes moved alike, the frame stays as it was
            self._frame = self._frame if _agree(others, skew.by_ns, 1) else 0
        return True


def _agree(some: list[Skew], by_ns: int, steady: int) -> bool:
    """Whether one of the nodes has this difference, for so many changes."""
    return any(s.steady >= steady and abs(s.by_ns - by_ns) <= FAR_NS for s in some)


def words(by_ns: int) -> str:
    """A difference for people."""
    amount, unit = round(abs(by_ns) / 1e9), "s"
    for size, most, larger in ((60, 120, "min"), (60, 120, "h"), (24, 48, "days")):
        if round(amount / size) * size < most:
            break
        amount, unit = round(amount / size), larger
    return f"a source time {amount:,} {unit} {'ahead of' if by_ns > 0 else 'behind'} the server's clock"
