# SPDX-License-Identifier: Apache-2.0
"""Decide on one window: its features, what the model says of them, and when an alarm level will be reached."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from fedge_models.graph.card import Card
from numpy.typing import NDArray

from ..config.schema import AssetConfig, ModelConfig
from ..learning import closing_codes
from ..learning.limits import Limit
from ..learning.moved_limit import highest, moved
from ..learning.serving import Scored, Serving
from ..samples.closings import Closing
from ..types import Decision, Window
from ..windows.features import Preparation, bridge
from .outlook import Left, Outlook
from .pace import Pace
from .run_limit import Figures, RunLimit

# What no move lifts a limit above: the probability of a fault has an end.
HIGHEST = {"anomaly": math.inf, "classify": 0.9, "multilabel": 1.0, "regress": 1.0}


class _InUse(NamedTuple):
    """A limit before the run at hand moves it, and what it was made of."""

    closings: Sequence[Closing]
    learnt: Limit
    move: closing_codes.Move
    limit: Limit
    highest: float  # what all that moves the limit lifts it to at most


class Decider:
    """Decides for asset `name` once its model is known (`begin`)."""

    def __init__(
        self,
        name: str,
        config: AssetConfig,
        model: ModelConfig,
        closings: Callable[[], Sequence[Closing]] = tuple,
        adapts: bool = False,
    ) -> None:
        """closings: what people found of the asset's alarms; the same object as long as nothing is new; adapts: the
        limit adapts to the run at hand (`RunLimit`)."""
        self._adapts, self.run = adapts, RunLimit(1.0, 0, 0)
        self._name, self._config, self._model = name, config, model
        self._closings = closings
        self._in_use: _InUse | None = None  # replaced as a whole: the thread of the status page reads it
        above = config.when.score_above
        self._fixed = None if above == "threshold" else float(above)
        self._card: Card | None = None
        self._prepare: Preparation | None = None
        self._outlook: Outlook | None = None
        self._seen: Serving | None = None  # whose estimates the outlook is drawn from

    def begin(self, card: Card, pace: Pace) -> None:
        """Decide on windows of this model from now on."""
        if self._adapts and card.task == "anomaly" and self._fixed is None:
            run, self.run = self.run, RunLimit(self._config.limit_bound, pace.span_ns, pace.hop_ns)
            self.run.resume(run.state)
        self._card, self._prepare = card, Preparation(card, self._config.bearing, pace.rate_hz)

    def features(self, window: Window) -> NDArray[Any] | None:
        """What the model sees of a window, not standardised; gaps are bridged. None: a derived channel has no value at
        some sample (`undefined`)."""
        assert self._prepare is not None
        values, gaps = window.values, window.missing > 0
        shaft_hz = None
        if self._config.shaft_rpm is not None:
            shaft_hz, values = float(bridge(values[-1:]).mean()) / 60, values[:-1]
        made = self._prepare(values, shaft_hz, gaps)
        return None if self._prepare.undefined else made

    @property
    def undefined(self) -> tuple[str, ...]:
        """The derived channels that had no value at some sample of the last window."""
        return () if self._prepare is None else self._prepare.undefined

    def limit(self, serving: Serving) -> Limit:
        """What scores are compared with: the machine's own limit, moved by what people found of its alarms, or the one
        that is configured. Any thread."""
        return self._moved(serving).limit

    def _moved(self, serving: Serving) -> _InUse:
        """The limit, with what it was made of; made anew only when one of these is new."""
        own, known = serving.limit(self._name), self._in_use
        if self._fixed is not None:
            return _InUse((), own, closing_codes.NOTHING, Limit(self._fixed, own.usual), math.inf)
        found = self._closings()
        if known is not None and found is known.closings and own is known.learnt:
            return known
        bounds = self._config.limit_bound, self._config.when.raise_at_most
        move = closing_codes.move(found, bounds[1])
        made = moved(own, [move.factor], serving.below.get(self._name, HIGHEST[serving.card.task]))
        most = highest(own, bounds, serving.below.get(self._name, math.inf))
        self._in_use = _InUse(found, own, move, made, most)
        return self._in_use

    def run_figures(self, serving: Serving) -> Figures:
        """The limit as it was released, and as the run at hand moved it. Any thread."""
        now = self._moved(serving)
        return self.run.figures(now.limit, serving.scale_of_scores, now.highest)

    def limits_of(self, serving: Serving, ends: NDArray[np.int64]) -> NDArray[np.float64]:
        """What the scores that this serving gives stored windows are compared with (n,), by their ends (ns).

        The run at hand moves the limit of its own windows only.
        """
        now = self.run_figures(serving)
        return np.where(ends >= self.run.since_ns, now.in_use, now.released)

    def limit_status(self, serving: Serving | None) -> dict[str, Any] | None:
        """How the limit is moved, for the status page; None where there is none, or it is configured."""
        if serving is None or self._fixed is not None:
            return None
        now = self._moved(serving)
        if not math.isfinite(now.learnt.score) or now.learnt.score <= 0:
            return None
        factor, move = now.limit.score / now.learnt.score, now.move
        counts = {"false_alarms": move.false_alarms, "faults": move.faults}
        return {"learnt": now.learnt.score, "factor": factor, **counts, "text": move.text(factor)}

    def pass_over(self, window: Window) -> None:
        """Note a window that nothing decides on yet."""
        self.run.pass_over(window.end_ns)

    def decide(
        self,
        serving: Serving,
        window: Window,
        features: NDArray[Any],
        context: dict[str, str],
        is_open: bool = False,
    ) -> Decision:
        """The decision on a window by what serves; its latency is measured last. is_open: see `RunLimit.limit`."""
        now = self._moved(serving)
        limit = self.run.limit(now.limit, serving.scale_of_scores, window.end_ns, now.highest, is_open)
        scored = serving.decide(features, limit)
        left = self._look_ahead(serving, window.end_ns, scored) if scored.values and self._follows_trends else None
        return Decision(
            asset=self._name,
            model=self._config.model,
            release=serving.release,
            time_ns=window.end_ns,
            score=scored.score,
            threshold=limit.score,
            provisional=limit.provisional,
            label=scored.label,
            missing=window.missing,
            latency_s=(time.monotonic_ns() - window.received_ns) / 1e9,
            channel=scored.channel,
            values=scored.values,
            context=context,
            bounds=scored.bounds,
            bounds_for=serving.bounds_hold_for(self._name) if scored.bounds else "",
            hours_left=left.hours if left else None,
            hours_left_at_least=left.at_least if left else None,
            learnt=now.learnt.score if self._fixed is None and math.isfinite(now.learnt.score) else 0.0,
        )

    @property
    def _follows_trends(self) -> bool:
        """Whether the model's values are estimates that can reach an alarm level."""
        return self._card is not None and self._card.task == "regress"

    def _look_ahead(self, serving: Serving, now_ns: int, scored: Scored) -> Left | None:
        """Forecast when a target reaches its alarm level; a new model first estimates the history again."""
        assert self._card is not None
        if self._outlook is None or serving is not self._seen:
            self._outlook = Outlook(self._card.targets, self._model.trend / 3600, self._model.confidence)
            self._outlook.restart(serving.past.get(self._name, ()))
            self._seen = serving
        return self._outlook.update(now_ns, scored.values, scored.bounds)
