# SPDX-License-Identifier: Apache-2.0
"""Turn metrics of one device, or of an edge node itself, into readings, as its last birth declared them. Pure.

Promises: an alias means what the last birth declared, never an earlier one. The readings of a tag advance in time
unless the clock is set back; historical values are marked, and are not among these. A value that a death or birth made
unknown becomes a reading of quality BAD, and later readings are newer. Metrics that cannot be used are counted under a
plain name and reported at the tag that wants them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeGuard

from fedge_models.errors import WireError
from fedge_models.system import times
from fedge_models.system.choices import near_names

from ...types import Quality, Reading
from . import values
from .codec import Metric, read_metric
from .counts import Counts
from .message_clock import MessageClock

NAMES_LOOKED_AT = 2000  # of a birth, for one that is near a missing one
MS = 1_000_000  # ns
QUALITIES = {0: Quality.BAD, 192: Quality.GOOD, 500: Quality.BAD}  # 6.4.11: bad, good, stale


class Sent(NamedTuple):
    """When a message was sent, in ms since 1970."""

    stamp_ms: int | None  # as it says itself
    time_ms: int  # by the node's clock as far as it is known


def usable(stamp_ms: int | None) -> TypeGuard[int]:
    """Whether a time stamp can be one."""
    return stamp_ms is not None and stamp_ms > 0 and times.is_sensible(stamp_ms * MS)


class Historical(Reading):
    """A value that the node kept while it could not send it; what is known of its tag now does not change by it."""

    __slots__ = ()


class Metrics:
    """The declared metrics. `wanted`: metric -> tag; clock: that of the node's messages."""

    def __init__(self, wanted: Mapping[str, str], counts: Counts, clock: MessageClock) -> None:
        self.online = False
        self._wanted, self._counts, self._clock = dict(wanted), counts, clock
        self._types: dict[str, int] = {}
        self._aliases: dict[int, str] = {}
        self._newest: dict[str, int] = {}  # tag -> time of its last reading, ns
        self._stale: dict[str, int] = {}  # tag -> since when it is unknown, ns

    def forget(self) -> None:
        """Forget the last birth: what comes now comes before the next one."""
        self.online = False
        self._types.clear()
        self._aliases.clear()

    def forget_aliases(self) -> None:
        """Forget the aliases: a birth may have been lost."""
        self._aliases.clear()

    def birth(self, where: str, metrics: Iterable[bytes], sent: Sent) -> list[Reading]:
        """Read a birth: names, types, aliases, values."""
        self.forget()
        self.online = True
        readings = []
        for metric in self._decoded(metrics):
            if not metric.name or metric.name in self._types:
                self._counts.count("unnamed or named twice in a birth")
                continue
            self._types[metric.name] = metric.datatype
            if metric.alias is not None:
                if metric.alias in self._aliases:
                    self._counts.count("aliases given twice")
                    self._aliases[metric.alias] = ""  # of none of them: better unknown than wrong
                else:
                    self._aliases[metric.alias] = metric.name
            readings += self._reading(metric.name, metric, sent, birth=True)
        return readings + self._missing(where, sent)

    def data(self, metrics: Iterable[bytes], sent: Sent) -> tuple[list[Reading], set[str]]:
        """Read data: the readings, and the names or aliases that no birth declared."""
        readings, unknown = [], set()
        for metric in self._decoded(metrics):
            name = metric.name or self._aliases.get(-1 if metric.alias is None else metric.alias, "")
            if name in self._types:
                readings += self._reading(name, metric, sent, birth=False)
            else:
                self._counts.count("metrics that no birth named")
                unknown.add(metric.name or f"alias {metric.alias}")
        return readings, unknown

    def stale(self, time_ns: int) -> list[Reading]:
        """Mark all tags as unknown from now on (5.4, 5.7)."""
        return [r for tag in self._wanted.values() if tag not in self._stale for r in self._unknown(tag, time_ns)]

    def _decoded(self, metrics: Iterable[bytes]) -> list[Metric]:
        """Metrics that can be decoded."""
        decoded = []
        for data in metrics:
            try:
                decoded.append(read_metric(data))
            except WireError as e:
                self._counts.refuse("malformed metrics", str(e))
        return decoded

    def _reading(self, name: str, metric: Metric, sent: Sent, birth: bool) -> list[Reading]:
        """The reading of a wanted metric, or []. One without a usable time, or with one that is ahead of its message,
        has that of the message."""
        tag, given = self._wanted.get(name), metric.timestamp or sent.stamp_ms
        stamp, timed = (given, True) if usable(given) else (sent.time_ms, False)
        ahead = self._clock.ahead(stamp * MS, sent.time_ms * MS) if timed and sent.time_ms else 0
        if tag is None:
            return []
        stamp = sent.time_ms if ahead else stamp
        historical = metric.historical and not birth
        if not timed:
            self._counts.count("without a time stamp")
            if historical:  # nobody knows when that was
                return []
        if historical:
            self._counts.count("historical")
            return [Historical(*self._valued(tag, stamp * MS, name, metric))]
        newest = self._newest.get(tag, -MS)
        time_ns = max(stamp * MS, self._stale.get(tag, -1) + 1)
        if not birth and 0 <= newest - time_ns < MS:
            time_ns = newest + 1  # another change within the millisecond; a birth repeats the last one
        self._stale.pop(tag, None)
        self._newest[tag] = time_ns
        reading = self._valued(tag, time_ns, name, metric)
        if reading.quality is Quality.BAD:
            return [reading]
        if ahead:
            self._counts.count("times_implausible")
            by = f"{ahead / 1e9:,.0f} s ahead of its message"
            self._counts.state(tag, f"metric {name!r} has a time {by}, which is used instead; set that device's clock")
        elif not timed:
            text = f"metric {name!r} has no usable time stamp: {given}; expected ms since 1970; it is used as of now"
            self._counts.state(tag, text)
        return [reading]

    def _valued(self, tag: str, time_ns: int, name: str, metric: Metric) -> Reading:
        datatype = metric.datatype or self._types[name]
        if metric.null:
            self._counts.count("null")
            return Reading(tag, time_ns, math.nan, Quality.BAD)
        quality = Quality.GOOD if metric.quality is None else QUALITIES.get(metric.quality, Quality.UNCERTAIN)
        try:
            if datatype != self._types[name]:
                raise WireError(f"a {values.name_of(datatype)}; its birth declared {values.name_of(self._types[name])}")
            value = values.read(metric, datatype)
        except WireError as e:
            self._counts.count("not usable")
            self._counts.state(tag, f"metric {name!r} is {e}")
            return Reading(tag, time_ns, math.nan, Quality.BAD)
        self._counts.state(tag, None)
        return Reading(tag, time_ns, value, quality)

    def _missing(self, where: str, sent: Sent) -> list[Reading]:
        """BAD readings of wanted tags that the birth does not declare."""
        readings = []
        for name, tag in self._wanted.items():
            if name not in self._types:
                near = near_names(name, list(self._types)[:NAMES_LOOKED_AT], 3)
                has = f"it has: {', '.join(near)}" if near else f"it has {len(self._types)} metrics, none like it"
                self._counts.state(tag, f"metric {name!r} is not in the birth of {where}; {has}")
                if tag not in self._stale:
                    readings += self._unknown(tag, sent.time_ms * MS)
        return readings

    def _unknown(self, tag: str, time_ns: int) -> list[Reading]:
        """A BAD reading of a tag that was known, or []."""
        newest = self._newest.get(tag)
        if newest is None:
            return []
        self._newest[tag] = self._stale[tag] = max(time_ns, newest + 1)
        return [Reading(tag, self._newest[tag], math.nan, Quality.BAD)]
