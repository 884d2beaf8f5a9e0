# SPDX-License-Identifier: Apache-2.0
"""Remember what the oldest windows of a machine alone give as its limit: the bound of its limits counts from it. Pure.

These windows are deleted at some time, and then the next oldest, which may be worse, must not take their place. Their
figure is stored with the limit. Scores of another model have another scale: how much larger it is show the windows
that both have scored (`TIMES` of them are noted). It is made anew where a person took what came later for normal.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from fedge_models.training.extremes import FARTHEST
from numpy.typing import NDArray

from .next_run import LEAST

TIMES = 64  # windows that are noted, spread over all that are stored
COMMON = 8  # of these, that are stored still; of fewer, the scale is not known

Floats = NDArray[np.floating]
Times = NDArray[np.int64]


class Anchor(NamedTuple):
    """The limit that the oldest windows gave, and scores of some windows by the same model."""

    score: float
    since_ns: int = 0  # windows before that do not count, as a person accepted what came then; 0: all do
    times: tuple[int, ...] = ()
    scores: tuple[float, ...] = ()

    def among(self, times: Times, scores: Floats) -> float | None:
        """The limit on the scale of these scores (n,), of windows that ended then; None: the scale is not known."""
        _, old, new = np.intersect1d(np.array(self.times, np.int64), times, return_indices=True)
        if len(old) < COMMON:
            return None
        ratios = np.log(np.maximum(scores[new], LEAST)) - np.log(np.maximum(np.array(self.scores)[old], LEAST))
        return self.score * math.exp(min(FARTHEST, max(-FARTHEST, float(np.median(ratios)))))


def note(score: float, since_ns: int, times: Times, scores: Floats) -> Anchor:
    """An anchor to store, with some of the windows that were scored."""
    some = np.unique(np.linspace(0, len(times) - 1, min(TIMES, len(times))).round().astype(np.intp))
    some = np.argsort(times, kind="stable")[some]
    return Anchor(score, since_ns, tuple(times[some].tolist()), tuple(scores[some].astype(np.float32).tolist()))
