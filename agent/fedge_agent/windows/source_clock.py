# SPDX-License-Identifier: Apache-2.0
"""What an asset knows of one source's clock, and the channels that it feeds. Pure.

A time that is far from the source's clock is one of three things: a reading that comes late, a wrong time stamp, or the
first sign that the clock was set. The next times of the same tag, and the signs of life, say which (`votes`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence, Set
from dataclasses import dataclass, field

from ..types import Batch, Reading
from .channel import NEVER_NS, Channel
from .votes import Votes

LONG_NS = 1 << 60  # 36 years: no step between two times that fit each other
SMOOTH = 8  # steps over which the usual one is averaged
LAGS = 4  # batches with readings of which the least lag is the tags' own


@dataclass
class SourceClock:
    """One source of an asset."""

    by_tag: dict[str, list[Channel]] = field(default_factory=dict)  # who follows a tag
    channels: list[Channel] = field(default_factory=list)
    newest: int = NEVER_NS  # the newest time of it, ns
    came_ns: int = 0  # when that came, monotonic; 0: not known
    votes: Votes = field(default_factory=Votes)  # of the signs of life
    usual: float = 0.0  # step between two times, ns; 0: not known
    left_ns: int = NEVER_NS  # where the clock before ended
    since_ns: int = NEVER_NS  # where this one began
    returns: int = 0  # how often a clock that was left came back
    batches: int = 0
    lives: bool = False  # the source ever reported until when nothing else has changed
    lags: deque[int] = field(default_factory=lambda: deque(maxlen=LAGS))  # of its tags behind the signs of life, ns
    # of the batch at hand:
    living: bool = False  # the source reports until when nothing else has changed
    alive: int | None = None  # until then the source reports that nothing else has changed
    fresh: bool = False  # a new connection: time went on while there was none
    in_step: bool = False  # a reading had a time of the clock as it is known
    doubted: bool = False  # a reading had another time
    heard: int = NEVER_NS  # the newest time of a tag that was known before
    sure: Sequence[Channel] = ()  # channels whose silence means no change

    def follow(self, tag: str, channel: Channel) -> None:
        """Add a channel."""
        self.by_tag.setdefault(tag, []).append(channel)
        self.channels.append(channel)

    def begin(self, batch: Batch) -> None:
        """Begin with a batch of the source."""
        self.living, self.in_step = batch.alive_ns is not None, False
        self.doubted, self.batches, self.heard = False, self.batches + 1, NEVER_NS
        self.lives = self.lives or self.living
        self.fresh, self.alive = batch.fresh, batch.alive_ns
        self.sure = self.channels
        if batch.unsure:
            self.sure = [c for tag, some in self.by_tag.items() if tag not in batch.unsure for c in some]

    def is_unchanged(self, reading: Reading) -> bool:
        """Whether a new connection reports the value and time that a tag had in the last one."""
        return any(c.ended and c.newest == reading.time_ns for c in self.by_tag.get(reading.tag, ()))

    def is_ahead(self, time_ns: int, leap: float) -> bool:
        """Whether a source that was alive all along is suddenly far ahead. One that may be silent is not.

        The first times are compared with what the source says of its clock.
        """
        if not self.lives or (self.fresh and self.newest != NEVER_NS):
            return False
        clock = self.newest if self.newest != NEVER_NS else self.alive
        return clock is not None and time_ns - clock > leap

    def advance(self, time_ns: int, received_ns: int) -> None:
        """Note a newer time of the source, and when it came."""
        step = time_ns - self.newest
        if step < LONG_NS:
            self.usual += (step - self.usual) / SMOOTH if self.usual else step
        self.newest, self.came_ns = time_ns, received_ns

    def note_clock(self, first_ns: int, reach: float) -> None:
        """Another clock begins at this time: perhaps the one before, which went on meanwhile."""
        passed = max(0, self.newest - self.since_ns) if self.since_ns != NEVER_NS else 0
        if self.left_ns < first_ns <= self.left_ns + passed + reach:
            self.returns += 1
        self.left_ns, self.since_ns = self.newest, first_ns
        for channel in self.channels:
            channel.votes.returns = self.returns

    def borne_out(self, alive_ns: int, late_ns: float, leap: float) -> int:
        """Until when a sign of life holds, by the clock of the tags that are followed here.

        It may be of the clock of other tags: where it is always ahead of the readings that come with it, by more than
        a window waits, the windows would not wait for those. What the readings say themselves is known in any case.
        """
        if self.heard > NEVER_NS and not self.doubted:
            self.lags.append(alive_ns - self.heard)
        lag = min(self.lags, default=0)
        until = alive_ns - lag if lag > late_ns else alive_ns
        return self.heard if until < self.heard <= until + leap else until

    def mark_alive(self, until_ns: int) -> None:
        """What was not heard since is unchanged until then."""
        for channel in self.sure:
            channel.alive = max(channel.alive, until_ns)


def alone(readings: Sequence[Reading], tags: Set[str], alive_ns: int, leap: float) -> set[int]:
    """Places of the first readings of these tags, as far as long times lie between them, and between them and now."""
    last: dict[str, tuple[int, int]] = {}  # tag -> its last reading: place and time
    begun: set[str] = set()  # tags with readings close to each other: the beginning of a history
    found: set[int] = set()
    for i, reading in enumerate(readings):
        tag, time = reading.tag, reading.time_ns
        if tag not in tags or tag in begun:
            continue
        place, before = last.get(tag, (-1, NEVER_NS))
        last[tag] = i, time
        if time - before > leap:
            found.add(i)
        else:
            found.discard(place)
            begun.add(tag)
    return found - {place for place, time in last.values() if alive_ns - time <= leap}
