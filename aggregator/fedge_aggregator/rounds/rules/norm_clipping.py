# SPDX-License-Identifier: Apache-2.0
"""The mean of the rows after long ones are shortened."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from msgspec import Meta

from .centred_clipping import shrink
from .rule import Gram, WeightRule, Weights


class NormClipping(WeightRule, frozen=True, forbid_unknown_fields=True):
    """The mean of the rows, each shortened to at most `radius`: Sun et al. 2019.

    Without `radius` it is the median length of the rows, which a minority f < n / 2 cannot push beyond honest rows. A
    hostile row moves the result by at most radius / n each round, in any direction: the harm is bounded, not removed.
    """

    radius: Annotated[float, Meta(gt=0)] | None = None  # grid steps, over the whole row; none: the median length

    @property
    def pairs(self) -> bool:
        """No: it uses only the lengths of rows."""
        return False

    def minimum(self) -> int:
        """Three: with two, each length decides half of the median."""
        return 3

    def holds(self, n: int) -> int:
        """None: it bounds harm and does not remove it."""
        return 0

    def select(self, gram: Gram, weights: Weights) -> Weights:
        """1 / n, less for long rows."""
        return shrink(np.sqrt(np.diag(gram)), self.radius) / len(gram)
