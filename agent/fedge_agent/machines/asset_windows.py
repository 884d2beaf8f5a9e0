# SPDX-License-Identifier: Apache-2.0
"""The windows of one asset: from its readings, on the grid of its model, resumed after a restart."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from fedge_models.graph.card import Card

from ..config.schema import AssetConfig, TagConfig
from ..samples.withholding import FOREVER_NS
from ..types import Batch, Reading, Window
from ..windows.assembler import Assembler
from ..windows.channel import NEVER_NS, unnoted
from ..windows.facts import ChannelFacts
from ..windows.snapshots import Snapshots
from .pace import UNKNOWN, Pace


class AssetWindows:
    """The windows of asset `name`; none before its model is known (`begin`)."""

    def __init__(self, name: str, config: AssetConfig, read_label: Callable[[float | str], None] = unnoted) -> None:
        """read_label: called with each label that a tag gives."""
        self.pace = UNKNOWN
        self._read_label = read_label
        self.card: Card | None = None
        self._name, self._config = name, config
        self._assembler: Assembler | Snapshots | None = None
        self._unread = [ChannelFacts(n, t.source, t.tag) for n, t in config.channels.items()]
        self._early: dict[str, dict[str, Reading]] = {}  # source -> tag -> its last reading before there was a model
        self._unseen = 0  # readings that came before there was a model
        self._is_live = False  # no replay is going on
        self._start_ns: int | float | None = None  # of the first window after a restart

    def begin(self, card: Card, pace: Pace) -> None:
        """Make windows for this model from now on."""
        self.pace = pace
        self.card = card
        if card.image is not None:
            channel, picture = next(iter(self._channels(card).items()))
            labels, read = self._labels(card), self._read_label
            self._assembler = Snapshots(self._name, picture, labels, card.image, pace.late_s, channel, read)
            return
        self._assembler = assembler = self.assembler_of(card)
        if self._start_ns is not None:
            assembler.resume(self._start_ns)
            if self._is_live:
                assembler.end_replay()

    @property
    def assembler(self) -> Assembler | None:
        """What makes the windows; None: nothing does yet, or they are pictures."""
        return self._assembler if isinstance(self._assembler, Assembler) else None

    def assembler_of(self, card: Card) -> Assembler:
        """An assembler of the asset's windows that has no reading yet."""
        pace, channels, labels = self.pace, self._channels(card), self._labels(card)
        how = pace.rate_hz, pace.length, pace.hop, pace.hold_s, pace.late_s
        return Assembler(self._name, channels, labels, *how, card.task == "regress", self._read_label)

    def hold(self, batch: Batch) -> None:
        """Hold the last reading of each tag until there is a model: OPC UA will not send an unchanged value again."""
        self._unseen += len(batch.readings)
        if batch.history:
            return
        known = self._early.setdefault(batch.source, {})
        if batch.fresh:
            known.clear()
        known.update((r.tag, r) for r in batch.readings if not isinstance(r.value, np.ndarray))

    def push(self, batch: Batch) -> list[Window]:
        """Take readings in; the windows that they complete."""
        assert self._assembler is not None
        early = self._early.pop(batch.source, None)
        if early and not batch.fresh:
            batch = batch._replace(readings=[*early.values(), *batch.readings])
        return self._assembler.push(batch)

    def catch_up(self, newest: Iterable[tuple[str, Reading]]) -> list[Window]:
        """Learn what a history ended with: a tag that was not heard of since has this value now. The windows that this
        completes."""
        assembler, windows = self.assembler, list[Window]()
        for source, reading in newest:
            state = assembler.state(source, reading.tag) if assembler is not None else None
            if assembler is None or state is None or state.now_ns is None:
                continue
            if state.since_ns < reading.time_ns <= state.now_ns:
                now = reading._replace(time_ns=state.now_ns)
                windows += assembler.push(Batch(source, [now], state.now_ns, time.monotonic_ns()))
        return windows

    def labelled(self) -> list[Window]:
        """Pictures pushed before whose label is known by now, or no longer waited for."""
        return self._assembler.labelled() if isinstance(self._assembler, Snapshots) else []

    def overdue(self, now: float, all_of_them: bool) -> list[Window]:
        """Pictures that waited for the next ones because of their times, long enough; now: monotonic s."""
        if not isinstance(self._assembler, Snapshots):
            return []
        return self._assembler.overdue(round(now * 1e9), all_of_them)

    # a restart

    def next_start(self) -> int | None:
        """Source time (ns) at which the next window begins; None: not known, or it is a picture."""
        return self._assembler.next_start() if isinstance(self._assembler, Assembler) else None

    def needed_ns(self) -> int:
        """Readings before this source time are needed by no coming window."""
        if not isinstance(self._assembler, Assembler):  # no model yet; a picture is decided on when it comes
            return FOREVER_NS
        start, doubt = self._assembler.next_start(), self._assembler.oldest_doubt()
        if start is None:
            return NEVER_NS
        needed = math.floor(start - 1e9 * self.pace.hold_s)
        return needed if doubt is None else min(needed, doubt)  # a clock that is set back begins with those

    def resume(self, start_ns: int | float | None) -> None:
        """Have the first window begin at this source time; a replay follows, until `live`."""
        self._start_ns = start_ns

    def live(self) -> None:
        """End the replay: what follows is new."""
        self._is_live = True
        if isinstance(self._assembler, Assembler):
            self._assembler.end_replay()

    # what is known of them

    def facts(self) -> Sequence[ChannelFacts]:
        """What became of the readings of each channel."""
        return self._unread if self._assembler is None else self._assembler.facts()

    def filled(self) -> tuple[int, int] | None:
        """Samples of the first window that are there, of how many; None where there is no such thing."""
        return self._assembler.filled() if isinstance(self._assembler, Assembler) else None

    def holes(self) -> tuple[int, float]:
        """How many holes ended a window before it was full, since one was; and how long they usually are, s."""
        return self._assembler.holes() if isinstance(self._assembler, Assembler) else (0, 0.0)

    def counters(self) -> dict[str, Any]:
        """What happened to readings, for `status`."""
        counted = vars(self._assembler.counters) if self._assembler else {"windows": 0, "gaps": 0}
        return {**counted, "before_model": self._unseen}

    def out_of_range(self) -> dict[str, int]:
        """Values outside of `range`, by channel; only of those that had some."""
        return self._assembler.out_of_range() if self._assembler else {}

    def implausible_times(self) -> dict[str, tuple[int, int, int]]:
        """Readings whose time fits none of those around it, by channel: how many, the last one's time, and how far
        that was ahead of the others, ns."""
        return self._assembler.implausible_times() if self._assembler else {}

    def _channels(self, card: Card) -> dict[str, TagConfig]:
        """Tags of the model's channels in its order; the speed of the shaft follows as one more row."""
        channels = {c.name: self._config.channels[c.name] for c in card.channels}
        if self._config.shaft_rpm is not None:
            channels["shaft_rpm"] = self._config.shaft_rpm
        return channels

    def _labels(self, card: Card) -> list[TagConfig]:
        label = self._config.label
        if label and label.source:
            return [label]
        return [self._config.targets[name] for name in card.measured] if self._config.targets else []
