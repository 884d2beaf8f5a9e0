# SPDX-License-Identifier: Apache-2.0
"""Report on a round: who was in it, and what nodes report of the model on their held-back data. Pure.

Reported figures are claims. So each figure of a release is a median over the sites, and of metrics that most sites
report: fewer than half of them, if they lie, move it no further than some honest site says. What a single node claims
is shown here, with its name, and not signed.
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
from ..rounds.start_value import Start

MAX_METRICS = 28  # a release has room for 32 figures, and four are of the round itself
LARGEST = 1e12
NAME = re.compile(r"[A-Za-z0-9_.-]{1,32}")
OWN_SHARE = "base_own_share"  # how much a site's own model counts beside the release in what decides there
OLDER = "base_serves"  # only of a site that refused the base of its update: the release that serves there
ERRORS = ("loss", "rmse", "mae", "own", "unit")  # metrics where less is better; of all others more is


def evaluate(rows: Sequence[Contribution]) -> dict[str, dict[str, Any]]:
    """Summarise each metric: median over the sites, spread around it, the worst site, how many reported it.

    Spread is the median distance from the median: one site cannot move it far either. `base_…` is of the release that
    the nodes trained on, `local_…` of what each made of it. Of too many metrics those that most sites report stay.
    """
    counts = Counter(name for row in rows for name in row.metrics if name != OLDER and NAME.fullmatch(name))
    known = sorted(counts, key=lambda name: (-counts[name], name))[:MAX_METRICS]
    return {name: _metric(name, rows) for name in sorted(known)}


def report(
    made: RoundResult, due: DueRound, privacy: Privacy | None, mode: str
) -> tuple[dict[str, float], dict[str, Any]]:
    """Make the figures for the signed release, and the details that stay here.

    With privacy the release has only what was spent, and nothing of what nodes are or report.
    """
    left = [u for u in due.updates if made.shares[u.node]]
    evaluation = evaluate(left)
    nodes = {
        u.node: {"samples": u.samples, "staleness": u.staleness, "share": made.shares[u.node]} for u in due.updates
    }
    details = {"evaluation": evaluation, "nodes": nodes, "damping": made.damping, "serves": serves(left)}
    if made.start is not None:
        details["start_value_of_sites"] = made.start.sites
        if not made.start.sites:
            details["start_value_stays"] = _why_it_stays(made.start, len(due.updates), privacy is not None)
    if privacy:
        return central_privacy.figures(made.state.spent, privacy), details
    figures = {name: metric["median"] for name, metric in evaluation.items() if 2 * metric["nodes"] > len(left)}
    figures |= {"nodes": float(len(left)), "samples": _median([u.samples for u in left])}  # no node names them
    if mode == "asynchronous":
        figures["staleness"] = _median([u.staleness for u in left])
    return figures, details


def _why_it_stays(start: Start, updates: int, private: bool) -> str:
    """Why a release does not follow the sites' local tensors, in words for operators."""
    if private:
        return "there is privacy at the aggregator"
    return f"too few offers: {start.offers} of {start.needed} needed, for {updates} updates"


def serves(rows: Sequence[Contribution]) -> dict[str, int]:
    """How many sites say that mostly the base of their update decides there, an older release that they serve as they
    refused that, mostly their own model, or nothing of it."""
    found = Counter(map(_decides, rows))
    older = {"older release": found["older release"]} if found["older release"] else {}
    return {"release": found["release"], **older, **{name: found[name] for name in ("own model", "not said")}}


def _decides(row: Contribution) -> str:
    """What mostly decides at a site, by what it says."""
    share = row.metrics.get(OWN_SHARE)
    if share is not None and share > 1 / 2:
        return "own model"
    if OLDER in row.metrics:
        return "older release"
    return "not said" if share is None else "release"


def lower_is_better(name: str) -> bool:
    """Whether a metric is an error: its name ends so, but for the target (`base_rmse_load`)."""
    return any(word in ERRORS for word in name.split("_")[:2])


def _metric(name: str, rows: Sequence[Contribution]) -> dict[str, Any]:
    have = [(r.node, r.metrics[name]) for r in rows if name in r.metrics]
    values = np.clip([value for _, value in have], -LARGEST, LARGEST)
    middle = _median(values)
    at = int(values.argmax() if lower_is_better(name) else values.argmin())
    return {
        "median": middle,
        "spread": _median(np.abs(values - middle)),
        "worst": float(values[at]),
        "worst_node": have[at][0],
        "nodes": len(have),
    }


def _median(values: Sequence[float] | NDArray[np.float64]) -> float:
    return float(np.median(values))
