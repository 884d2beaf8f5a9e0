# SPDX-License-Identifier: Apache-2.0
"""Evidence from outside the updates: losses that other sites report of past releases, and held-back rows. Pure.

Reported losses are collected over rounds (`LossReports`); the operator's held-back rows are used in every round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.messages.quantize import Floats, dequantize
from fedge_models.system.structs import known
from msgspec import field
from numpy.typing import NDArray

from ..engine.update_rows import Rows
from . import canaries, heldback
from .canaries import History
from .heldback import HeldBack
from .suspicion import Finding

MOST_CODES = 64 << 20  # held-back rows are not used in larger rounds: they need each update as float32


@known
class LossReports(msgspec.Struct, frozen=True):
    """What sites have reported of releases so far. The JSON keeps the field names that earlier state folders have."""

    history: History = ()
    participants: tuple[str, ...] = field(default=(), name="part")  # nodes whose updates are in the newest release
    losses: dict[str, float] = field(default_factory=dict, name="told")  # site -> its loss of the release before that


@dataclass(frozen=True)
class HeldBackCheck:
    """The operator's held-back rows, and the model to compute their losses with. Not thread-safe: it uses the graph."""

    graph: TrainableGraph
    held: HeldBack


def add_losses(reports: LossReports, losses: Mapping[str, float], release: int) -> LossReports:
    """Add what sites report of `release`: site -> its loss."""
    history = canaries.record(reports.history, release, reports.participants, reports.losses, losses)
    return LossReports(history, reports.participants, dict(losses))


def find(
    reports: LossReports,
    check: HeldBackCheck | None,
    names: Sequence[str],
    rows: Rows,
    weights: Floats,
    grid: Floats,
    shares: NDArray[np.float64],
) -> Mapping[str, Finding]:
    """Findings by node; one from held-back rows takes precedence over one from reported losses.

    names: of the nodes (n,) whose updates are `rows`; weights, grid: the newest release's (P,); shares: (n,).
    """
    found = canaries.find(reports.history)
    if check is None or rows.n * rows.d > MOST_CODES:
        return found
    deltas = [dequantize(row, grid) for row in rows.block(0, rows.d)]
    everyone, without = heldback.losses(check.graph, weights, deltas, shares, check.held)
    return {**found, **heldback.find(names, everyone, without)}
