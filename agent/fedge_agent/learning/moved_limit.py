# SPDX-License-Identifier: Apache-2.0
"""The one place where a learnt limit is moved after it was made, with the bound of all moves together. Pure.

Closing codes move it by a factor (`moved`), and a new run of the machine moves what comes of that (`run_limit`). Both
together lift it no further than the larger of their bounds (`highest`), and nothing lifts it above what the stored
windows of a confirmed fault score now.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from .closing_codes import BELOW_FAULT
from .limits import Limit

LEAST, MOST = 0.9, 3.0  # of all factors together
APART_NS = 3600 * 10**9  # windows of one fault are no further apart
IN_A_ROW = 3  # windows of a fault that have to score above the limit: as many as open an event


def moved(limit: Limit, factors: Iterable[float], below: float = math.inf) -> Limit:
    """The limit times all factors; below: the score of a confirmed fault, which the limit stays below if it is above
    the limit that was learnt."""
    together = min(MOST, max(LEAST, math.prod(factors)))
    if together == 1.0 or not math.isfinite(limit.score):
        return limit
    score = limit.score * together
    if score > below:
        score = max(below, min(score, limit.score))
    return limit._replace(score=score)


def highest(limit: Limit, bounds: Iterable[float], below: float = math.inf) -> float:
    """What all moves together lift a learnt limit to at most; bounds: the factors that each may reach; below: as in
    `moved`."""
    return min(below, limit.score * max(bounds))


def below_faults(assets: Sequence[str], times: NDArray[np.int64], scores: NDArray[np.floating]) -> dict[str, float]:
    """What the limit of each asset stays below, by the scores of its windows that are labelled as faults (n,).

    Of each fault (windows that lie close together) the third-highest score counts, as three windows in a row open an
    event; of all faults of an asset the lowest.
    """
    found: dict[str, float] = {}
    for asset in set(assets):
        own = np.flatnonzero(np.array([a == asset for a in assets]))
        own = own[np.argsort(times[own], kind="stable")]
        for fault in np.split(own, np.flatnonzero(np.diff(times[own]) > APART_NS) + 1):
            highest = np.sort(scores[fault])[::-1]
            score = float(BELOW_FAULT * highest[min(IN_A_ROW, len(highest)) - 1])
            found[asset] = min(score, found.get(asset, math.inf))
    return found
