# SPDX-License-Identifier: Apache-2.0
"""Report on a round: who was in it, and what nodes report of the model on their held-back data. Pure.

Reported figures are claims: those of a single node cannot make a sum overflow or push others' names out.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..rounds import central_privacy
from ..rounds.average import DueRound, RoundResult
from ..rounds.central_privacy import Privacy
from ..rounds.contribution import Contribution

MAX_METRICS = 20  # a release's header has room for 32 figures
LARGEST = 1e12
NAME = re.compile(r"[A-Za-z0-9_.-]{1,32}")
OWN_SHARE = "base_own_share"  # how much a site's own model counts beside the release in what decides there
ERRORS = ("loss", "rmse", "mae", "own")  # metrics where less is better; of all others more is


def evaluate(rows: Sequence[Contribution], weights: NDArray[np.float64]) -> dict[str, dict[str, Any]]:
    """Summarise each metric: weighted mean, standard deviation over the sites, the worst site, how many reported it.

    `base_…` is of the release that the nodes trained on, `local_…` of what each made of it. Of too many metrics those
    that most sites report stay.
    """
    counts = Counter(name for row in rows for name in row.metrics if NAME.fullmatch(name))
    known = sorted(counts, key=lambda name: (-counts[name], name))[:MAX_METRICS]
    return {name: _metric(name, rows, weights) for name in sorted(known)}


def report(
    made: RoundResult, due: DueRound, privacy: Privacy | None, mode: str
) -> tuple[dict[str, float], dict[str, Any]]:
    """Make the figures for the signed release, and the details that stay here.

    With privacy the release has only what was spent, and nothing of what nodes are or report.
    """
    left = [u for u in due.updates if made.shares[u.node]]
    evaluation = evaluate(left, np.array([made.shares[u.node] for u in left]))
    nodes = {
        u.node: {"samples": u.samples, "staleness": u.staleness, "share": made.shares[u.node]} for u in due.updates
    }
    details = {"evaluation": evaluation, "nodes": nodes, "damping": made.damping, "serves": serves(left)}
    if privacy:
        return central_privacy.figures(made.state.spent, privacy), details
    figures = {name: metric["mean"] for name, metric in evaluation.items()}
    figures |= {"nodes": float(len(left)), "samples": float(sum(u.samples for u in left))}  # no node names them
    if mode == "asynchronous":
        figures["staleness"] = float(sum(u.staleness for u in left)) / len(left)
    return figures, details


def serves(rows: Sequence[Contribution]) -> dict[str, int]:
    """How many sites say that mostly the release decides there, mostly their own model, or nothing of it."""
    told = [row.metrics.get(OWN_SHARE) for row in rows]
    mostly_own = sum(share is not None and share > 1 / 2 for share in told)
    return {"release": len(told) - told.count(None) - mostly_own, "own model": mostly_own, "not said": told.count(None)}


def lower_is_better(name: str) -> bool:
    """Whether a metric is an error: its name ends so, but for the target (`base_rmse_load`)."""
    return any(word in ERRORS for word in name.split("_")[:2])


def _metric(name: str, rows: Sequence[Contribution], weights: NDArray[np.float64]) -> dict[str, Any]:
    have = [(r.node, r.metrics[name], w) for r, w in zip(rows, weights, strict=True) if name in r.metrics]
    values = np.clip([value for _, value, _ in have], -LARGEST, LARGEST)
    share = np.array([w for _, _, w in have])
    mean = float((values * share).sum() / share.sum())
    at = int(values.argmax() if lower_is_better(name) else values.argmin())
    return {
        "mean": mean,
        "spread": float(values.std()),
        "worst": float(values[at]),
        "worst_node": have[at][0],
        "nodes": len(have),
    }
