# SPDX-License-Identifier: Apache-2.0
"""Which windows of an anomaly model count as normal: not those of an alarm, nor of the time before it. Pure.

A *hold* withholds the windows of one alarm, from a stretch before it to its end, whether or not it made an event
(within `min_gap` it makes none). A person or the MES decides on it: a fault stays out permanently, the new normal
becomes data. Until then it is withheld. A window whose label is known is what its label says. Windows that are still so
young that an alarm could follow are left out too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FOREVER_NS = 1 << 62
FAULT, NORMAL = "fault", "normal"  # verdicts on a hold; "": there is none yet


class Hold(NamedTuple):
    """The windows of one alarm. Times are source time, both ends included."""

    name: str  # never used twice
    key: str  # of the event; of the last one, when the alarm made none
    asset: str
    start_ns: int
    end_ns: int = FOREVER_NS  # while the alarm lasts
    verdict: str = ""

    @property
    def open(self) -> bool:
        """Whether the alarm lasts."""
        return self.end_ns == FOREVER_NS


def spans(asset_holds: Iterable[Hold]) -> list[tuple[int, int]]:
    """The times that the holds of one asset withhold, without those that are accepted; each once, oldest first, both
    ends included. Holds overlap, because each begins well before its alarm."""
    steps = [
        (at, hold.verdict == NORMAL, by)
        for hold in asset_holds
        if hold.start_ns <= hold.end_ns
        for at, by in ((hold.start_ns, 1), (hold.end_ns + 1, -1))
    ]
    made, began, count = list[tuple[int, int]](), None, {False: 0, True: 0}  # accepted or not -> holds at this time
    for at, changes in groupby(sorted(steps), key=lambda step: step[0]):
        for _, accepted, by in changes:
            count[accepted] += by
        inside = count[False] > 0 and count[True] == 0
        if began is not None and not inside:
            made.append((began, at - 1))
        began = (at if began is None else began) if inside else None
    return made


def trainable(
    assets: NDArray[np.str_],
    times: NDArray[np.int64],
    labelled: NDArray[np.bool_],
    holds: Iterable[Hold],
    young: Mapping[str, tuple[int, int]],
) -> NDArray[np.bool_]:
    """Which windows (n,) may be learnt from. young: asset -> (after, until), times of those that are too young."""
    names, whose = np.unique(assets, return_inverse=True)
    index = {str(name): i for i, name in enumerate(names)}
    keep, accepted = np.ones(len(times), np.bool_), np.zeros(len(times), np.bool_)
    for asset, (after, until) in young.items():
        if asset in index:
            keep &= ~((whose == index[asset]) & (times > after) & (times <= until))
    for hold in holds:
        if hold.asset not in index:
            continue
        inside = (whose == index[hold.asset]) & (times >= hold.start_ns) & (times <= hold.end_ns)
        if hold.verdict == NORMAL:
            accepted |= inside
        else:
            keep &= ~inside
    return keep | accepted | labelled
