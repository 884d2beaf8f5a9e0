# SPDX-License-Identifier: Apache-2.0
"""Find updates that only repeat the change of the last release: those of free riders (Lin, Du & Liu 2019).

A node that trains nothing and sends the last release's own change back, with some noise, agrees well with all others.
Its update is shorter than those that learned something, because what the sites do not share has been averaged out of
it. So it lies nearest to all of them: mixing by nearest neighbours prefers it to honest updates, and what only few
sites know is left out. Nothing is lost without it: the model already has that change.

A site that has nothing left to learn may send the same. So nobody is blamed: a replay has no weight in its round, that
is all. Near is relative to how far the others are from the change.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from fedge_models.messages.quantize import LIMIT
from fedge_models.messages.quantize import Floats as Vector

from .evidence import Floats

NEAR = 0.25  # of the usual 1 - cosine with the change: half the usual chord; measured: docs/benchmarks.md


def direction(change: Vector, grid: Vector) -> Vector:
    """Scale a change (P,) in parameter units to a row in grid steps that uses the whole grid.

    Only its direction counts. Zeros stay zeros.
    """
    row: Vector = change / grid
    top = np.float32(np.abs(row).max(initial=0.0))
    return row * (np.float32(LIMIT) / top) if top > 0 else np.zeros_like(row)


def cosines(gram: Floats) -> Floats:
    """Cosines (n,) of rows with the change, from inner products (n + 1, n + 1) of which the change has the last.

    0 for a row, or a change, of zeros.
    """
    lengths = np.sqrt(np.diag(gram))
    product = lengths[:-1] * lengths[-1]
    found: Floats = np.divide(gram[-1, :-1], product, out=np.zeros(len(product)), where=product > 0)
    return found


def find(names: Sequence[str], similarity: Floats, votes: Mapping[str, float], most: int) -> Collection[str]:
    """Names of the nodes that replay: fewer than half of those with a vote, at most `most`; the nearest, then by name.

    similarity: cosines (n,) with the last release's change.
    """
    far = {n: 1.0 - float(c) for n, c in zip(names, similarity, strict=True) if votes.get(n, 0.0) > 0}
    if not far:
        return ()
    usual = float(np.median(list(far.values())))
    near = sorted((n for n in far if far[n] < NEAR * usual), key=lambda n: (far[n], n))
    return near[: max(0, min(most, (len(far) - 1) // 2))]
