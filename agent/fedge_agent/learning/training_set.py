# SPDX-License-Identifier: Apache-2.0
"""The stored samples of one model that may be learnt from, as its graph takes them.

Left out are windows of an anomaly model that are withheld because of an alarm (`samples.withholding`), samples without
the label that the task needs, and samples with wild values (`outliers`). While samples cannot be read there are none,
and `unread` is set.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from fedge_models.errors import StorageError
from fedge_models.graph.card import Card
from fedge_models.training.outliers import HABIT, finite_rows
from fedge_models.training.standardise import Scale
from numpy.typing import NDArray

from ..samples.baseline import Plan
from ..samples.event_book import EventBook
from ..samples.held_units import Divided, divide
from ..samples.store import Kind, Rows, SampleStore
from ..samples.withholding import NORMAL, trainable
from .input_references import Inputs
from .readiness import Readiness, look
from .training import Data, usable, with_label

logger = logging.getLogger(__name__)

HISTORY = 1000  # samples from which a trend is computed when another model serves


class TrainingSet:
    """The samples of model `name` whose graph has this card and input shape.

    plans: what is learnt from each asset, and whether its windows count as normal without a label; events: whose
    windows are withheld; holdout: share of the units that is held back (`samples.units`). `divided`: how they were
    divided when they were read last.
    """

    def __init__(
        self,
        name: str,
        card: Card,
        shape: tuple[int, ...],
        samples: SampleStore,
        plans: Mapping[str, Plan],
        events: EventBook | None,
        holdout: float = 0.2,
    ) -> None:
        self._holdout, self.divided = holdout, Divided()
        self._name, self._card, self._shape = name, card, shape
        self._samples, self._plans, self._events = samples, plans, events
        self._kind: Kind = np.float32 if card.image is None else np.uint8
        self._left_out: dict[bool, int] = {}  # of the held-back part, and of the other
        self.newest_ns = 0  # source time of the newest sample to train on, when they were last read
        self.last = 0  # the highest id of all samples, when those to train on were last read
        self.unread = False  # samples could not be read the last time

    @property
    def left_out(self) -> int:
        """Samples that count for no limit and no training, because a value in them is wild."""
        return sum(self._left_out.values())

    @property
    def readable_again(self) -> bool:
        """Whether samples that could not be read can be by now."""
        return self.unread and self._samples.tables.problem is None

    @property
    def accepted(self) -> dict[str, int]:
        """Since when (ns) an asset does what a person took for the new normal last."""
        holds = sorted(
            (h.start_ns, h.asset) for h in (self._events.holds() if self._events else ()) if h.verdict == NORMAL
        )
        return {asset: start_ns for start_ns, asset in holds}

    def usable(self, scale: Scale, held: bool, divided_now: bool = True) -> Data:
        """Standardised samples to train on, without wild ones; `held`: those to evaluate with.

        divided_now: whether they are divided into the two parts anew; else as at the last time, so that the other part
        belongs to this one although samples came in between.
        """
        last = self._samples.last_id(self._name)
        task, found = self._card.task, self._load(held, scale.is_wide, divided_now)
        if not held:
            self.last = last
            self.newest_ns = int(found.times.max()) if len(found.times) else 0
        data = usable(task, self._with_units(found), self._are_labelled(found.assets))
        # A label says what a sample is, however far away it lies; a sample without one only seems to be normal.
        keep = _plausible(scale, data) if task not in ("classify", "multilabel") else finite_rows(data.x)
        labelled = int(finite_rows(found.y).sum()) if task == "regress" else len(data.x)
        self._left_out[held] = labelled - int(keep.sum())
        data = data.part(keep)
        return data._replace(x=scale(data.x))

    def labelled(self, scale: Scale) -> Data:
        """Standardised held-back samples whose label is known, wild ones too."""
        found = self._load(True, scale.is_wide)
        data = self._with_units(found).part(finite_rows(found.x))
        return with_label(self._card.task, data._replace(x=scale(data.x)))

    def to_scale(self) -> NDArray[Any]:
        """What a standardisation is fitted to: all samples (n, *shape), of an anomaly model those that are normal."""
        found = self._load(None, wide=True)
        if self._card.task != "anomaly":
            return found.x
        return usable("anomaly", Data(found.x, found.y), self._are_labelled(found.assets)).x

    def inputs(self) -> Inputs:
        """What may be learnt from, before standardisation and with its times."""
        found = self._load(None, wide=True)
        numbers: NDArray[Any] = np.arange(len(found.x))
        kept = usable(self._card.task, Data(numbers, found.y), self._are_labelled(found.assets)).x.astype(np.intp)
        return Inputs(found.x, kept, found.assets[kept], found.times[kept])

    def ready(self, assets: Sequence[str], least: int) -> Readiness:
        """Whether the samples are fit to train on; least: how many a training needs."""
        part = self._load(False, wide=True)
        numbers: NDArray[Any] = np.arange(len(part.x))
        trained_on = len(usable(self._card.task, Data(numbers, part.y), self._are_labelled(part.assets)).x)
        del part, numbers  # the samples are not to be in memory twice
        return look(self._card, self._shape, self._load(None, wide=True), trained_on, least, assets)

    def history(self, span_s: float) -> Iterator[tuple[str, int, NDArray[Any]]]:
        """(asset, time in ns, x) of samples of the last `span_s` seconds, oldest first. Raises StorageError."""
        since = self._samples.newest(self._name) - round(span_s * 1e9)
        yield from self._samples.history(self._name, self._shape, since, HISTORY, self._kind)

    def _load(self, held: bool | None, wide: bool, divided_now: bool = True) -> Rows:
        """Samples of one part or (None) all that may be learnt from, before standardisation."""
        card = self._card
        # Values of a sample's label; 0: a class.
        targets = max(1, len(card.measured)) if card.task in ("regress", "multilabel") else 0
        try:
            if held is not None and divided_now:
                self.divided = divide(self._samples.tables, self._name, card, self._holdout)
            found = self._samples.rows(self._name, self._shape, held, targets, self._kind, wide)
            if held is not None:  # what came meanwhile may belong to a unit of the other part
                found = found.part(np.isin(found.numbers, self.divided.numbers))
            return found if card.task != "anomaly" else self._not_withheld(found)
        except StorageError as e:  # it serves with what is stored beside the release
            if not self.unread:
                logger.error("model %s: %s; it decides without them", self._name, e)
            self.unread = True
            y = np.zeros((0, targets) if targets > 1 else 0, np.float64 if targets else np.int64)
            none = np.zeros(0, np.int64)
            return Rows(np.zeros((0, *self._shape), self._kind), y, np.zeros(0, np.str_), none, none)

    def _with_units(self, found: Rows) -> Data:
        at = np.searchsorted(self.divided.numbers, found.numbers)
        return Data(found.x, found.y, found.assets, self.divided.units[at], self.divided.shares[at], found.times)

    def _not_withheld(self, found: Rows) -> Rows:
        """Keep the samples of an anomaly model that count as normal. Raises StorageError."""
        if self._events is None:
            return found
        keep = trainable(found.assets, found.times, found.y >= 0, self._events.holds(), self._young())
        return found if keep.all() else found.part(keep)

    def _are_labelled(self, assets: NDArray[np.str_]) -> NDArray[np.bool_]:
        """Which samples (n,) are of an asset whose windows get labels, or of one that is no longer configured beside
        such assets."""
        unlabelled = np.array([name for name, plan in self._plans.items() if not plan.labelled], np.str_)
        return np.isin(assets, unlabelled, invert=True) & (len(unlabelled) < len(self._plans))

    def _young(self) -> dict[str, tuple[int, int]]:
        """Source time of the windows after which an alarm could still come, of assets whose baseline is complete."""
        found = {}
        for asset, last in self._samples.last_times(self._name).items():
            plan = self._plans.get(asset, Plan())
            if plan.learn_after_ns and self._samples.covered_ns(self._name, asset) >= plan.span_ns:
                found[asset] = (last - plan.learn_after_ns, last)
        return found


def _plausible(scale: Scale, data: Data) -> NDArray[np.bool_]:
    """Which samples (n,) are not wild. Machines of one model differ: where more than a quarter of a machine's own are
    far from those of the others, that is how this machine is."""
    keep = scale.plausible(data.x)
    for asset in np.unique(data.assets[~keep]):
        own = data.assets == asset
        if keep[own].mean() < 1 - HABIT:
            keep[own] = finite_rows(data.x[own])
    return keep
