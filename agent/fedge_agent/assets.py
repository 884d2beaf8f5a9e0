"""One machine in the main thread: its windows, their features, the decision, the alert, the sample."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from fedge_models.card import Card, Target
from fedge_models.errors import ModelError

from .alerts import Alert, AlertState
from .config import AssetConfig
from .context import Context
from .features import Preparation, bridge, feature_count
from .health import Latency
from .meaning import meaning
from .participant import Participant
from .samples import Sample, SampleStore, Split, split
from .types import Batch, Decision, Event, Window
from .windows import Assembler

Label = float | tuple[float, ...] | None

KEPT_DECISIONS = 4096  # for the status page
NO_CONTEXT: dict[str, str] = {}


class Asset:
    """A machine. Built before its model is known; `begin` is called with the card when it is."""

    def __init__(
        self,
        gateway: str,
        name: str,
        config: AssetConfig,
        participant: Participant,
        samples: SampleStore,
        latency: Latency,
        state: AlertState,
        raise_event: Callable[[Event, AlertState], None],
    ) -> None:
        self.name, self.config, self.participant = name, config, participant
        self._samples, self._latency, self._raise = samples, latency, raise_event
        self._alert = Alert(gateway, name, config.when, state)
        self._assembler: Assembler | None = None
        self._card: Card | None = None
        self._prepare: Preparation | None = None
        self._split = Split(1, 1 << 60)
        self._period_ns = 0.0
        late = config.label is not None and config.label.late is not None
        self._all_kept = late or not config.taught  # windows without a label too
        self._context = Context(config.context) if config.context else None
        self._events = self._gappy = self._unknown_labels = 0
        self.decisions: deque[tuple[Decision, Label]] = deque(maxlen=KEPT_DECISIONS)

    def push(self, batch: Batch) -> None:
        """Take readings in and decide on every window they complete."""
        if self._context is not None:
            self._context.take(batch)
        if self._assembler is None and not self._begin():
            return
        assert self._assembler is not None
        for window in self._assembler.push(batch):
            self.decide(window)

    def decide(self, window: Window) -> None:
        """What the model says of a window, what follows from it, and the sample that is kept of it."""
        if window.missing > self.config.window.max_missing:
            self._gappy += 1
            return
        assert self._card is not None and self._prepare is not None
        features = self._prepare(bridge(window.values) if window.missing else window.values)
        actual = self._actual(window.label)
        context = self._context.at(window.end_ns) if self._context is not None else NO_CONTEXT
        serving = self.participant.serving
        if serving is not None:
            said = serving.decide(features)
            latency = (time.monotonic_ns() - window.received_ns) / 1e9
            decision = Decision(
                asset=self.name,
                model=self.config.model,
                release=serving.release,
                time_ns=window.end_ns,
                score=said.score,
                threshold=serving.threshold,
                label=said.label,
                missing=window.missing,
                latency_s=latency,
                channel=said.channel,
                values=said.values,
                context=context,
            )
            self._latency.record(latency)
            self.decisions.append((decision, actual))
            self._follow(decision)
        span = round(self._period_ns)
        held = self._split.held(window.end_ns - span, window.end_ns)
        if held is not None and (actual is not None or self._all_kept):
            end, part = window.end_ns, context.get("part", "")
            self._samples.put(Sample(self.config.model, self.name, end, features, actual, held, span, part))

    def status(self) -> dict[str, Any]:
        """For the status page."""
        last = self.decisions[-1][0] if self.decisions else None
        counters = self._assembler.counters if self._assembler else None
        return {
            "model": self.config.model,
            "last": msgspec.structs.asdict(last) if last else None,
            "alert": msgspec.structs.asdict(self._alert.state),
            "events": self._events,
            "windows_with_gaps": self._gappy,
            "unknown_labels": self._unknown_labels,
            "unknown_contexts": self._context.refused if self._context else 0,
            "counters": dict(vars(counters)) if counters else {"windows": 0, "gaps": 0},
        }

    def recent(self) -> Iterator[dict[str, Any]]:
        """The decisions of late, oldest first, with what the label said."""
        for decision, actual in list(self.decisions):
            yield {
                "time_ns": decision.time_ns,
                "release": decision.release,
                "score": decision.score,
                "threshold": decision.threshold if math.isfinite(decision.threshold) else None,
                "label": decision.label,
                "actual": actual,
                "context": decision.context,
            }

    def _begin(self) -> bool:
        graph = self.participant.graph
        if graph is None:
            return False
        self._card, self._prepare = graph.card, Preparation(graph.card)
        window, config = graph.card.window, self.config.window
        rate = config.rate_hz or window.rate_hz
        length, hop = config.length or window.length, config.hop or window.hop
        channels = {c.name: self.config.channels[c.name] for c in graph.card.channels}
        hold = float(config.max_hold) if config.max_hold is not None else 3 / rate
        late = float(config.lateness) if config.lateness is not None else 2 / rate
        measured = graph.card.task == "regress"
        label = self.config.label
        labels = [label] if label and label.source else [self.config.targets[t.name] for t in self._targets()]
        self._assembler = Assembler(self.name, channels, labels, rate, length, hop, hold, late, measured)
        self._split = split(rate, length, hop, self.participant.config.training.holdout)
        self._period_ns = 1e9 / rate * length
        return True

    def _follow(self, decision: Decision) -> None:
        made = self._alert.update(decision, time.time())
        if made is not None:
            self._events += made[0].state == "opened"
            self._raise(*made)

    def _targets(self) -> tuple[Target, ...]:
        assert self._card is not None
        return self._card.targets if self.config.targets else ()

    def _actual(self, value: float | str | tuple[float, ...] | None) -> Label:
        """What a sample is taught with; None: unknown."""
        assert self._card is not None
        if isinstance(value, tuple):
            return value if all(map(math.isfinite, value)) else None
        if value is None:
            return None
        assert self.config.label is not None
        taught = meaning(value, self._card, self.config.label.map)
        self._unknown_labels += taught is None
        return taught


def check_fit(name: str, config: AssetConfig, card: Card, input_shape: tuple[int, ...]) -> None:
    """Raise ModelError unless the asset's channels and window give the input that the graph expects."""
    wanted, given = [c.name for c in card.channels], sorted(config.channels)
    missing = [c for c in wanted if c not in config.channels]
    if missing or len(wanted) != len(given):
        raise ModelError(f"asset {name}: the model expects the channels {wanted}, the configuration has {given}")
    _check_targets(name, config, [t.name for t in card.targets])
    length = config.window.length or card.window.length
    got = (feature_count(card.features, len(wanted)),) if card.features else (len(wanted), length)
    if got != input_shape:
        raise ModelError(f"asset {name}: the model expects inputs of shape {input_shape}, this asset gives {got}")


def _check_targets(name: str, config: AssetConfig, wanted: list[str]) -> None:
    if config.targets and sorted(config.targets) != sorted(wanted):
        raise ModelError(f"asset {name}: the model gives the targets {wanted}, the configuration {[*config.targets]}")
    if config.label and config.label.source and len(wanted) > 1:
        raise ModelError(f"asset {name}: one label cannot teach the targets {wanted}; give a tag for each as `targets`")
