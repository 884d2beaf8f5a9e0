# SPDX-License-Identifier: Apache-2.0
"""Assemble unsynchronised readings into windows on a fixed grid. Pure: its only clock are the sources' time stamps.

Promises: the value of a channel at a tick is its last usable reading, if that is not older than `max_hold` or is known
to be unchanged; anything else is NaN, a gap that everybody after can see. A batch is the sequence of its readings: a
stretch of the past gives the same windows in one batch or in many. What came before a hole or before a clock was set
becomes windows first; then a new grid begins, without walking through the hole. Waveform blocks are joined sample by
sample, their drift against the time stamps corrected. What was unusable or late is counted.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import NamedTuple

from ..config.schema import TagConfig
from ..types import Batch, Reading, Window
from .channel import NEVER_NS, Channel, unnoted
from .cutter import Cutter
from .facts import ChannelFacts
from .grid import Grid
from .intake import Intake, plain
from .source_clock import SourceClock, alone

BACK_NS = 1_000_000_000  # a tag's time stamps going back by less are late; by more: perhaps the clock was set
SET_NS = 5_000_000_000  # further ahead than what passed here: set, not only delayed
LEAP_NS = 60_000_000_000  # a living source's time going ahead by more: perhaps the clock was set
STEPS = 4  # usual steps between two readings; a time that is further ahead is doubted
NEAR, NEAR_NS = 32, 45_000_000_000  # as many steps, and as far, ahead is more likely a hole than a wrong time
HOLES = 9  # of which the usual length is found
MAX_HELD = 1_000_000  # ticks of a hole that a long `max_hold` bridges


class State(NamedTuple):
    """What is known of a tag."""

    value: float | str  # NaN: unknown
    since_ns: int  # its last reading
    now_ns: int | None  # the newest time of its source; None: that one does not say what is unchanged


class Assembler:
    """The windows of one asset. Its label is a state that must have held all through the window, or (`measured`) one
    value or more, those of the window's end."""

    def __init__(
        self,
        asset: str,
        channels: Mapping[str, TagConfig],
        labels: Sequence[TagConfig],
        rate_hz: float,
        length: int,
        hop: int,
        max_hold_s: float,
        lateness_s: float,
        measured: bool = False,
        read_label: Callable[[float | str], None] = unnoted,
    ) -> None:
        """read_label: called with each label that a tag gives."""
        self._asset, self._length = asset, length
        self._rate, self._period = rate_hz, 1e9 / rate_hz
        self._hold, self._lateness = round(max_hold_s * 1e9), round(lateness_s * 1e9)
        self._back = max(BACK_NS, self._period)
        self._hole = max(length * self._period, self._lateness)  # longer ones end the window
        self._early = self._hold + self._hole + hop * self._period  # as far before the next window a reading may lie
        self._leap = max(LEAP_NS, 2 * length * self._period)
        self._counts = self._hold + self._period  # how long a value fills ticks
        self._bridge = max(self._leap, min(self._hold, MAX_HELD * self._period))
        self._rows = [
            Channel(t.waveform_hz is not None, t.index, ChannelFacts(n, t.source, t.tag, values_of(t)), range=t.range)
            for n, t in channels.items()
        ]
        self._names = [*channels, *(f"label {label.tag}" for label in labels)]
        self._labels = [
            Channel(False, None, ChannelFacts("label", t.source, t.tag), label=True, range=t.range) for t in labels
        ]
        self._all = [*self._rows, *self._labels]
        self._sources: dict[str, SourceClock] = {}
        for tag, channel in zip([*channels.values(), *labels], self._all, strict=True):
            self._sources.setdefault(tag.source, SourceClock()).follow(tag.tag, channel)
        self._cutter = Cutter(self._rows, self._labels, length, hop, self._hold, measured)
        self._intake = Intake(read_label)
        self.counters = self._intake.counters
        self._grid: Grid | None = None
        self._newest = NEVER_NS  # of all rows: until then there may be values
        self._windows: list[Window] = []  # of the batch at hand
        self._replayed = False
        self._received_ns = 0
        self._holes: deque[int] = deque(maxlen=HOLES)  # since the last window

    def push(self, batch: Batch) -> list[Window]:
        """Take a batch in; the windows it completes, oldest first."""
        source = self._sources.get(batch.source)
        if source is None:
            return []
        self._received_ns, self._windows = batch.received_ns, []
        self._intake.received = batch.received_ns / 1e9
        source.begin(batch)
        if batch.fresh:
            for channel in source.channels:
                channel.end()
        readings = batch.readings
        if batch.fresh:  # what has not changed while there was no connection comes first: it bridges that time
            readings = sorted(readings, key=lambda r: not source.is_unchanged(r))
        if batch.alive_ns is not None:
            readings = self._without_states(source, readings, batch.alive_ns)
        for reading in readings:
            for channel in source.by_tag.get(reading.tag, ()):
                self._take(source, channel, self._intake.ranged(channel, reading))
        if batch.alive_ns is not None and source.sure:
            self._hear(source, source.borne_out(batch.alive_ns, self._lateness, self._leap))
        if self._grid is not None:
            self._advance(self._limit(self._grid))
        return self._windows

    def next_start(self) -> int | None:
        """When the next window begins (ns); None before the first reading."""
        if self._grid is None:
            return None
        return self._grid.time(self._cutter.tick + self._cutter.to_next() - self._length)

    def finish(self) -> list[Window]:
        """Nothing more comes: the windows that waited for slower channels."""
        self._windows = []
        if self._grid is not None:
            self._advance(self._grid.last_until(self._newest))
        return self._windows

    def state(self, source: str, tag: str) -> State | None:
        """What is known of a tag now; None: it is of no row or label, or a waveform."""
        clock = self._sources.get(source)
        for channel in clock.by_tag.get(tag, ()) if clock is not None else ():
            if not channel.waveform:
                value = channel.pending[-1][1] if channel.pending else channel.value
                return State(value, channel.newest, clock.newest if clock is not None and clock.lives else None)
        return None

    def tags(self, source: str) -> list[str]:
        """The tags of a source that rows and labels follow."""
        clock = self._sources.get(source)
        return [] if clock is None else list(clock.by_tag)

    def oldest_doubt(self) -> int | None:
        """The oldest time, ns, of the readings that are not used yet, and wait for those after them; None: none."""
        waiting = (c for source in self._sources.values() if not source.lives for c in source.channels)
        return min((r.time_ns for c in waiting for r in c.votes.doubts), default=None)

    def facts(self) -> list[ChannelFacts]:
        """What became of the readings of each channel; labels are left out."""
        return [c.facts for c in self._rows]

    def filled(self) -> tuple[int, int]:
        """Samples of the window at hand, of how many."""
        return min(self._cutter.filled, self._length), self._length

    def holes(self) -> tuple[int, float]:
        """How many holes ended a window before it was full, since one was; and how long they usually are, s."""
        found = list(self._holes)
        return len(found), median(found) / 1e9 if found else 0.0

    def out_of_range(self) -> dict[str, int]:
        """Readings outside of `range`, by channel; only of those that had some."""
        return {name: c.outside for name, c in zip(self._names, self._all, strict=True) if c.outside}

    def implausible_times(self) -> dict[str, tuple[int, int, int]]:
        """Readings whose time fits none of those around it, by channel: how many, the last one's time, and how far
        that was ahead of the others, ns."""
        found = {name: c.facts for name, c in zip(self._names, self._all, strict=True) if c.facts.implausible}
        return {name: facts.implausible_times for name, facts in found.items()}

    def resume(self, start: float) -> None:
        """Before the first reading: continue with the window that begins at `start` (ns), a value of `next_start`."""
        self._grid = Grid(round(start), self._period)

    def end_replay(self) -> None:
        """What comes from now on is new: if it is of long before the window to continue with, a clock was set back."""
        self._replayed = True

    def _without_states(self, source: SourceClock, readings: Sequence[Reading], alive: int) -> Sequence[Reading]:
        """The readings of a living source, without first values of long ago, which are taken here.

        They have not changed since, and count from when the other readings begin: nobody wants windows of the days
        between.
        """
        if not any(c.newest == NEVER_NS for c in source.channels):
            return readings
        if alive - min([r.time_ns for r in readings], default=alive) <= self._leap:
            return readings
        unheard = {t for t, some in source.by_tag.items() if all(not c.waveform and c.newest == NEVER_NS for c in some)}
        states = alone(readings, unheard, alive, self._leap)
        others = [r for i, r in enumerate(readings) if i not in states]
        begin = min([r.time_ns for r in others], default=alive)
        for state in [readings[i] for i in sorted(states)]:
            for channel in source.by_tag.get(state.tag, ()):
                self._accept(source, channel, self._intake.ranged(channel, state), begin)
                channel.votes.agree()
        return others

    def _take(self, source: SourceClock, channel: Channel, reading: Reading) -> None:
        """Take a reading in, or doubt it if its time does not fit."""
        time, newest = reading.time_ns, channel.newest
        ahead = time - source.newest
        if newest - time > self._back or (
            (ahead > self._back or (source.lives and -ahead > self._leap)) and not self._fits(source, channel, time)
        ):
            self._doubt(source, channel, reading)
            return
        if not channel.trusted:
            self._agree(source, channel)
        source.in_step = True
        if time > newest:
            if time > source.heard and newest > NEVER_NS and not channel.ended:
                source.heard = time
            self._accept(source, channel, reading, time)
        elif channel.ended and time == newest:
            channel.resume(reading._replace(value=self._intake.scalar(channel, reading)))
        else:
            self._intake.late(channel)

    def _agree(self, source: SourceClock, channel: Channel) -> None:
        """A reading fits, of a channel whose clock is not known for long, or of which some do not."""
        channel.agreed = source.batches
        for wrong in channel.votes.agree():
            self._dismiss(channel, wrong)
        channel.trusted = channel.votes.sure

    def _fits(self, source: SourceClock, channel: Channel, time: int) -> bool:
        """Whether a time that is far off may be of the source's clock.

        What passed here since explains a time that is as far ahead: a machine that was off, or a slow poll.
        """
        first = channel.newest == NEVER_NS
        if source.lives:
            old = first or channel.ended or source.newest - time <= self._leap  # the first may be of long ago
            return old and not source.is_ahead(time, self._leap + self._since(source))
        step = self._step(source)
        passed = max(self._since(source), channel.votes.elapsed(time, source.usual, step))
        return first or time - source.newest <= step + passed

    def _step(self, source: SourceClock) -> float:
        """How far a time may be ahead of the one before."""
        return max(self._back, STEPS * source.usual) if source.usual else self._leap

    def _since(self, source: SourceClock) -> int:
        """How long ago, ns, the source's newest time came."""
        return self._received_ns - source.came_ns if source.came_ns else 0

    def _passed(self, source: SourceClock, length: int) -> bool:
        """Whether so much time passed here, too; else the clock was set ahead, and nothing is known of the time that it
        left out."""
        return not source.came_ns or length <= self._since(source) + SET_NS

    def _doubt(self, source: SourceClock, channel: Channel, reading: Reading) -> None:
        """A time that does not fit is wrong, or the clock was set: the readings after it say which."""
        source.doubted, channel.trusted = True, False
        forgotten = channel.votes.doubt(reading, self._step(source))
        if forgotten is not None:
            self._dismiss(channel, forgotten)
        near = 0.0 if source.lives else min(NEAR * source.usual, NEAR_NS)
        run = channel.votes.new_clock(channel.newest, self._reach(source), near)
        if run:
            self._follow(source, run[0].time_ns, run[-1].time_ns)
        elif source.lives and not channel.waveform:  # whatever its time: the tag's value is this one now
            if self._grid is not None:
                self._advance_within(source, self._limit(self._grid))
            channel.put(source.newest, self._intake.scalar(channel, reading))
            behind = source.newest - reading.time_ns
            channel.facts.note_lag(0 < behind <= self._leap, behind)
        else:
            self._intake.doubted(channel, reading)

    def _reach(self, source: SourceClock) -> float:
        """How far apart two readings that agree may be."""
        return max(self._leap, self._hold, STEPS * source.usual)

    def _dismiss(self, channel: Channel, reading: Reading) -> None:
        """A doubt was wrong: by little, then it came late, or its time cannot be."""
        if 0 < channel.newest - reading.time_ns <= self._leap:
            self._intake.late(channel)
        else:
            self._intake.implausible(channel, reading)

    def _follow(self, source: SourceClock, first: int, last: int) -> None:
        """Continue with the doubts between two times, which are the source's clock from now on."""
        source.note_clock(first, self._reach(source))
        agreeing: list[tuple[Channel, Reading]] = []
        later: list[tuple[Channel, Reading]] = []  # as far ahead of that clock again: nothing speaks against them yet
        for channel in source.channels:
            reached = NEVER_NS
            for reading in channel.votes.dismiss():
                if first - self._leap <= reading.time_ns <= last:
                    agreeing.append((channel, reading))
                    reached = max(reached, reading.time_ns)
                elif reached >= last:
                    later.append((channel, reading))
                else:
                    self._dismiss(channel, reading)
        if source.lives or first <= source.newest:
            self._set_clock(source, min([first, *(r.time_ns for _, r in agreeing)]))
        times = sorted({r.time_ns for _, r in agreeing})
        source.usual = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else source.usual
        begun: set[int] = set()
        for channel, reading in sorted(agreeing, key=lambda found: found[1].time_ns):
            if id(channel) not in begun:
                begun.add(id(channel))
                channel.votes.begin()
                channel.trusted = False
            if reading.time_ns > channel.newest:
                channel.votes.agree()
                self._accept(source, channel, reading, reading.time_ns)
            else:
                self._intake.late(channel)
        for channel, reading in sorted(later, key=lambda found: found[1].time_ns):
            self._take(source, channel, reading)

    def _set_clock(self, source: SourceClock, now: int) -> None:
        """A source's clock was set: begin again at `now`, with the values that are still good."""
        self.counters.clock_jumps += 1
        if self._grid is not None:
            self._advance_within(source, self._grid.last_until(self._newest))
        for channel in source.channels:
            channel.restart(now, channel.good_until(self._hold) >= source.newest)
        source.newest = now
        source.votes.begin()
        source.lags.clear()
        self._newest = max([max(c.newest, c.alive) for c in self._rows])
        if self._grid is not None and self._newest < self._grid.time(self._cutter.tick - 1):  # no other source is there
            self._grid, self._newest = None, NEVER_NS
            self._cutter.restart()

    def _accept(self, source: SourceClock, channel: Channel, reading: Reading, time: int) -> None:
        """Use a reading that is newer than those of its tag before it; it counts from `time`."""
        if channel.waveform:
            self._take_block(source, channel, reading)
        else:
            self._fill_before(source, time)
            self._take_scalar(source, channel, time, reading)
            step, facts = time - channel.newest, channel.facts
            if (step > self._counts or facts.slow) and channel.newest > NEVER_NS:
                facts.note_step(step, max(self._counts, self._leap) if source.living else self._counts)
        channel.newest, channel.ended = reading.time_ns, False
        if time > source.newest:
            source.advance(time, self._received_ns)
        if not channel.label:
            self._newest = max(self._newest, time)

    def _fill_before(self, source: SourceClock, time: int) -> None:
        """Fill what comes before a value of that time, as far as nothing waits for it any more."""
        grid = self._grid
        if grid is None:
            return
        if self._replayed and not self._cutter.tick and grid.origin - time > self._early:
            self._grid, self._newest = None, NEVER_NS
            self.counters.clock_jumps += 1
        elif time - self._newest > self._hole:
            self._cross_hole(source, grid, time)
        elif time <= self._newest - self._lateness:
            self._advance_within(source, grid.last_until(self._newest - self._lateness))

    def _cross_hole(self, source: SourceClock, grid: Grid, time: int) -> None:
        """Nothing was heard for longer than a window. It ends, unless a value is known throughout."""
        first = self._newest == NEVER_NS
        if not first:
            self._advance_within(source, grid.last_until(self._newest))
        length = time - self._newest
        if source.living and length <= self._leap and self._passed(source, length):
            source.mark_alive(time)
        until = max([c.good_until(self._hold) for c in self._rows])
        if length <= self._bridge and until >= time - self._period:
            return
        tick = grid.first_from(time)
        if first and tick - self._cutter.tick <= self._length:
            return
        self.counters.gaps += 1
        self._cutter.skip_to(tick)
        if not first:
            self._holes.append(length)

    def _take_scalar(self, source: SourceClock, channel: Channel, time: int, reading: Reading) -> None:
        if self._grid is None and not channel.label:
            self._grid = Grid.from_time(time, self._rate, self._period)
        grid = self._grid
        passed = grid is not None and self._cutter.filled > 0 and grid.first_from(time) < self._cutter.tick
        if passed and not channel.ended:
            self.counters.late += 1
            far = time + self._hold < self._grid.time(self._cutter.tick)  # type: ignore[union-attr]
            if far and not source.lives:
                self._intake.behind(channel, reading, self._newest - time)
                channel.put(time, plain(channel, reading), passed)
                return
            channel.facts.note_lag(far, self._newest - time)
        elif channel.facts.lagging:
            channel.facts.note_lag(False)
        channel.put(time, self._intake.scalar(channel, reading), passed)

    def _take_block(self, source: SourceClock, channel: Channel, reading: Reading) -> None:
        block = self._intake.block(channel, reading)
        if block is None:
            self._fill_before(source, reading.time_ns)
            return
        start = reading.time_ns - round((len(block) - 1) * self._period)
        self._wait_for(len(block))
        self._fill_before(source, start)
        self._grid = grid = self._grid or Grid(start, self._period)
        tick = grid.nearest(start)
        if channel.next_tick is not None and abs(tick - channel.next_tick) < len(block) / 2:
            tick = channel.next_tick
            drifted = start - round(tick * self._period)
            if channel is self._rows[0] and drifted != grid.origin:
                # The grid follows the first channel's clock, so that scalars stay aligned; those before it are placed.
                self._advance_within(source, self._limit(grid))
                grid.origin = drifted
        elif channel.next_tick is not None and tick < channel.next_tick:  # it overlaps what was there before
            self._advance_within(source, self._limit(grid))
        channel.next_tick = tick + len(block)
        if channel.next_tick <= self._cutter.tick and self._cutter.filled:
            self.counters.late += 1
        else:
            channel.blocks.append((tick, block))

    def _wait_for(self, length: int) -> None:
        """A block brings samples as old as it is long: what is slower than that is late."""
        self._lateness = max(self._lateness, round(length * self._period))
        self._hole = max(self._hole, self._lateness)

    def _hear(self, source: SourceClock, alive: int) -> None:
        """The source lives: what was not heard is unchanged until then."""
        behind = source.newest - alive > self._leap
        if behind and source.in_step:
            return  # another clock behind the same source
        if behind or source.is_ahead(alive, self._leap + self._since(source)):
            if source.doubted:
                return  # the readings of the batch have voted
            source.votes.doubt(Reading("", alive, math.nan), self._step(source))
            run = source.votes.new_clock(source.newest, self._reach(source))
            if not run:
                return
            self._follow(source, run[0].time_ns, run[-1].time_ns)
        elif alive >= source.newest - self._back:  # then the readings whose times say otherwise are wrong
            for channel in source.channels:
                if channel.votes.doubts and channel.agreed != source.batches:
                    for wrong in channel.votes.restore():
                        self._dismiss(channel, wrong)
        source.votes.agree()
        if any(not c.label for c in source.sure):
            self._fill_before(source, alive)
            self._newest = max(self._newest, alive)
        if alive > source.newest:
            source.advance(alive, self._received_ns)
        source.mark_alive(alive)
        for channel in source.sure:
            channel.facts.alive = self._intake.received

    def _advance_within(self, source: SourceClock, limit: int) -> None:
        """Advance before the end of a batch, as if the readings taken so far had been one."""
        if source.living:
            source.mark_alive(source.newest)
        self._advance(limit)

    def _advance(self, limit: int) -> None:
        """Fill the ticks up to a limit, and cut the windows that are complete."""
        cutter, grid = self._cutter, self._grid
        assert grid is not None
        while cutter.tick <= limit:
            cut = cutter.fill(grid, limit - cutter.tick + 1)
            if cut is not None:
                self.counters.windows += 1
                self._windows.append(Window(self._asset, *cut, self._received_ns))
                self._holes.clear()

    def _limit(self, grid: Grid) -> int:
        """The last tick whose values are all known, or that has waited long enough for the slower channels."""
        complete = min([self._known_until(grid, c) if c.waveform else c.newest for c in self._all])
        return grid.last_until(max(complete, self._newest - self._lateness))

    def _known_until(self, grid: Grid, channel: Channel) -> int:
        return NEVER_NS if channel.next_tick is None else grid.time(channel.next_tick - 1)


def values_of(tag: TagConfig) -> str:
    """What a channel's values are, in words."""
    if tag.waveform_hz is None:
        return "numbers"
    return "arrays of numbers" if tag.index is None else "tables of numbers"
