# SPDX-License-Identifier: Apache-2.0
"""Assemble unsynchronised readings into windows on a fixed grid. Pure: its only clock are the sources' time stamps.

Promises: the value of a channel at a tick is its last usable reading, if that is not older than `max_hold` or is known
to be unchanged; anything else is NaN, a gap that everybody after can see. A clock that jumps restarts the grid without
walking through the jump. Waveform blocks are joined sample by sample, their drift against the time stamps corrected.
What was unusable is counted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..config.schema import TagConfig
from ..types import Array, Batch, Quality, Reading, Window
from .channel import LARGEST, NEVER_NS, Channel, known
from .facts import ChannelFacts

JUMP_NS = 1_000_000_000  # a channel's time stamps going back further than this: the clock was set
LEAP_NS = 60_000_000_000  # a living source's time going ahead by more: the same
STRAGGLE_NS = 10_000_000_000  # an old time that goes on for longer after the clock was set is none


@dataclass
class Counters:
    """What happened to readings, for `status`."""

    readings: int = 0
    bad: int = 0  # bad quality
    uncertain: int = 0  # used
    not_finite: int = 0  # NaN, Inf, a number that no quantity has (`LARGEST`), or no number
    out_of_range: int = 0  # outside of the channel's `range`: no value
    late: int = 0  # older than what was already used
    gaps: int = 0  # longer than a window: a new grid began
    clock_jumps: int = 0
    windows: int = 0


class Jump(NamedTuple):
    """A source's clock was set from one time to another, ns."""

    source: str
    before: int
    after: int


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
    ) -> None:
        self._asset, self._length, self._hop = asset, length, hop
        self._period = 1e9 / rate_hz
        self._hold, self._lateness = max_hold_s * 1e9, lateness_s * 1e9
        self._leap = max(LEAP_NS, 2 * length * self._period)
        self._rows = [
            Channel(t.waveform_hz is not None, t.index, ChannelFacts(n, t.source, t.tag, _values_of(t)), range=t.range)
            for n, t in channels.items()
        ]
        self._names = [*channels, *(f"label {label.tag}" for label in labels)]
        self._measured = measured
        self._labels = [
            Channel(False, None, ChannelFacts("label", t.source, t.tag), label=True, range=t.range) for t in labels
        ]
        self._all = [*self._rows, *self._labels]
        self._by_tag: dict[str, dict[str, list[Channel]]] = {}  # source -> tag -> who follows it
        self._by_source: dict[str, list[Channel]] = {}
        for tag, channel in zip([*channels.values(), *labels], self._all, strict=True):
            self._by_tag.setdefault(tag.source, {}).setdefault(tag.tag, []).append(channel)
            self._by_source.setdefault(tag.source, []).append(channel)
        self._buffer: Array = np.empty((len(self._rows), 4 * max(length, hop)), np.float32)
        self.counters = Counters()
        self._origin: float | None = None  # time of tick 0, ns
        self._jump: Jump | None = None  # the last
        self._alive: dict[str, int] = {}  # source -> until when it last was, ns
        self._received = 0.0  # the batch at hand, monotonic s
        self._old_alive: int | None = None  # as `Channel.old`
        self._tick = self._filled = self._at = self._label_run = 0

    def push(self, batch: Batch) -> list[Window]:
        """Take a batch in; the windows it completes, oldest first."""
        by_tag = self._by_tag.get(batch.source)
        if by_tag is None:
            return []
        self._received = batch.received_ns / 1e9
        if batch.fresh:
            for channel in self._by_source[batch.source]:
                channel.end()
        if batch.alive_ns is not None:
            self._alive.setdefault(batch.source, batch.alive_ns)
        for reading in batch.readings:
            for channel in by_tag.get(reading.tag, ()):
                self._take(channel, reading, batch.source)
        if batch.alive_ns is not None:
            if self._is_old(batch.source, batch.alive_ns, self._old_alive):
                self._old_alive = self._old_alive or batch.alive_ns
            else:
                self._mark_alive(batch.source, batch.alive_ns, batch.unsure)
        return self._advance(batch.received_ns)

    def next_start(self) -> float | None:
        """When the next window begins (ns); None before the first reading."""
        if self._origin is None:
            return None
        done = self._filled - self._length
        to_next = -done if done < 0 else self._hop - done % self._hop
        return self._origin + (self._tick + to_next - self._length) * self._period

    def facts(self) -> list[ChannelFacts]:
        """What became of the readings of each channel; labels are left out."""
        return [c.facts for c in self._rows]

    def filled(self) -> tuple[int, int]:
        """Samples of the window at hand, of how many."""
        return min(self._filled, self._length), self._length

    def resume(self, start: float) -> None:
        """Before the first reading: continue with the window that begins at `start` (ns), a value of `next_start`."""
        self._origin = start

    def _take(self, channel: Channel, reading: Reading, source: str) -> None:
        counters = self.counters
        counters.readings += 1
        if reading.quality is Quality.UNCERTAIN:
            counters.uncertain += 1
        if channel.range is not None and isinstance(reading.value, (int, float)) and not channel.holds(reading.value):
            self._count_outside(channel, 1)
            channel.facts.note_outside(reading.value)
            reading = reading._replace(value=math.nan, quality=Quality.BAD)
        if channel.newest == NEVER_NS and self._is_old(source, reading.time_ns, channel.old):
            self._take_old(channel, reading)
            return
        back = channel.newest - reading.time_ns
        if 0 <= back <= JUMP_NS:
            if channel.ended and back == 0:
                channel.resume(reading._replace(value=self._scalar(channel, reading)))
            else:
                counters.late += 1
                channel.facts.take_late(self._received)
            return
        if back > 0 or channel.leaps(reading.time_ns, self._leap):
            self._restart(reading.time_ns, source)
        if channel.waveform:
            self._take_block(channel, reading)
        else:
            self._take_scalar(channel, reading)
        channel.newest, channel.ended = reading.time_ns, False

    def _is_old(self, source: str, time_ns: int, first: int | None) -> bool:
        """Whether a time is one of the source's clock before it was set. Its tags are not read at one moment: some come
        with the old time when others have brought the new one. first: such a time that came before."""
        if self._jump is None or self._jump.source != source:
            return False
        if first is not None and time_ns - first > STRAGGLE_NS:
            return False
        _, before, after = self._jump
        return abs(time_ns - before) < abs(time_ns - max(after, self._newest(source)))

    def _take_old(self, channel: Channel, reading: Reading) -> None:
        """The value has been this since before the clock was set; a block of then has no place any more."""
        assert self._jump is not None
        channel.old = channel.old or reading.time_ns
        if channel.waveform:
            self.counters.late += 1
        else:
            channel.carry(self._jump.after, self._scalar(channel, reading))

    def _newest(self, source: str) -> int:
        """Time of the source's last reading for this asset."""
        return max([c.newest for c in self._by_source[source]])

    def _take_scalar(self, channel: Channel, reading: Reading) -> None:
        channel.pending.append((reading.time_ns, self._scalar(channel, reading)))
        if self._origin is None:
            self._origin = math.ceil(reading.time_ns / self._period) * self._period

    def out_of_range(self) -> dict[str, int]:
        """Readings outside of `range`, by channel; only of those that had some."""
        return {name: c.outside for name, c in zip(self._names, self._all, strict=True) if c.outside}

    def _scalar(self, channel: Channel, reading: Reading) -> float | str:
        value = reading.value
        if channel.label and reading.quality is not Quality.BAD:
            return value if isinstance(value, (str, float)) else math.nan
        usable = isinstance(value, (int, float)) and abs(value) <= LARGEST
        channel.facts.take(reading, usable, self._received)
        if reading.quality is Quality.BAD:
            self.counters.bad += 1
        elif usable:
            return float(value)
        else:
            self.counters.not_finite += 1
        return math.nan

    def _count_outside(self, channel: Channel, count: int) -> None:
        channel.outside += count
        self.counters.out_of_range += count

    def _take_block(self, channel: Channel, reading: Reading) -> None:
        block = self._samples(channel, reading)
        if block is None:
            return
        start = reading.time_ns - (len(block) - 1) * self._period
        if self._origin is None:
            self._origin = start
        tick = round((start - self._origin) / self._period)
        if channel.next_tick is not None and abs(tick - channel.next_tick) < len(block) / 2:
            if channel is self._rows[0]:  # the grid follows the first channel's clock, so that scalars stay aligned
                self._origin = start - channel.next_tick * self._period
            tick = channel.next_tick
        channel.blocks.append((tick, block))
        channel.next_tick = tick + len(block)

    def _samples(self, channel: Channel, reading: Reading) -> Array | None:
        block = reading.value
        usable = isinstance(block, np.ndarray) and block.ndim == (1 if channel.index is None else 2)
        channel.facts.take(reading, usable, self._received)
        if reading.quality is Quality.BAD:
            self.counters.bad += 1
            return None
        if not isinstance(block, np.ndarray) or not usable:
            self.counters.not_finite += 1
            return None
        if channel.index is not None:
            block = block[channel.index]
        with np.errstate(over="ignore"):
            samples: Array = block.astype(np.float32, copy=False)
        finite = np.abs(samples) <= LARGEST
        if not finite.all():
            self.counters.not_finite += int((~finite).sum())
            samples = np.where(finite, samples, np.float32(np.nan))
        if channel.range is not None:
            outside = (samples < channel.range[0]) | (samples > channel.range[1])
            if outside.any():
                self._count_outside(channel, int(outside.sum()))
                samples = np.where(outside, np.float32(np.nan), samples)
        return samples

    def _mark_alive(self, source: str, alive: int, unsure: frozenset[str]) -> None:
        last, self._alive[source] = self._alive[source], alive
        channels = self._sure(source, unsure) if unsure else self._by_source[source]
        if not channels:
            return
        if last - alive > self._leap and max([max(c.newest, c.alive) for c in channels]) - alive > self._leap:
            self._restart(alive, source)
        for channel in channels:
            if channel.leaps(alive, self._leap):
                self._restart(alive, source)
            if channel.alive == NEVER_NS and channel.pending and alive - channel.pending[0][0] > self._leap:
                self._begin_late(channel, alive)
            channel.alive, channel.facts.alive = max(channel.alive, alive), self._received

    def _sure(self, source: str, unsure: frozenset[str]) -> list[Channel]:
        """The source's channels whose silence means no change."""
        return [c for tag, some in self._by_tag[source].items() if tag not in unsure for c in some]

    def _begin_late(self, channel: Channel, now: int) -> None:
        """The first that was heard is of long ago: the value counts from `now`, or from when it changed shortly before,
        and so does a grid that began with it."""
        since, (changed, value) = channel.pending[0][0], channel.pending[-1]
        channel.carry(changed if now - changed <= self._leap else now, value)
        began = self._origin is not None and self._origin > since + self._period
        if began or self._filled or any(c.waveform for c in self._all):
            return
        self._origin = math.ceil(min(c.pending[0][0] for c in self._all if c.pending) / self._period) * self._period

    def _advance(self, received_ns: int) -> list[Window]:
        windows: list[Window] = []
        limit = self._limit()
        while limit is not None and self._tick <= limit:
            if self._skip_gap(limit):
                continue
            done = self._filled - self._length
            to_next = -done if done < 0 else self._hop - done % self._hop
            self._fill(min(to_next, limit - self._tick + 1))
            done = self._filled - self._length
            if done >= 0 and done % self._hop == 0:
                windows.append(self._window(received_ns))
        return windows

    def _limit(self) -> int | None:
        """The last tick whose values are all known, or that has waited long enough for the slower channels."""
        if self._origin is None:
            return None
        complete = min([self._known_until(c) if c.waveform else c.newest for c in self._all])
        newest = max([c.newest if c.newest > c.alive else c.alive for c in self._all])
        return math.floor((max(complete, newest - self._lateness) - self._origin) / self._period + 1e-6)

    def _known_until(self, channel: Channel) -> float:
        assert self._origin is not None
        return -math.inf if channel.next_tick is None else self._origin + (channel.next_tick - 1) * self._period

    def _skip_gap(self, limit: int) -> bool:
        """Begin a new grid after a gap that is longer than a window, without filling the gap."""
        if limit - self._tick <= self._length:
            return False
        assert self._origin is not None
        now = self._origin + self._tick * self._period
        ahead = [b for c in self._rows if (b := self._next_data(c)) is not None]
        target = min([*ahead, limit])
        if target - self._tick <= self._length or any(c.good_until(self._hold) >= now for c in self._rows):
            return False
        self.counters.gaps += 1
        self._tick, self._filled = target, 0
        return True

    def _next_data(self, channel: Channel) -> int | None:
        assert self._origin is not None
        if channel.waveform:
            return channel.blocks[0][0] if channel.blocks else None
        return math.ceil((channel.pending[0][0] - self._origin) / self._period) if channel.pending else None

    def _fill(self, count: int) -> None:
        """Write the next `count` ticks of every channel."""
        if self._at + count > self._buffer.shape[1]:
            keep = min(self._at, self._length - 1)
            self._buffer[:, :keep] = self._buffer[:, self._at - keep : self._at].copy()
            self._at = keep
        assert self._origin is not None
        start = self._origin + self._tick * self._period
        for row, channel in enumerate(self._rows):
            out = self._buffer[row, self._at : self._at + count]
            if channel.waveform:
                channel.copy_blocks(out, self._tick)
            else:
                channel.hold_values(out, start, self._period, self._hold)
        for label in self._labels:
            self._follow_label(label, start, count)
        self._at += count
        self._tick += count
        self._filled += count

    def _follow_label(self, label: Channel, start: float, count: int) -> None:
        """Advance the label tick by tick, counting for how many it has been the same."""
        for i in range(count):
            if label.take_until(start + i * self._period):
                self._label_run = 0
            self._label_run += 1

    def _window(self, received_ns: int) -> Window:
        assert self._origin is not None
        values = self._buffer[:, self._at - self._length : self._at].copy()
        self.counters.windows += 1
        end = round(self._origin + (self._tick - 1) * self._period)
        missing = int(np.count_nonzero(np.isnan(values))) / values.size
        return Window(self._asset, end, values, missing, self._label(), received_ns)

    def _label(self) -> float | str | tuple[float, ...] | None:
        """What is known of the newest window; of several values each may be NaN."""
        if len(self._labels) > 1:
            return tuple(c.value if isinstance(c.value, float) else math.nan for c in self._labels)
        if self._labels and (self._measured or self._label_run >= self._length) and known(self._labels[0].value):
            return self._labels[0].value
        return None

    def _restart(self, now: int, source: str) -> None:
        """The clock was set to `now`: forget the grid, but keep the values; most tags will not change because of it."""
        self.counters.clock_jumps += 1
        self._jump, self._old_alive = Jump(source, self._newest(source), now), None
        self._origin = None
        self._tick = self._filled = self._at = self._label_run = 0
        for channel in self._all:
            channel.restart(now)
        if source in self._alive:
            for channel in self._by_source[source]:
                channel.alive = now


def _values_of(tag: TagConfig) -> str:
    """What a channel's values are, in words."""
    if tag.waveform_hz is None:
        return "numbers"
    return "arrays of numbers" if tag.index is None else "tables of numbers"
