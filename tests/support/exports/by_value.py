# SPDX-License-Identifier: Apache-2.0
"""Find numbers of one vector in another by their exact values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[Any]


def by_value(theirs: Rows, ours: Rows) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """For each of ours, where it is in theirs, and whether there is no doubt."""
    distinct, first, counts = np.unique(theirs, return_index=True, return_counts=True)
    _, place, times = np.unique(ours, return_inverse=True, return_counts=True)
    found = np.minimum(np.searchsorted(distinct, ours), len(distinct) - 1)
    return first[found], (distinct[found] == ours) & (counts[found] == 1) & (times[place] == 1)
