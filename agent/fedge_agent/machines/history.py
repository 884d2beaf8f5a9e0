# SPDX-License-Identifier: Apache-2.0
"""Decide on what a source kept and sends afterwards, such as Sparkplug's historical values.

What was decided live meanwhile, on values that seemed unchanged, cannot be taken back. So a history is judged as a
stretch of its own: own windows, own context, own outlook, an own alert. The live windows learn one thing of it: the
newest value of a tag that was not heard of since. A batch does not wait for it: each time only some readings are used.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from ..config.schema import AssetConfig, ModelConfig
from ..learning.serving import Serving
from ..samples.closings import Closing
from ..types import Batch, Decision, Reading, Window
from ..windows.context import Context
from .asset_samples import AssetSamples
from .asset_windows import AssetWindows
from .decider import Decider
from .history_events import HistoryEvents
from .history_readings import Group, HistoryReadings
from .history_windows import HistoryWindows

PIECE = 500  # readings that are used at once

Newest = dict[tuple[str, str], Reading]  # (source, tag) -> the newest of a history


class History:
    """The histories of one asset; `begin` once its model is known. `now` is monotonic s."""

    def __init__(
        self,
        name: str,
        config: AssetConfig,
        model: ModelConfig,
        events: HistoryEvents,
        samples: AssetSamples,
        note: Callable[[float], None],
        closings: Callable[[], Sequence[Closing]] = tuple,
    ) -> None:
        """note: called with the latency of each decision; closings: see `Decider`."""
        self._closings = closings
        self._name, self._config, self._model, self._events, self._samples = name, config, model, events, samples
        self._note = note
        self._readings = HistoryReadings()
        self._windows: HistoryWindows | None = None
        self._decider: Decider | None = None
        self._context: Context | None = None
        self._newest: Newest = {}
        self._stretch = False  # some of it was given out
        self.made = self.gappy = self.undefined = self.undecided = self.unused = 0

    def take(self, batch: Batch, context: Batch | None, live: AssetWindows, now: float) -> None:
        """Take readings of a history."""
        if self._windows is None and not self._begin(live):
            self.unused += len(batch.readings)  # pictures: no source sends histories of them
            return
        if context is not None and self._context is not None:
            self._context.take(context)
        self._readings.take(batch.source, batch.readings, now)

    def work(self, live: AssetWindows, serving: Serving | None, now: float, all_of_it: bool = False) -> list[Window]:
        """Decide on some of it, if it is complete; windows of the live readings, as its end may complete some."""
        readings, windows = self._readings, self._windows
        if windows is None or not (readings or self._stretch):
            return []
        if readings and (all_of_it or readings.is_due(now)):
            for group in readings.groups(1 << 60 if all_of_it else PIECE):
                self._stretch = True
                self._keep(group)
                for window in windows.push(group):
                    self._decide(window, serving)
        if self._stretch and (readings.is_quiet(now) or (all_of_it and not readings)):
            return self._finish(windows, live, serving)
        return []

    @property
    def events(self) -> int:
        """How many events were raised."""
        return self._events.opened

    def counters(self, live: dict[str, Any]) -> dict[str, Any]:
        """The counts of the live readings, with those of histories."""
        if self._windows is None:
            return {**live, "history": self.made, "history_unused": self.unused}
        own = self._windows.counters()
        both = {kind: n + own.get(kind, 0) for kind, n in live.items()}
        return {**both, "history": self.made, "history_unused": self.unused}

    def _begin(self, live: AssetWindows) -> bool:
        card, assembler = live.card, live.assembler
        if card is None or assembler is None:
            return False
        self._windows = HistoryWindows(lambda: live.assembler_of(card), assembler, live.pace.hold_s)
        self._decider = Decider(self._name, self._config, self._model, self._closings)
        self._decider.begin(card, live.pace)
        self._context = Context(self._config.context) if self._config.context else None
        return True

    def _decide(self, window: Window, serving: Serving | None) -> None:
        assert self._decider is not None
        self.made += 1
        actual = self._samples.target(window)
        if window.missing > self._config.window.max_missing:
            self.gappy += 1
            return
        window = window._replace(received_ns=time.monotonic_ns())
        features = self._decider.features(window)
        if features is None:
            self.undefined += 1
            return
        context = self._context.at(window.end_ns) if self._context is not None else {}
        if serving is None:
            self.undecided += 1
        else:
            decision: Decision = self._decider.decide(serving, window, features, context)
            self._note(decision.latency_s)
            self._events.take(self._name, decision, window)
        self._samples.put(window, features, actual, context.get("part", ""))

    def _keep(self, group: Group) -> None:
        for reading in group[2]:
            self._newest[group[1], reading.tag] = reading

    def _finish(self, windows: HistoryWindows, live: AssetWindows, serving: Serving | None) -> list[Window]:
        """End the stretch: what is left of its windows, its alert; what it says of now."""
        for window in windows.finish():
            self._decide(window, serving)
        self._events.finish(self._name)
        newest, self._newest, self._stretch = self._newest, {}, False
        return live.catch_up([(source, reading) for (source, _), reading in newest.items()])
