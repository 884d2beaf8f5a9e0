# SPDX-License-Identifier: Apache-2.0
"""Decide for one machine in the main thread: windows, features, decision, alert, sample."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec
import numpy as np
from fedge_models.errors import StorageError
from fedge_models.graph.card import Card, Target
from fedge_models.system.structs import known
from numpy.typing import NDArray

from ..config.schema import AssetConfig
from ..federation.participant import Participant
from ..health import Latency
from ..learning.serving import Scored, Serving
from ..samples.event_book import EventBook
from ..samples.label_values import TargetValue, target_value
from ..samples.sample_table import Sample
from ..samples.split import Split, split
from ..samples.store import SampleStore
from ..samples.tag_labels import TagLabels
from ..types import AlertState, Batch, Decision, Event, EventState, Reading, SilenceState, Window
from ..windows.assembler import Assembler
from ..windows.context import Context
from ..windows.facts import ChannelFacts
from ..windows.features import Preparation, bridge
from ..windows.snapshots import MAX_WAITING, Snapshots
from .alerts import Alert
from .condition import Cause, Condition, Reason, Seen, SourceFacts
from .condition_judge import judge, stale_after
from .condition_words import words
from .outlook import Left, Outlook
from .silence import Silence, nothing
from .watch import Watch

logger = logging.getLogger(__name__)

NEVER_NS = -(1 << 62)
FOREVER_NS = 1 << 62
RECENT_DECISIONS = 4096  # for the status page
NO_CONTEXT: dict[str, str] = {}
PICTURE_HOP_S = 20.0  # how far apart pictures are, as long as nothing is known of it


class Glance(NamedTuple):
    """A window, and what the model saw of it."""

    window: Window
    features: NDArray[Any]


@known
class Checkpoint(msgspec.Struct, frozen=True):
    """What an asset resumes from after a restart, besides the readings in the inbox."""

    start_ns: int | float | None  # when its next window begins; a float before it was exact
    alert: AlertState
    context: dict[str, str] = {}  # the last known: its tags may not be sent again
    silence: SilenceState = SilenceState()


class Asset:
    """A machine. It is built before its model is known, and decides once there is one."""

    def __init__(
        self,
        gateway: str,
        name: str,
        config: AssetConfig,
        participant: Participant,
        samples: SampleStore,
        latency: Latency,
        state: AlertState,
        raise_event: Callable[[Event, EventState], None],
        run: str = "",
        silence: SilenceState = SilenceState(),  # noqa: B008  # frozen
        events: EventBook | None = None,
    ) -> None:
        self.name, self.config, self.participant = name, config, participant
        self._samples, self._latency, self._raise = samples, latency, raise_event
        self._alert = Alert(gateway, name, config.when, state, run, config.model)
        self._unread = [ChannelFacts(n, t.source, t.tag) for n, t in config.channels.items()]
        self._silence = Silence(gateway, name, config.when, silence, time.monotonic(), run)
        self._book, self._held = events, ""  # key of the event for which windows are withheld
        self._assembler: Assembler | Snapshots | None = None
        self._card: Card | None = None
        self._prepare: Preparation | None = None
        self._split = Split(1, 1 << 60)
        self._span_ns, self._hold_ns, self._hop_ns = 0, 0.0, 0
        self._covers_ns = 0  # operation since the last sample, towards the baseline
        self._watch, self._hop_s, self._wait_s = Watch(time.monotonic()), 0.0, 0.0
        late = config.label is not None and config.label.late is not None
        self._store_all = late or not config.labelled  # windows without a label too
        self._context = Context(config.context) if config.context else None
        self._parts: dict[int, str] = {}  # of the pictures that wait for their label
        self._outlook: Outlook | None = None
        self._seen: Serving | None = None  # whose estimates the outlook is drawn from
        self._events = self._gappy = self._undecided = 0
        self._tag_labels = TagLabels()
        self._early: dict[str, dict[str, Reading]] = {}  # source -> tag -> its last reading before there was a model
        self._is_live = False  # no replay is going on
        self._start_ns: int | float | None = None  # of the first window after a restart
        self._alerted_ns = self._sampled_ns = NEVER_NS  # replay: newest window that was alerted on and sampled
        self.newest: Glance | None = None  # for who looks at one window
        self.decisions: deque[tuple[Decision, TargetValue]] = deque(maxlen=RECENT_DECISIONS)

    def checkpoint(self) -> bytes:
        """What to resume from, as of now."""
        start = self._assembler.next_start() if isinstance(self._assembler, Assembler) else None
        time_ns = self.decisions[-1][0].time_ns if self.decisions else self._alert.state.time_ns
        context = self._context.last if self._context is not None else NO_CONTEXT
        silence = self._silence.at(time.monotonic())
        return msgspec.json.encode(Checkpoint(start, self._alert.at(time_ns), context, silence))

    def needed_ns(self) -> int:
        """Readings before this source time are needed by no coming window."""
        if not isinstance(self._assembler, Assembler):  # no model yet; a picture is decided on when it comes
            return FOREVER_NS
        start = self._assembler.next_start()
        return NEVER_NS if start is None else math.floor(start - self._hold_ns)

    def resume(self, checkpoint: bytes | None) -> None:
        """Resume from a checkpoint (None: killed before the first was written); a replay follows, until `live`."""
        saved = _decoded(self.name, checkpoint)
        if saved is not None:
            if _order(self._alert.state) <= _order(saved.alert):  # else an event was raised after the checkpoint
                self._alert.resume(saved.alert)
            if self._context is not None:
                self._context.resume(saved.context)
            self._start_ns = saved.start_ns
            self._silence.resume(saved.silence)
        if self._book is not None:
            lasts = self._alert.alarm_ns is not None
            self._book.resume(self.name, self._alert.key, self._alert.state, lasts)
        self._alerted_ns = self._alert.state.time_ns
        with suppress(StorageError):  # samples that cannot be read are not written twice either
            self._sampled_ns = self._samples.last_of(self.config.model, self.name) or NEVER_NS

    def live(self) -> None:
        """End the replay: what follows is new."""
        self._alerted_ns = self._sampled_ns = NEVER_NS
        self._is_live = True
        if isinstance(self._assembler, Assembler):
            self._assembler.end_replay()

    def push(self, batch: Batch, context: Batch | None = None, decided: bool = False) -> None:
        """Take readings in and decide on every window they complete, unless that was done before.

        context: the readings of the asset's context tags; they count before the others of the batch.
        """
        if self._context is not None and context is not None:
            self._context.take(context)
        if self._assembler is None and not self._begin():
            self._hold_early(batch)
            return
        assert self._assembler is not None
        early = self._early.pop(batch.source, None)
        if early and not batch.fresh:
            batch = batch._replace(readings=[*early.values(), *batch.readings])
        for window in self._assembler.push(batch):
            if not decided:
                self.decide(window)
        if isinstance(self._assembler, Snapshots):
            for window in self._assembler.labelled():
                self._store_labelled(window)

    def _hold_early(self, batch: Batch) -> None:
        """Hold the last reading of each tag until there is a model: OPC UA will not send an unchanged value again."""
        known = self._early.setdefault(batch.source, {})
        if batch.fresh:
            known.clear()
        known.update((r.tag, r) for r in batch.readings if not isinstance(r.value, np.ndarray))

    def decide(self, window: Window) -> None:
        """Decide on a window, follow up with the alert, and queue the window as a sample."""
        refused = window.missing > self.config.window.max_missing
        shares = np.isnan(window.values).mean(axis=-1) if window.missing else None
        self._watch.window(shares, refused, window.received_ns / 1e9)
        if refused:
            self._gappy += 1
            return
        assert self._card is not None and self._prepare is not None
        values = bridge(window.values) if window.missing else window.values
        if self.config.shaft_rpm is None:
            features = self._prepare(values)
        else:
            features = self._prepare(values[:-1], float(values[-1].mean()) / 60)
        actual = self._actual(window.label)
        context = self._context.at(window.end_ns) if self._context is not None else NO_CONTEXT
        self.newest = Glance(window, features)
        serving = self.participant.serving
        self._undecided += serving is None
        if serving is not None:
            scored, limit = serving.decide(features, self.name), serving.limit(self.name)
            left = self._look_ahead(serving, window.end_ns, scored) if scored.values else None
            latency = (time.monotonic_ns() - window.received_ns) / 1e9
            decision = Decision(
                asset=self.name,
                model=self.config.model,
                release=serving.release,
                time_ns=window.end_ns,
                score=scored.score,
                threshold=limit.score,
                provisional=limit.provisional,
                label=scored.label,
                missing=window.missing,
                latency_s=latency,
                channel=scored.channel,
                values=scored.values,
                context=context,
                bounds=scored.bounds,
                hours_left=left.hours if left else None,
                hours_left_at_least=left.at_least if left else None,
            )
            self._latency.record(latency)
            self._watch.decide(decision, window.received_ns / 1e9)
            self.decisions.append((decision, actual))
            if window.end_ns > self._alerted_ns:
                self._follow(decision)
                self._end_silence(decision, window.received_ns / 1e9)
        if self._card.image is None:
            self._store(window, features, actual, context.get("part", ""))
        else:
            self._parts[window.end_ns] = context.get("part", "")

    def _store(self, window: Window, features: NDArray[Any], actual: TargetValue, part: str) -> None:
        """Queue the sample, unless it straddles what is held back or its label is unknown and not waited for."""
        if window.end_ns <= self._sampled_ns:
            return
        self._covers_ns += self._hop_ns
        end, span = window.end_ns, self._span_ns
        held = self._split.held(end - span, end)
        if held is not None and (actual is not None or self._store_all):
            covers, self._covers_ns = self._covers_ns, 0
            self._samples.put(Sample(self.config.model, self.name, end, features, actual, held, span, part, covers))

    def _store_labelled(self, window: Window) -> None:
        """Store a picture that was decided on before, now with its label."""
        actual = self._actual(window.label)
        self._store(window, window.values, actual, self._parts.pop(window.end_ns, ""))
        for i in range(len(self.decisions) - 1, max(-1, len(self.decisions) - 2 * MAX_WAITING), -1):
            decision = self.decisions[i][0]
            if decision.time_ns == window.end_ns:
                self.decisions[i] = decision, actual

    def condition(self, sources: Mapping[str, SourceFacts], now: float) -> Condition:
        """What the asset can say now, and why not more; `now`: monotonic s. Any thread."""
        watch, channels = self._watch, self._unread if self._assembler is None else self._assembler.facts()
        refused, windows = watch.windows
        decision = watch.decision
        seen = Seen(
            channels,
            sources,
            now,
            watch.began,
            watch.decided,
            stale_after(self._hop_s, self._wait_s, watch.usual_s),
            self._span_ns / 1e9,
            self._waits_for(),
            watch.score,
            math.inf if decision is None else self._alert.limit(decision),
            self._can_alarm,
            watch.missing([c.name for c in channels]),
            watch.accepted,
            windows,
            refused,
            watch.newest_refused,
            self._assembler.filled() if isinstance(self._assembler, Assembler) else None,
        )
        return judge(seen)

    @property
    def _can_alarm(self) -> bool:
        """Whether the model is to alarm at all: one that only estimates has nothing to alarm about."""
        card = self._card
        return card is None or card.task != "regress" or any(t.beyond(0.0) is not None for t in card.targets)

    def _waits_for(self) -> Cause | None:
        """What is missing before the model can decide."""
        participant = self.participant
        if participant.graph is None:
            return Cause(Reason.MODEL, detail=participant.problem or "")
        if participant.serving is None:
            return Cause(Reason.BASELINE, detail=participant.progress())
        known = participant.baseline(self.name)
        if known is None or known.done or math.isfinite(participant.serving.limit(self.name).score):
            return None
        return Cause(Reason.BASELINE, detail=known.text())

    def status(self) -> dict[str, Any]:
        """For the status page."""
        last = self.decisions[-1][0] if self.decisions else None
        counters = self._assembler.counters if self._assembler else None
        return {
            "model": self.config.model,
            "last": msgspec.structs.asdict(last) if last else None,
            "alert": msgspec.structs.asdict(self._alert.state),
            "events": self._events,
            "silence": msgspec.structs.asdict(self._silence.at(time.monotonic())),
            "windows_with_gaps": self._gappy,
            "windows_undecided": self._undecided,
            "tag_labels": self._tag_labels.status(),
            "baseline": self._baseline(),
            "windows_thinned": self._samples.thinned[self.name],
            "samples_crowded": self._samples.crowded[self.name],
            "unknown_contexts": self._context.refused if self._context else 0,
            "counters": dict(vars(counters)) if counters else {"windows": 0, "gaps": 0},
            "out_of_range": self._assembler.out_of_range() if self._assembler else {},
            "unjudged": self._alert.unjudged,
        }

    def _baseline(self) -> dict[str, Any] | None:
        """How far the baseline is, for the status page."""
        known = self.participant.baseline(self.name)
        return None if known is None else {**known._asdict(), "done": known.done, "text": known.text()}

    def recent(self) -> Iterator[dict[str, Any]]:
        """The recent decisions, oldest first, with the target values of their labels."""
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
        self._watch.begin(time.monotonic())
        window, config = graph.card.window, self.config.window
        rate = config.rate_hz or window.rate_hz
        self._card, self._prepare = graph.card, Preparation(graph.card, self.config.bearing, rate)
        length, hop = config.length or window.length, config.hop or window.hop
        channels = {c.name: self.config.channels[c.name] for c in graph.card.channels}
        if self.config.shaft_rpm is not None:
            channels["shaft_rpm"] = self.config.shaft_rpm
        hold = float(config.max_hold) if config.max_hold is not None else 3 / rate
        late = float(config.lateness) if config.lateness is not None else 2 / rate
        measured = graph.card.task == "regress"
        label = self.config.label
        labels = [label] if label and label.source else [self.config.targets[t.name] for t in self._targets()]
        if graph.card.task == "anomaly":
            self._hop_ns = round(1e9 / rate * hop)
            with suppress(StorageError):  # then it begins with the next window
                self._samples.estimate_cover(self.config.model, self.name, self._hop_ns)
        self._split = split(rate, length, hop, self.participant.config.training.holdout)
        if graph.card.image is not None:  # taken in an instant: it straddles nothing
            picture = next(iter(channels.values()))
            channel = next(iter(channels))
            self._assembler = Snapshots(self.name, picture, labels, graph.card.image, late, channel)
            self._hop_s = PICTURE_HOP_S
            return True
        self._assembler = Assembler(self.name, channels, labels, rate, length, hop, hold, late, measured)
        if self._start_ns is not None:
            self._assembler.resume(self._start_ns)
            if self._is_live:
                self._assembler.end_replay()
        self._span_ns, self._hold_ns = round(1e9 / rate * length), 1e9 * hold
        self._hop_s, self._wait_s = hop / rate, hold + late
        return True

    def _look_ahead(self, serving: Serving, now_ns: int, scored: Scored) -> Left | None:
        """Forecast when a target reaches its alarm level; a new model first estimates the history again."""
        assert self._card is not None
        if self._outlook is None or serving is not self._seen:
            config = self.participant.config
            self._outlook = Outlook(self._card.targets, config.trend / 3600, config.confidence)
            self._outlook.restart(serving.past.get(self.name, ()))
            self._seen = serving
        return self._outlook.update(now_ns, scored.values, scored.bounds)

    def _follow(self, decision: Decision) -> None:
        if self._book is not None and self._alert.state.opened:
            self._alert.accepted = self._book.is_accepted(self._alert.key)
        made = self._alert.update(decision)
        self._withhold(self._alert.alarm_ns)
        if made is not None:
            self._events += made[0].state == "opened"
            self._raise(*made)

    def mark(self, now: float) -> tuple[bool, int]:
        """What has to be stored soon when it changes; `now`: monotonic s."""
        return self._silence.mark(now)

    def look(self, sources: Callable[[], Mapping[str, SourceFacts]], now: float) -> None:
        """Raise an event if the asset has been silent for too long; `now`: monotonic s."""
        if self._silence.is_long(now):
            condition = self.condition(sources(), now)
            if condition.mute:
                self._raise(*self._silence.open(words(condition), now))

    def unseen(self, now: float) -> Decision | None:
        """What to show instead of the last decision once the asset is stale; `now`: monotonic s."""
        watch = self._watch
        if watch.decided is None or now - watch.decided <= stale_after(self._hop_s, self._wait_s, watch.usual_s):
            return None
        last = self.decisions[-1][0]
        return nothing(self.name, last.model, last.release, last.time_ns)

    def _end_silence(self, decision: Decision, now: float) -> None:
        made = self._silence.decided(decision, now)
        if made is not None:
            self._raise(*made)

    def _withhold(self, since_ns: int | None) -> None:
        """Withhold the windows of an alarm from training, of a model that takes every window for normal."""
        if self._book is None or self._card is None or self._card.task != "anomaly" or self.config.labelled:
            return
        if since_ns is None and self._held:
            self._book.end(self.name, self._alert.normal_ns - 1)
            self._held = ""
        elif since_ns is not None and self._held != self._alert.key:
            self._held = self._alert.key
            self._book.begin(self.name, self._held, since_ns)

    def _targets(self) -> tuple[Target, ...]:
        assert self._card is not None
        return self._card.targets if self.config.targets else ()

    def _actual(self, value: float | str | tuple[float, ...] | None) -> TargetValue:
        """The target value of a sample; None: unknown."""
        assert self._card is not None
        if isinstance(value, tuple):
            return value if all(map(math.isfinite, value)) else None
        if value is None:
            return None
        names = self.config.label.map if self.config.label else {}  # the one target of a model may be given by its name
        target = target_value(value, self._card, names)
        self._tag_labels.take(value, target is not None, self._card)
        return target


def _decoded(name: str, checkpoint: bytes | None) -> Checkpoint | None:
    """A stored checkpoint; None when there is none, or a bad disk has changed it."""
    try:
        return None if checkpoint is None else msgspec.json.decode(checkpoint, type=Checkpoint)
    except (msgspec.MsgspecError, UnicodeDecodeError) as e:
        logger.error("asset %s: its checkpoint cannot be read (%s); windows begin again", name, e)
        return None


def _order(state: AlertState) -> tuple[int, bool, int]:
    """Sort key of the states of one alert, oldest first; the time counts last, since a clock may be set back."""
    return state.number, not state.opened, state.time_ns
