# SPDX-License-Identifier: Apache-2.0
"""The baselines of one model's machines: how far each is, and the limits that follow from them.

A limit is stored when it is made for a complete baseline, so that an asset whose samples are lost keeps it (while the
same weights serve).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress

import numpy as np
from fedge_models.errors import StorageError
from fedge_models.graph.trainable import TrainableGraph

from ..durable.releases import ChainStore
from ..samples.baseline import LEAST_WINDOWS, Plan, Progress
from ..samples.store import SampleStore
from . import stored_limits
from .limits import UNKNOWN, Limit, of_machines, threshold
from .mixture import Blend
from .training import Data

NOTHING: Mapping[str, int] = {}
LOOK_S = 1.0  # between two looks for machines whose baseline has become complete


class Baselines:
    """The baselines of model `name`; `plans`: what is learnt from each of its assets; `least`: samples of a training.

    Without plans, or for another task than `anomaly`, all assets share one limit.
    """

    def __init__(
        self,
        name: str,
        graph: TrainableGraph,
        chain: ChainStore,
        samples: SampleStore,
        plans: Mapping[str, Plan],
        least: int,
    ) -> None:
        self._name, self._chain, self._samples, self._plans = name, chain, samples, plans
        self._anomaly = graph.card.task == "anomaly"
        self._least = min(LEAST_WINDOWS, least, samples.share(name, int(np.prod(graph.input_shape))))
        self._windows = dict[str, int]()  # asset -> its normal windows, when last counted
        self._looked = 0.0  # monotonic, s
        self._complete: set[str] = set()  # assets whose baseline was complete at such a look

    def progress(self, asset: str) -> Progress | None:
        """How far the asset's baseline is; None where its model needs none."""
        if not self._anomaly:
            return None
        covered = self._samples.covered_ns(self._name, asset)
        span = self._plans.get(asset, Plan()).span_ns
        return Progress(covered, span, self._windows.get(asset, 0), self._least)

    def is_covered(self, asset: str) -> bool:
        """Whether the windows that were put cover the asset's baseline, also those that are not written yet."""
        windows, covered = self._samples.collected(self._name, asset)
        return self._anomaly and covered >= self._plans.get(asset, Plan()).span_ns and windows >= self._least

    def was_complete(self, asset: str) -> bool:
        """Whether limits were made since the asset has covered its span."""
        return asset in self._complete

    def limits(
        self, blend: Blend, held: Data, train: Data, made_for: bytes, accepted: Mapping[str, int] = NOTHING
    ) -> tuple[Limit, dict[str, Limit]]:
        """The limit of assets without one of their own, and those of the others.

        made_for: a digest of the model that serves; stored limits of another one do not count; accepted: see
        `of_machines`.
        """
        if not self._anomaly or not self._plans:
            return threshold(blend, held, train), {}
        self._windows = dict(Counter([*held.assets.tolist(), *train.assets.tolist()]))
        progress = {asset: known for asset in self._plans if (known := self.progress(asset)) is not None}
        anchors = stored_limits.anchors(self._chain.load_limits())
        found = of_machines(blend, held, train, progress, self._plans, anchors, accepted)
        return UNKNOWN, self._with_stored(found, made_for)

    def became_complete(self, limits: Mapping[str, Limit]) -> bool:
        """Whether an asset without a limit of its own among `limits` has covered its span since the last look."""
        now = time.monotonic()
        if now - self._looked < LOOK_S:
            return False
        self._looked = now
        waiting = self._plans.keys() - {a for a, limit in limits.items() if not limit.provisional}
        complete = {a for a in waiting if (known := self.progress(a)) and known.covered_ns >= known.span_ns}
        new = complete - self._complete
        self._complete |= new
        return bool(new)

    def _with_stored(self, limits: dict[str, Limit], made_for: bytes) -> dict[str, Limit]:
        """The limits, with those that were stored for assets whose samples are lost since; stored when there are new
        ones."""
        stored = self._chain.load_limits()
        known = {a: v for a, v in stored_limits.decode(stored, made_for).items() if a in self._plans}
        found = {**known, **{a: v for a, v in limits.items() if a not in known or not v.provisional}}
        data = stored_limits.encode(made_for, found)
        if any(not v.provisional for v in found.values()) and data != stored:
            with suppress(StorageError):  # they serve nevertheless
                self._chain.save_limits(data)
        return found
