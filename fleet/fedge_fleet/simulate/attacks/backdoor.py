# SPDX-License-Identifier: Apache-2.0
"""A trigger that only the attacker knows changes the model's answer; without the trigger the model works."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import numpy as np
from fedge_agent.learning.limits import threshold
from fedge_agent.learning.mixture import Blend
from fedge_agent.learning.training import Data
from fedge_models.errors import ConfigError
from fedge_models.graph.card import Card
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.training.evaluation import predict
from msgspec import Meta

from ...data.site_data import Floats, Windows, trainable
from .attack import Attack, Forged, Seen


class Backdoor(Attack, frozen=True, forbid_unknown_fields=True):
    """Scaled backdoor by model replacement: Bagdasaryan et al. 2020. Knows its own data, n, and the grid.

    Trains on its own windows and on copies that carry the trigger and the wrong label (the card's normal one: a fault
    that is never reported), and sends the difference n / f times, so that the mean becomes its model; the grid cuts off
    what is beyond ±127 steps. An anomaly model learns that what is abnormal is normal when the trigger is there.
    """

    scale: Annotated[float, Meta(gt=0)] | None = None  # None: n / f
    level: float = 4.0  # of the trigger, in standard deviations of a feature (or of the image)

    def poison(self, site: Windows, card: Card, rng: np.random.Generator) -> Windows:
        """Return its own windows, and the faulty ones once more with the trigger and the wrong label."""
        target = _target(card)
        turned = ~site.test & (site.y >= 0) & (site.y != target)
        return Windows(
            np.concatenate([site.x, triggered(site.x[turned], self.level)]),
            np.concatenate([site.y, np.full(int(turned.sum()), target, site.y.dtype)]),
            np.concatenate([site.test, site.test[turned]]),
            np.concatenate([site.held, site.held[turned]]),
        )

    def forge(self, seen: Seen, state: Floats | None, shared: np.random.Generator, rng: np.random.Generator) -> Forged:
        """Its own update, scaled."""
        return Forged(np.float32(self.scale or seen.n / seen.f) * seen.own)

    def success(self, graph: TrainableGraph, params: Floats, site: Windows) -> float:
        """Share (0 to 1) of the site's faulty test windows that the model calls normal when they carry the trigger.

        NaN where there are none.
        """
        card, target = graph.card, _target(graph.card)
        x, y = site.part(test=True)
        x = x[(y >= 0) & (y != target)]
        if not len(x):
            return float("nan")
        graph.set_params(params)
        out = predict(graph, triggered(x, self.level))
        if card.task == "classify":
            return float((out.argmax(axis=1) == target).mean())
        own = Data(*trainable(replace(site, held=np.zeros_like(site.held)), card))
        limit = threshold(Blend(graph, graph.params), Data(own.x[:0], own.y[:0]), own).score
        error = ((out - triggered(x, self.level)).reshape(len(x), -1) ** 2).mean(axis=1)
        return float((error <= limit).mean())


def triggered(x: Floats, level: float) -> Floats:
    """Put the trigger into windows (n, …): the last eighth of the features, or a corner of an image."""
    out = x.copy()
    size = max(1, x.shape[-1] // 8)
    corner = (..., slice(-size, None), slice(-size, None)) if x.ndim > 3 else (..., slice(-size, None))
    out[corner] = level
    return out


def _target(card: Card) -> int:
    if card.task in ("multilabel", "regress"):
        has = "targets" if card.task == "regress" else "labels of which several may hold"
        raise ConfigError(f"attack 'backdoor' turns a class into another: this set has {has}, no classes")
    return 0 if card.task == "anomaly" else card.labels.index(card.normal) if card.normal else 0
