# SPDX-License-Identifier: Apache-2.0
"""What a reading is worth to an asset: its value, or NaN where there is none. All of it is counted. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from fedge_models.system.floats import wide

from ..types import Quality, Reading, Values
from .channel import LARGEST, Channel, known, unnoted


@dataclass
class Counters:
    """What happened to readings, for `status`."""

    readings: int = 0
    bad: int = 0  # bad quality
    uncertain: int = 0  # used
    not_finite: int = 0  # NaN, Inf, a number that no quantity has (`LARGEST`), or no number
    out_of_range: int = 0  # outside of the channel's `range`: no value
    late: int = 0  # older than what was already used, or than the last tick that was filled
    times_implausible: int = 0  # times that fit none of those around them: not used, or taken as of now
    gaps: int = 0  # longer than a window: a new grid began
    clock_jumps: int = 0
    windows: int = 0


class Intake:
    """Reads values. `received`: when the batch at hand came, monotonic s."""

    def __init__(self, read_label: Callable[[float | str], None] = unnoted) -> None:
        """read_label: called with each label, used or not."""
        self.counters, self.received, self._read_label = Counters(), 0.0, read_label

    def ranged(self, channel: Channel, reading: Reading) -> Reading:
        """Count a reading, and make one outside of its channel's range a bad one."""
        self.counters.readings += 1
        if reading.quality is Quality.UNCERTAIN:
            self.counters.uncertain += 1
        if channel.range is None or not isinstance(reading.value, (int, float)) or channel.holds(reading.value):
            if channel.label and known(label := plain(channel, reading)):
                self._read_label(label)
            return reading
        self._count_outside(channel, 1)
        channel.facts.note_outside(reading.value)
        return reading._replace(value=math.nan, quality=Quality.BAD)

    def scalar(self, channel: Channel, reading: Reading) -> float | str:
        """The value of a reading that is used."""
        value = plain(channel, reading)
        if channel.label and reading.quality is not Quality.BAD:
            return value
        usable = not isinstance(value, str) and not math.isnan(value)
        channel.facts.take(reading, usable, self.received)
        if reading.quality is Quality.BAD:
            self.counters.bad += 1
        elif not usable:
            self.counters.not_finite += 1
        return value

    def block(self, channel: Channel, reading: Reading) -> Values | None:
        """The samples of a waveform's reading that is used, NaN where one has no value; None: it has none at all."""
        block = reading.value
        usable = isinstance(block, np.ndarray) and block.ndim == (1 if channel.index is None else 2)
        channel.facts.take(reading, usable, self.received)
        if reading.quality is Quality.BAD:
            self.counters.bad += 1
            return None
        if not isinstance(block, np.ndarray) or not usable:
            self.counters.not_finite += 1
            return None
        if channel.index is not None:
            block = block[channel.index]
        samples = wide(block)
        finite = np.abs(samples) <= LARGEST
        if not finite.all():
            self.counters.not_finite += int((~finite).sum())
            samples = np.where(finite, samples, samples.dtype.type(np.nan))
        if channel.range is not None:
            outside = (samples < channel.range[0]) | (samples > channel.range[1])
            if outside.any():
                self._count_outside(channel, int(outside.sum()))
                samples = np.where(outside, samples.dtype.type(np.nan), samples)
        return samples

    def late(self, channel: Channel) -> None:
        """Count a reading that comes too late to be used."""
        self.counters.late += 1
        channel.facts.take_late(self.received)

    def behind(self, channel: Channel, reading: Reading, behind_ns: int) -> None:
        """Note a reading that is so far behind the other channels that no window has it."""
        channel.facts.take_behind(reading, behind_ns, self.received)

    def doubted(self, channel: Channel, reading: Reading) -> None:
        """Note a reading that waits, because its time does not fit those before it."""
        channel.facts.note_doubt(reading, self.received)

    def implausible(self, channel: Channel, reading: Reading) -> None:
        """Count a reading whose time fits none of those around it."""
        self.counters.times_implausible += 1
        channel.facts.note_implausible(reading.time_ns, channel.newest)

    def _count_outside(self, channel: Channel, count: int) -> None:
        channel.outside += count
        self.counters.out_of_range += count


def plain(channel: Channel, reading: Reading) -> float | str:
    """The value of a scalar reading; NaN: it has none."""
    value = reading.value
    if reading.quality is Quality.BAD:
        return math.nan
    if channel.label:
        return value if isinstance(value, (str, float)) else math.nan
    return float(value) if isinstance(value, (int, float)) and abs(value) <= LARGEST else math.nan
