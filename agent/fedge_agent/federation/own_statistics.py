# SPDX-License-Identifier: Apache-2.0
"""What this site says of its channels, and what it sees of them itself. Pure.

Sent are histograms of the readings of all machines of a model together (`fedge_models.statistics`). What is compared
here is of one machine, and exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from fedge_models.statistics.columns import Column
from fedge_models.statistics.comparison import Difference, Own, compare
from fedge_models.statistics.histogram import Histogram, describe
from fedge_models.statistics.over_sites import Summary
from numpy.typing import NDArray

from ..samples.reservoir import Held

LEAST_OWN = 16  # values of a channel from which on a machine's quantiles are shown
LEAST_SENT = 64  # windows from which on a site's histograms are sent


def histograms(held: Sequence[Held], width: int) -> tuple[Histogram | None, ...]:
    """Each column over all machines of a model."""
    fitting = [h for h in held if len(h.names) == width - 1]
    return tuple(describe(np.concatenate([_column(h, i) for h in fitting] or [np.empty(0)])) for i in range(width))


def own(held: Held) -> list[Own | None]:
    """Each column of one machine."""
    return [_own(_column(held, i)) for i in range(len(held.names) + 1)]


def differences(held: Held, columns: Sequence[Column], over: Sequence[Summary | None] | None) -> list[Difference]:
    """Each column of one machine beside the same over sites, those that differ most first."""
    if len(held.names) != len(columns) - 1:
        return []
    known = over if over is not None else [None] * len(columns)
    return compare([c.name for c in columns], [c.unit for c in columns], own(held), known)


def plain(machines: Mapping[str, tuple[Held, list[Difference]]]) -> dict[str, Any]:
    """Comparisons as plain data, by machine."""
    return {
        name: {"windows": held.seen, "channels": [msgspec.to_builtins(d) for d in found]}
        for name, (held, found) in machines.items()
    }


def rounded(windows: int, most: int) -> int:
    """A number of windows as it is sent: a power of two."""
    return min(most, 1 << max(0, windows.bit_length() - 1))


def _column(held: Held, index: int) -> NDArray[np.float64]:
    """The finite values of a column; the last one is the score."""
    values = held.scores if index == len(held.names) else held.values[:, index].ravel()
    return values[np.isfinite(values)].astype(np.float64)


def _own(values: NDArray[np.float64]) -> Own | None:
    return Own.of(values) if len(values) >= LEAST_OWN else None
