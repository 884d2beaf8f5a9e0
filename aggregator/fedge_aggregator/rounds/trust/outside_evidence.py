"""What speaks for or against nodes beside their updates' own looks: other sites' canaries, and the operator's rows.

Pure. What canaries say builds up over rounds (`Seen`); the operator's rows are judged anew in each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.messages.quantize import Floats, dequantize
from fedge_models.system.structs import known
from numpy.typing import NDArray

from ..contribution import Contribution
from ..engine.update_rows import Rows
from . import canaries, heldback
from .canaries import History
from .heldback import HeldBack
from .suspicion import Finding

LOSS = "base_loss"  # the metric: of the base release, on what the site holds back
MOST_CODES = 64 << 20  # a round with more is not judged by the operator's rows: each update is held as float32 for it


@known
class Seen(msgspec.Struct, frozen=True):
    """What canaries have said so far."""

    history: History = ()
    part: tuple[str, ...] = ()  # who had a part in the newest release
    told: dict[str, float] = {}  # site -> its loss of the release before that


@dataclass(frozen=True)
class Court:
    """The operator's rows and the model to judge them by. Not thread-safe: the graph is used."""

    graph: TrainableGraph
    held: HeldBack


def listen(seen: Seen, updates: Sequence[Contribution], release: int) -> Seen:
    """With what the updates against `release` tell of it."""
    told = {u.node: u.metrics[LOSS] for u in updates if u.staleness == 0 and LOSS in u.metrics}
    return Seen(canaries.record(seen.history, release, seen.part, seen.told, told), seen.part, told)


def testify(
    seen: Seen,
    court: Court | None,
    updates: Sequence[Contribution],
    rows: Rows,
    weights: Floats,
    grid: Floats,
    shares: NDArray[np.float64],
) -> Mapping[str, Finding]:
    """Findings by node; a hard one before a soft one. weights, grid: the newest release's (P,); shares: (n,)."""
    found = canaries.find(seen.history)
    if court is None or rows.n * rows.d > MOST_CODES:
        return found
    deltas = [dequantize(row, grid) for row in rows.block(0, rows.d)]
    everyone, without = heldback.losses(court.graph, weights, deltas, shares, court.held)
    return {**found, **heldback.find([u.node for u in updates], everyone, without)}
