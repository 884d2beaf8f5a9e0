# SPDX-License-Identifier: Apache-2.0
"""What a machine was making: the values of its context tags (job, product, recipe, part) at a window's end. Pure.

A value holds until its tag changes, however long that takes; bad quality makes it unknown (""). It never delays a
window: a value that arrives after the window was decided on counts from the next window.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

from ..config.schema import TagConfig
from ..types import Batch, Quality, Reading

MAX_CHARACTERS = 128  # of a value; a longer one is unknown, and counted: two that differ at the end are not one
EXACT = 2**53  # whole numbers below are exact in a float
MAX_PENDING = 4096  # values beyond the newest window


class Change(NamedTuple):
    """From `time_ns` on, `name` is `text`."""

    time_ns: int
    name: str
    text: str


class Context:
    """The context of one asset."""

    def __init__(self, tags: Mapping[str, TagConfig]) -> None:
        self.refused = 0  # values that are no text or number of a sensible length
        self._names: dict[str, dict[str, list[str]]] = {}  # source -> tag -> names
        for name, tag in tags.items():
            self._names.setdefault(tag.source, {}).setdefault(tag.tag, []).append(name)
        self._pending: deque[Change] = deque(maxlen=MAX_PENDING)  # by time
        self._now = dict.fromkeys(tags, "")

    @property
    def last(self) -> dict[str, str]:
        """The context of the newest window that was asked for. Do not change it."""
        return self._now

    def resume(self, last: Mapping[str, str]) -> None:
        """Begin with the context that was last known before a restart."""
        self._now = {name: last.get(name, "") for name in self._now}

    def take(self, batch: Batch) -> None:
        """Add the values of a batch."""
        names = self._names.get(batch.source)
        if names is None:
            return
        for reading in batch.readings:
            for name in names.get(reading.tag, ()):
                self._put(Change(reading.time_ns, name, self._text(reading)))

    def at(self, end_ns: int) -> dict[str, str]:
        """The context at a window's end; windows are asked for in the order of time. Do not change it."""
        pending = self._pending
        if pending and pending[0].time_ns <= end_ns:
            self._now = dict(self._now)  # decisions keep the one before
            while pending and pending[0].time_ns <= end_ns:
                change = pending.popleft()
                self._now[change.name] = change.text
        return self._now

    def _put(self, change: Change) -> None:
        """In its place by time: tags of one asset may come from several sources."""
        later = []
        while self._pending and self._pending[-1].time_ns > change.time_ns:
            later.append(self._pending.pop())
        self._pending.append(change)
        self._pending.extend(c for c in reversed(later) if c.name != change.name)

    def _text(self, reading: Reading) -> str:
        if reading.quality is Quality.BAD:
            return ""
        text = plain(reading.value)
        self.refused += text is None
        return text or ""


def plain(value: object) -> str | None:
    """A value as text: whole numbers without a point (a job may be one), spaces trimmed; None for anything else, text
    of more than `MAX_CHARACTERS`, and text with characters that are not printed."""
    if isinstance(value, (int, float)):
        if not math.isfinite(value):
            return None
        return str(int(value)) if abs(value) < EXACT and float(value).is_integer() else repr(float(value))
    if not isinstance(value, str):
        return None
    text = value.strip()
    return text if len(text) <= MAX_CHARACTERS and text.isprintable() else None
