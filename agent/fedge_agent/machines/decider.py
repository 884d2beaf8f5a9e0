# SPDX-License-Identifier: Apache-2.0
"""Decide on one window: its features, what the model says of them, and when an alarm level will be reached."""

from __future__ import annotations

import time
from typing import Any

from fedge_models.graph.card import Card
from numpy.typing import NDArray

from ..config.schema import AssetConfig, ModelConfig
from ..learning.limits import Limit
from ..learning.serving import Scored, Serving
from ..types import Decision, Window
from ..windows.features import Preparation, bridge
from .outlook import Left, Outlook
from .pace import Pace


class Decider:
    """Decides for asset `name` once its model is known (`begin`)."""

    def __init__(self, name: str, config: AssetConfig, model: ModelConfig) -> None:
        self._name, self._config, self._model = name, config, model
        above = config.when.score_above
        self._fixed = None if above == "threshold" else float(above)
        self._card: Card | None = None
        self._prepare: Preparation | None = None
        self._outlook: Outlook | None = None
        self._seen: Serving | None = None  # whose estimates the outlook is drawn from

    def begin(self, card: Card, pace: Pace) -> None:
        """Decide on windows of this model from now on."""
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
        """What scores are compared with: the machine's own limit, or the one that is configured."""
        own = serving.limit(self._name)
        return own if self._fixed is None else Limit(self._fixed, own.usual)

    def decide(self, serving: Serving, window: Window, features: NDArray[Any], context: dict[str, str]) -> Decision:
        """The decision on a window by what serves; its latency is measured last."""
        limit = self.limit(serving)
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
