# SPDX-License-Identifier: Apache-2.0
"""One machine in the main thread: readings become windows, decisions, events and samples.

Data flows one way: `asset_windows` makes windows, `decider` decides on them, `asset_events` raises what follows and
`asset_samples` stores them. What it can say at any time is its `condition`.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from fedge_models.graph.card import Card
from fedge_models.graph.channels import dependants, with_formulas
from numpy.typing import NDArray

from ..config.schema import AssetConfig
from ..federation.participant import Participant
from ..health import Latency
from ..learning.serving import Serving
from ..samples.closings import Closing
from ..samples.event_book import EventBook
from ..samples.label_values import TargetValue
from ..samples.reservoir import Reservoir
from ..samples.store import SampleStore
from ..types import AlertState, Batch, Decision, DriftState, Event, EventState, SilenceState, Window
from ..windows.context import Context
from ..windows.snapshots import MAX_WAITING
from .alerts import Alert
from .asset_events import AssetEvents
from .asset_samples import AssetSamples
from .asset_windows import AssetWindows
from .checkpoint import Checkpoint, decode
from .condition import Cause, Condition, Reason, Seen, SourceFacts
from .condition_judge import judge, stale_after
from .condition_words import words
from .decider import Decider
from .early import EarlyWindows, Learnt
from .history import History
from .history_events import HistoryEvents
from .input_drift import InputDrift
from .pace import pace
from .silence import nothing
from .watch import Watch

RECENT_DECISIONS = 16_384  # of all assets, for the status page; a third of a KiB each
MOST_RECENT, LEAST_RECENT = 4096, 100  # of one asset
NO_CONTEXT: dict[str, str] = {}


class Glance(NamedTuple):
    """A window, and what the model saw of it."""

    window: Window
    features: NDArray[Any]


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
        raise_event: Callable[[Event, EventState | None], None],
        run: str = "",
        silence: SilenceState = SilenceState(),  # noqa: B008  # frozen
        events: EventBook | None = None,
        assets: int = 1,
        reservoir: Reservoir | None = None,
        drift: DriftState = DriftState(),  # noqa: B008  # its lists are never changed
        closings: Callable[[], Sequence[Closing]] = tuple,
    ) -> None:
        """assets: how many there are here; reservoir: what statistics are made of; closings: see `Decider`."""
        self.name, self.config, self.participant = name, config, participant
        self._latency = latency
        self._card: Card | None = None
        self._dependants: dict[str, tuple[str, ...]] = {}  # channel -> the derived channels that depend on it
        self._samples = AssetSamples(name, config, samples)
        self._windows = AssetWindows(name, config, self._samples.read_label)
        self._decider = Decider(name, config, participant.config, closings, adapts=True)
        self._events = AssetEvents(gateway, name, config, state, silence, run, raise_event, events)
        model = config.model
        self._drift = InputDrift(
            gateway,
            model,
            name,
            config.when,
            drift,
            run,
            lambda: participant.reference(name),
            raise_event,
            self._events.is_accepted,
            self._events.withhold_drift,
        )
        past = HistoryEvents(
            lambda state: self._past_alert(Alert(gateway, name, config.when, state, run, model)),
            self._events,
            raise_event,
            events,
        )
        self._history = History(name, config, participant.config, past, self._samples, latency.record, closings)
        self._context = Context(config.context) if config.context else None
        self._watch = Watch(time.monotonic())
        self._reservoir = reservoir or Reservoir(name)
        self._gappy = self._undecided = self._undefined = 0
        self.can_wait = False  # its sources hold a stored past: windows wait for what it lacks to decide
        self.past: frozenset[str] = frozenset()  # its sources, where all of them hold a stored past
        self._pending: deque[Window] = deque()  # those that do; no more than one batch gives
        self._early = EarlyWindows(assets)  # of a stored past, before the model has its first samples
        self.newest: Glance | None = None  # for who looks at one window
        self.decisions: deque[tuple[Decision, TargetValue]] = deque(maxlen=recent_share(assets))

    # from readings to decisions

    def push(self, batch: Batch, context: Batch | None = None, decided: bool = False) -> None:
        """Take readings in and decide on every window they complete, unless that was done before.

        context: the readings of the asset's context tags; they count before the others of the batch.
        """
        if self._context is not None and context is not None and not batch.history:
            self._context.take(context)
        if self._card is None and not self._begin():
            self._windows.hold(batch)
            return
        if batch.history:
            self._history.take(batch, context, self._windows, batch.received_ns / 1e9)
            return
        origin = self._origin(batch)
        for made in self._windows.push(batch):
            if not decided:
                self._give(made if origin is None else made._replace(origin=origin))
        for window in self._windows.labelled():
            self._note_label(window.end_ns, self._samples.put_labelled(window))
        self.judge_history(batch.received_ns / 1e9)

    def judge_history(self, now: float, all_of_it: bool = False) -> None:
        """Decide on some of what a source sent afterwards, if it is complete, and on pictures whose times waited long
        enough; `now`: monotonic s."""
        for picture in self._windows.overdue(now, all_of_it):
            self._give(picture)
        for window in self._history.work(self._windows, self.participant.serving, now, all_of_it):
            self.decide(window)

    def _give(self, window: Window) -> None:
        """Decide on a window, or have it wait for what the asset lacks."""
        if self._pending or (self.can_wait and self.lacks() is not None):
            self._pending.append(window)
        else:
            self.decide(window)

    def _origin(self, batch: Batch) -> str | None:
        """What the windows that a batch completes are stored in."""
        if batch.origin is None or not self.past:
            return None
        return batch.origin if len(self.past) == 1 else ""  # which one completes a window may be another next time

    @property
    def pending(self) -> bool:
        """Whether windows wait for what the asset lacks to decide, and may have it now."""
        return bool(self._pending) or (len(self._early) > 0 and self.participant.serving is not None)

    @property
    def waits(self) -> bool:
        """Whether windows wait that a restart is to make again."""
        return bool(self._pending) or self._early.all_wait

    def lacks(self) -> Cause | None:
        """What the asset waits for before it can decide, if that comes without further readings."""
        if self.participant.graph is None:
            return Cause(Reason.MODEL, detail=self.participant.problem or "")
        return Cause(Reason.BASELINE) if self.participant.is_due(self.name) else None

    def catch_up(self) -> None:
        """Decide on the windows that waited, unless they wait still."""
        if self.can_wait and self.lacks() is not None:
            return
        self._decide_early(self.participant.serving)
        while self._pending and not (self.can_wait and self.lacks() is not None):
            self.decide(self._pending.popleft()._replace(received_ns=time.monotonic_ns()))

    def decide(self, window: Window) -> None:
        """Decide on a window, follow up with events, and queue the window as a sample."""
        refused = window.missing > self.config.window.max_missing
        shares = np.isnan(window.values).mean(axis=-1) if window.missing else None
        features = None if refused else self._decider.features(window)
        undefined = () if refused else self._decider.undefined
        self._watch.window(shares, refused, window.received_ns / 1e9, undefined)
        actual = self._samples.target(window)
        if features is None:
            self._gappy += refused
            self._undefined += not refused
            return
        self._reservoir.take(window.values, window.end_ns)
        context = self._context.at(window.end_ns) if self._context is not None else NO_CONTEXT
        self.newest = Glance(window, features)
        serving = self.participant.serving
        if serving is None:
            self._decider.pass_over(window)
        if serving is not None:
            self._decide_early(serving)
            decision = self._decide_by(serving, window, features, context)
            self._take(decision, actual, window)
            self._reservoir.score(decision.score, decision.threshold)
            self._drift.take(decision, features)
        elif self.past:
            self._early.append(Learnt(window, features, actual, context))
        else:
            self._undecided += 1
        self._samples.put(window, features, actual, context.get("part", ""))

    def _decide_early(self, serving: Serving | None) -> None:
        """Decide on the windows that came before anything served, once something does."""
        if serving is None:
            return
        for early, features, actual, context in self._early.take():
            window = early._replace(received_ns=time.monotonic_ns())
            decision = self._decide_by(serving, window, features, context)
            self._take(decision, actual, window)

    def _decide_by(self, serving: Serving, window: Window, features: NDArray[Any], context: dict[str, str]) -> Decision:
        self._decider.run.accept(self._events.accepted_key)
        return self._decider.decide(serving, window, features, context, self._events.lasts)

    def _take(self, decision: Decision, actual: TargetValue, window: Window) -> None:
        now = window.received_ns / 1e9
        self._latency.record(decision.latency_s)
        self._watch.decide(decision, now)
        self.decisions.append((decision, actual))
        self._events.take(decision, window, now)
        run = self._decider.run
        ratio = run.learn(decision.score, decision.time_ns, bool(self._events.open_key))
        run.accept(self._drift.unlike.take(decision, run.since_ns, ratio), is_alarm=False)

    def _begin(self) -> bool:
        """Begin with the model, if it is known by now."""
        graph = self.participant.graph
        if graph is None:
            return False
        self._watch.begin(time.monotonic())
        card, found = graph.card, pace(self.config.window, graph.card)
        self._decider.begin(card, found)
        self._events.begin(card, found)
        self._samples.begin(card, found, self.participant.config.training.holdout)
        self._windows.begin(card, found)
        self._reservoir.begin(tuple(c.name for c in card.channels), found.span_ns)
        self._drift.begin(card, graph.input_shape, found)
        self._card, self._dependants = card, dependants(card.formulas)
        return True

    def _note_label(self, time_ns: int, actual: TargetValue) -> None:
        """Note the label of a picture that was decided on before."""
        for i in range(len(self.decisions) - 1, max(-1, len(self.decisions) - 2 * MAX_WAITING), -1):
            decision = self.decisions[i][0]
            if decision.time_ns == time_ns:
                self.decisions[i] = decision, actual

    # a restart

    def checkpoint(self) -> bytes:
        """What to resume from, as of now."""
        alert = self._events.alert_at(self.decisions[-1][0].time_ns if self.decisions else None)
        context = self._context.last if self._context is not None else NO_CONTEXT
        silence = self._events.silence_at(time.monotonic())
        return Checkpoint(self._windows.next_start(), alert, context, silence, self._decider.run.state).encode()

    def needed_ns(self) -> int:
        """Readings before this source time are needed by no coming window."""
        return self._windows.needed_ns()

    def resume(self, checkpoint: bytes | None) -> None:
        """Resume from a checkpoint (None: killed before the first was written); a replay follows, until `live`."""
        saved = decode(self.name, checkpoint)
        if saved is not None:
            if self._context is not None:
                self._context.resume(saved.context)
            self._windows.resume(saved.start_ns)
            self._decider.run.resume(saved.run)
        self._events.resume(saved)
        self._events.resume_drifts(self._drift.open_since(), self._drift.state)
        self._samples.resume()

    @property
    def open_key(self) -> str:
        """Key of the alert that is open; "": there is none."""
        return self._events.open_key

    def live(self) -> None:
        """End the replay: what follows is new."""
        self._events.live()
        self._samples.live()
        self._windows.live()

    # what it can say now

    def condition(self, sources: Mapping[str, SourceFacts], now: float) -> Condition:
        """What the asset can say now, and why not more; `now`: monotonic s. Any thread."""
        watch, channels = self._watch, self._windows.facts()
        refused, windows = watch.windows
        seen = Seen(
            channels,
            sources,
            now,
            watch.began,
            watch.decided,
            self._stale_after(),
            self._windows.pace.span_ns / 1e9,
            self._waits_for(),
            watch.score,
            math.inf if watch.decision is None else watch.decision.threshold,
            self._can_alarm,
            watch.missing([c.name for c in channels]),
            watch.accepted,
            windows,
            refused,
            watch.newest_refused,
            self._windows.filled(),
            self._windows.holes(),
            self._windows.pace.hold_s,
            watch.undefined[0],
            with_formulas(self._card.derive, watch.undefined[1]) if self._card is not None else (),
            self._dependants,
        )
        return judge(seen)

    def look(self, sources: Callable[[], Mapping[str, SourceFacts]], now: float) -> None:
        """Raise an event if the asset has been silent for too long; `now`: monotonic s."""
        if self._events.is_long_silent(now):
            condition = self.condition(sources(), now)
            if condition.mute:
                self._events.take_silence(words(condition), now)

    def unseen(self, now: float) -> Decision | None:
        """What to show instead of the last decision once the asset is stale; `now`: monotonic s."""
        decided = self._watch.decided
        if decided is None or now - decided <= self._stale_after():
            return None
        last = self.decisions[-1][0]
        return nothing(self.name, last.model, last.release, last.time_ns)

    def mark(self, now: float) -> tuple[bool, int]:
        """What has to be stored soon when it changes; `now`: monotonic s."""
        return self._events.mark(now)

    def limits_of(self, serving: Serving, ends: NDArray[np.int64]) -> NDArray[np.float64]:
        """What the scores of stored windows are compared with, as `Decider.limits_of`. Any thread."""
        return self._decider.limits_of(serving, ends)

    def status(self) -> dict[str, Any]:
        """For the status page."""
        last = self.decisions[-1][0] if self.decisions else None
        return {
            "model": self.config.model,
            "last": msgspec.structs.asdict(last) if last else None,
            "windows_with_gaps": self._gappy + self._history.gappy,
            "windows_undefined": self._undefined + self._history.undefined,
            "windows_undecided": self._undecided + self._early.given_up + self._history.undecided,
            "windows_waiting": len(self._pending) + len(self._early),
            "baseline": self._baseline(),
            "limit": self._decider.limit_status(self.participant.serving),
            "run": self._run(),
            "unknown_contexts": self._context.refused if self._context else 0,
            "counters": self._history.counters(self._windows.counters()),
            "out_of_range": self._windows.out_of_range(),
            "implausible_times": self._windows.implausible_times(),
            **self._events.status(),
            "inputs": self._drift.status(),
            "events": self._events.opened + self._history.events,
            **self._samples.status(),
        }

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

    def _past_alert(self, alert: Alert) -> Alert:
        """An alert of a history, told what the model's labels are."""
        alert.several = self._card is not None and self._card.task == "multilabel"
        return alert

    def _stale_after(self) -> float:
        """Seconds without a decision after which it is stale."""
        found = self._windows.pace
        return stale_after(found.hop_s, found.wait_s, self._watch.usual_s)

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
        known = participant.baseline(self.name)
        unlabelled = None if known is None else self._samples.lacks_labels(known)
        if participant.serving is None:
            return unlabelled or Cause(Reason.BASELINE, detail=participant.progress())
        if known is None or known.done or math.isfinite(self._decider.limit(participant.serving).score):
            return None
        return unlabelled or Cause(Reason.BASELINE, detail=known.text())

    def _run(self) -> dict[str, Any] | None:
        """The limit as it was released and as it is in use, for the status page; None where it never adapts."""
        serving = self.participant.serving
        if serving is None or self._card is None or self._card.task != "anomaly":
            return None
        return self._decider.run_figures(serving)._asdict()

    def _baseline(self) -> dict[str, Any] | None:
        """How far the baseline is, for the status page."""
        known = self.participant.baseline(self.name)
        return None if known is None else {**known._asdict(), "done": known.done, "text": known.text()}


def recent_share(assets: int) -> int:
    """How many recent decisions one of so many assets keeps: 200 machines must not need 270 MB for a status page."""
    return min(MOST_RECENT, max(LEAST_RECENT, RECENT_DECISIONS // max(1, assets)))
