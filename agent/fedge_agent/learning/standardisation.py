# SPDX-License-Identifier: Apache-2.0
"""The standardisation of one model at this site: the card's, the stored one, or one fitted to the site's samples.

It is fitted once there are enough samples, and again whenever they have grown by a twentieth or an alarm was accepted
as the new normal. It is stored beside the release that serves: samples may be lost, and the model must see the same.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from fedge_models.errors import StorageError
from fedge_models.graph.card import Card
from fedge_models.graph.recipe import scale_recipe
from fedge_models.training import outliers, standardise
from fedge_models.training.standardise import Scale
from numpy.typing import NDArray

from ..durable.releases import ChainStore
from ..samples.baseline import Plan
from ..samples.event_book import EventBook
from ..samples.machine_recipe import machine_recipe
from ..samples.store import SampleStore
from ..samples.withholding import NORMAL

logger = logging.getLogger(__name__)

GROWTH = 1.05
SETTLING = 20  # samples, while the windows of an accepted alarm come in


class Standardisation:
    """The scale of model `name`, None until `restore` finds one or `refit` makes one.

    least: samples that the first fit needs; assets: those of the model; events: in which alarms are accepted.
    """

    def __init__(
        self,
        name: str,
        card: Card,
        shape: tuple[int, ...],
        chain: ChainStore,
        samples: SampleStore,
        least: int,
        assets: Mapping[str, Plan],
        events: EventBook | None,
    ) -> None:
        self.scale: Scale | None = None
        self.doubtful: list[str] = []  # channels with many values far from all others (`outliers.doubtful`)
        self.recipe = scale_recipe(card, (machine_recipe(card, plan.own) for plan in assets.values()))  # made for this
        self._name, self._card, self._shape = name, card, shape
        self._chain, self._samples = chain, samples
        self._least, self._assets, self._events = least, assets, events
        self._fitted_on = 0  # samples
        self._accepted = 0  # alarms that had been accepted then
        self._too_few = 0  # samples, when too few of them were usable
        self.too_few: int | None = None  # how many were usable, then

    def restore(self) -> None:
        """Take the stored scale or the card's own, unless there is one already."""
        if self.scale is not None:
            return
        # Versions up to 0.1 stored it with the samples.
        stored = self._chain.load_scale(self._shape, self.recipe) or self._samples.scale(self._name, self._shape)
        if stored is not None:
            self.scale, fitted_on = stored
            unbounded = self.scale.bounds is None and self._card.image is None  # of an older version: soon fitted again
            self._fitted_on = 0 if unbounded else fitted_on
        else:
            self.scale = standardise.given(self._card)
        self._note_precision()

    def refit(self, total: int, samples: Callable[[], NDArray[Any]]) -> bool:
        """Fit the scale again and store it, if that is worth its while; whether it was done.

        total: samples that were ever collected; samples: returns those to fit it to (n, *shape).
        """
        if not self.is_due(total):
            return False
        self._accepted, x = self._events.accepted if self._events else 0, samples()
        if len(x) < self._least:
            self._too_few, self.too_few = total, len(x)
            return False
        self.scale, self._fitted_on = standardise.fit(x, self._card), total
        self.doubtful = outliers.doubtful(x, self._card)
        self._note_precision()
        try:
            self._chain.save_scale(x.shape[1:], self.scale, total, self.recipe)
        except StorageError as e:  # it serves nevertheless, and is fitted again after a restart
            logger.warning("model %s: %s", self._name, e)
        return True

    def _note_precision(self) -> None:
        """Have samples be stored as finely as the scale needs them; as they are while there is none."""
        self._samples.is_fine(self._name, self.scale is not None and not self.scale.is_wide)

    def is_due(self, total: int) -> bool:
        """Whether a fit is worth its while, with so many samples."""
        accepted = self._events.accepted if self._events else 0
        again = max(GROWTH * self._too_few, self._too_few + SETTLING) if self._too_few else 0.0
        return accepted != self._accepted or total >= max(self._least, self._grown(), again)

    def _grown(self) -> float:
        """How many samples make another fit worth while: few, while the windows of an accepted alarm come in."""
        settles = self._events is not None and any(
            h.open and h.verdict == NORMAL and h.asset in self._assets for h in self._events.holds()
        )
        grown = GROWTH * self._fitted_on
        return min(grown, self._fitted_on + SETTLING) if settles else grown
