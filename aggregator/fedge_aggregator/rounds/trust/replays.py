"""Updates that say nothing but what the last release has said already: free riders' (Lin, Du & Liu 2019).

Whoever trains nothing and sends the last release's own movement back, with some noise, agrees well with everyone, and
its update is shorter than any that learned something, for what the others do not share has been averaged out of it: so
it lies nearest to all of them. Mixing by nearest neighbours then takes such updates before honest ones, and what few
sites know is left out. Nothing is lost without them: the model has that movement.

A site that has nothing left to learn may send the same. So nobody is blamed for it: a replay weighs nothing in its
round, that is all. Near is relative: to how far the others are from the movement.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from fedge_models.messages.quantize import LIMIT
from fedge_models.messages.quantize import Floats as Vector

from .evidence import Floats

NEAR = 0.25  # of the usual 1 - cosine with the movement: half the usual chord; measured: docs/benchmarks.md


def direction(moved: Vector, grid: Vector) -> Vector:
    """A movement (P,) in parameter units as a row in grid steps that uses all of the grid; only its direction counts.

    Zeros for none.
    """
    row: Vector = moved / grid
    top = np.float32(np.abs(row).max(initial=0.0))
    return row * (np.float32(LIMIT) / top) if top > 0 else np.zeros_like(row)


def cosines(gram: Floats) -> Floats:
    """Of rows (n,) with the movement, whose inner products are the last row and column of (n + 1, n + 1).

    0 for a row, or a movement, of nothing.
    """
    lengths = np.sqrt(np.diag(gram))
    product = lengths[:-1] * lengths[-1]
    found: Floats = np.divide(gram[-1, :-1], product, out=np.zeros(len(product)), where=product > 0)
    return found


def find(names: Sequence[str], likeness: Floats, votes: Mapping[str, float], most: int) -> Collection[str]:
    """Who replays: fewer than half of those with a vote, and at most `most`; the nearest, then by name.

    likeness: cosines (n,) with the last release's movement.
    """
    far = {n: 1.0 - float(c) for n, c in zip(names, likeness, strict=True) if votes.get(n, 0.0) > 0}
    if not far:
        return ()
    usual = float(np.median(list(far.values())))
    near = sorted((n for n in far if far[n] < NEAR * usual), key=lambda n: (far[n], n))
    return near[: max(0, min(most, (len(far) - 1) // 2))]
