"""The mean of rows none of which is longer than most."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from msgspec import Meta

from .centred_clipping import shrink
from .rule import Gram, WeightRule, Weights


class NormClipping(WeightRule, frozen=True, forbid_unknown_fields=True):
    """The mean of the rows, each shortened to at most `radius`: Sun et al. 2019.

    Without `radius` it is the median length of the rows, which a minority f < n / 2 cannot push beyond honest rows. A
    hostile row moves the result by at most radius / n, in a direction of its choice, every round: this bounds harm, it
    does not remove it.
    """

    radius: Annotated[float, Meta(gt=0)] | None = None  # grid steps, over the whole row; none: the median length

    @property
    def pairs(self) -> bool:
        """No: lengths do."""
        return False

    def minimum(self) -> int:
        """Three: a median of two lengths is nobody's."""
        return 3

    def select(self, gram: Gram, weights: Weights) -> Weights:
        """1 / n, less for long rows."""
        return shrink(np.sqrt(np.diag(gram)), self.radius) / len(gram)
