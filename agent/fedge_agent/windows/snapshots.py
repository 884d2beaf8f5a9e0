# SPDX-License-Identifier: Apache-2.0
"""From pictures to windows of one picture each, with the label of its time. Pure, as `assembler`.

Each picture is decided on when it comes; only one whose time does not fit waits a moment (`picture_clock`). Its sample
waits until the label is known for the picture's time (a newer value, or a sign that it has not changed), for `lateness`
of source time at most: it must not get the label of the part before. A picture without a time of its own gets no label.
Readings that are no pictures are counted.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from fedge_models.errors import PictureError
from fedge_models.graph.card import ImageSpec
from numpy.typing import NDArray

from ..config.schema import TagConfig
from ..types import Batch, Quality, Reading, Window
from .channel import NEVER_NS, holds, known, unnoted
from .facts import ChannelFacts
from .picture_clock import PictureClock
from .pictures import prepare

MAX_WAITING = 64  # pictures whose label is not known yet; beyond it the oldest gets none
MAX_VALUES = 256  # stored values of a label


@dataclass
class Counters:
    """What happened to readings, for `status`."""

    readings: int = 0
    bad: int = 0  # bad quality: the source had no picture
    not_pictures: int = 0  # a number, a text, or an array of another kind
    out_of_range: int = 0  # of labels: outside of `range`
    times_implausible: int = 0  # times of pictures that fit none of those around them: decided on as of now
    clock_jumps: int = 0
    windows: int = 0


class Snapshots:
    """The pictures of one asset."""

    def __init__(
        self,
        asset: str,
        picture: TagConfig,
        labels: Sequence[TagConfig],
        spec: ImageSpec,
        lateness_s: float,
        channel: str = "picture",
        read_label: Callable[[float | str], None] = unnoted,
    ) -> None:
        """read_label: called with each label that a tag gives."""
        self._asset, self._picture, self._spec = asset, picture, spec
        self._facts = ChannelFacts(channel, picture.source, picture.tag, "pictures")
        self._labels = [(tag, _LabelHistory(read_label)) for tag in labels]
        self._lateness = round(lateness_s * 1e9)
        self._alive, self._outside = NEVER_NS, dict[str, int]()
        self._clock = PictureClock(self._facts)
        self._waiting: deque[tuple[Window, bool]] = deque()  # and whether it has a time of its own
        self.counters = Counters()

    def push(self, batch: Batch) -> list[Window]:
        """Take a batch in; its pictures, without labels."""
        for tag, label in self._labels:
            if tag.source == batch.source:
                self._take_label(label, batch, tag)
        if batch.alive_ns is not None:
            self._alive = batch.alive_ns
        if batch.source != self._picture.source:
            return []
        taken = [self._window(r, batch.received_ns) for r in batch.readings if r.tag == self._picture.tag]
        return self._give([given for window in taken if window is not None for given in self._clock.take(window)])

    def overdue(self, now: int, all_of_them: bool = False) -> list[Window]:
        """The pictures whose time does not fit, once they waited long enough; now: monotonic ns."""
        return self._give(self._clock.overdue(now, all_of_them))

    def _give(self, given: list[tuple[Window, bool]]) -> list[Window]:
        self.counters.times_implausible, self.counters.clock_jumps = self._clock.implausible, self._clock.jumps
        self._waiting.extend(given)
        return [window for window, _ in given]

    def out_of_range(self) -> dict[str, int]:
        """Values outside of `range`, by label; only of those that had some."""
        return dict(self._outside)

    def implausible_times(self) -> dict[str, tuple[int, int, int]]:
        """Pictures whose time fits none of those around it: how many, the last one's time, and how far that was ahead
        of the others, ns."""
        return {self._facts.name: self._facts.implausible_times} if self._facts.implausible else {}

    def _take_label(self, label: _LabelHistory, batch: Batch, tag: TagConfig) -> None:
        outside = label.take(batch, tag)
        if outside:
            name = f"label {tag.tag}"
            self._outside[name] = self._outside.get(name, 0) + outside
            self.counters.out_of_range += outside

    def labelled(self) -> list[Window]:
        """Pictures pushed before whose label is known by now, or no longer waited for."""
        done = []
        while self._waiting and (len(self._waiting) > MAX_WAITING or self._is_due(*self._waiting[0])):
            window, own = self._waiting.popleft()
            done.append(window._replace(label=self._label(window.end_ns)) if own else window)
        return done

    def facts(self) -> list[ChannelFacts]:
        """What became of the pictures."""
        return [self._facts]

    def _window(self, reading: Reading, received_ns: int) -> Window | None:
        self.counters.readings += 1
        bad = reading.quality is Quality.BAD
        self.counters.bad += bad
        values = None if bad else self._prepared(reading)
        self._facts.take(reading, values is not None, received_ns / 1e9)
        if values is None:
            return None
        self.counters.windows += 1
        return Window(self._asset, reading.time_ns, values, 0.0, None, received_ns)

    def _prepared(self, reading: Reading) -> NDArray[Any] | None:
        try:
            if not isinstance(reading.value, np.ndarray):
                raise PictureError("no array")
            return prepare(reading.value, self._spec)
        except PictureError:
            self.counters.not_pictures += 1
            return None

    def _is_due(self, window: Window, own: bool) -> bool:
        known = [label.known for _, label in self._labels]
        newest, time = max([self._clock.newest, self._alive, *known]), window.end_ns
        return not own or newest - self._lateness >= time or all(k >= time for k in known)

    def _label(self, time_ns: int) -> float | str | tuple[float, ...] | None:
        values = [label.at(time_ns) for _, label in self._labels]
        if len(values) > 1:
            return tuple(v if isinstance(v, float) else math.nan for v in values)
        return None if not values or values[0] != values[0] else values[0]


class _LabelHistory:
    """The values of one label, and until when they are known."""

    def __init__(self, read: Callable[[float | str], None]) -> None:
        self._read = read
        self._times: list[int] = []
        self._values: list[float | str] = []
        self.known = NEVER_NS

    def take(self, batch: Batch, tag: TagConfig) -> int:
        """The label's readings of a batch; how many of them lay outside of its range."""
        outside = 0
        if batch.fresh and self.known > NEVER_NS:
            self._note(self.known + 1, math.nan)  # nothing is known beyond the connection's end
        for reading in batch.readings:
            if reading.tag == tag.tag:
                good = reading.quality is not Quality.BAD and isinstance(reading.value, (int, float, str))
                if good and not isinstance(reading.value, str) and not holds(tag.range, reading.value):  # type: ignore[arg-type]
                    good, outside = False, outside + 1
                value: float | str = reading.value if good else math.nan  # type: ignore[assignment]
                if known(value):
                    self._read(value)
                self._note(reading.time_ns, value)
        if batch.alive_ns is not None and self._times:
            self.known = max(self.known, batch.alive_ns)
        return outside

    def at(self, time_ns: int) -> float | str:
        """The value at a time; NaN: unknown."""
        i = bisect_right(self._times, time_ns)
        return self._values[i - 1] if i and time_ns <= self.known else math.nan

    def _note(self, time_ns: int, value: float | str) -> None:
        if self._times and time_ns < self._times[-1]:  # the clock was set back
            self._times.clear()
            self._values.clear()
        self._times.append(time_ns)
        self._values.append(value)
        del self._times[:-MAX_VALUES], self._values[:-MAX_VALUES]
        self.known = time_ns
