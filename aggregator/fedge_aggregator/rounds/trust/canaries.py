# SPDX-License-Identifier: Apache-2.0
"""Compare releases that a node took part in with those it did not, by their loss at other sites. Pure.

Each update carries in its metrics the loss of its base release on the site's held-back samples (`base_loss`; a gateway
with fewer than ten such samples reports none). So two updates of one site show what the release between them changed
there. A node that sometimes takes no part (it is slow, away, or in quarantine) gives releases of both kinds.

The losses are claims: of each release only the median over the other sites counts, which a minority cannot move far.
Hostile nodes could still misbehave exactly when an honest one takes part. So this finding is soft: alone it halves a
node's weight at most (`reputation.after_round`). The caller stores the history, as JSON.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping

import msgspec
import numpy as np
from fedge_models.system.structs import known
from numpy.typing import NDArray

from .suspicion import Finding

LENGTH = 40  # releases in the history
FEWEST, FEWEST_SITES = 5, 3  # releases with the node and without it; sites that report a loss
SMALL_LOSS = 0.05  # smaller losses are taken as this one: below it a doubling means nothing
CERTAIN, MATTERS = 3.0, 0.02  # standard errors; rise of the logarithm of the loss


@known
class Outcome(msgspec.Struct, frozen=True, array_like=True):
    """How one release changed the loss at the sites."""

    release: int
    participants: tuple[str, ...]  # nodes whose updates had a weight in it
    change: dict[str, float]  # site -> logarithm of its loss over that of the release before


History = tuple[Outcome, ...]


def record(
    history: History,
    release: int,
    participants: tuple[str, ...],
    before: Mapping[str, float],
    after: Mapping[str, float],
) -> History:
    """Add a release to the history.

    participants: nodes whose updates had a weight in it; before, after: `base_loss` by site, of the release before it
    and of this one.
    """
    sites = [n for n in sorted(after) if n in before and np.isfinite([before[n], after[n]]).all()]
    change = {n: float(np.log(max(after[n], SMALL_LOSS)) - np.log(max(before[n], SMALL_LOSS))) for n in sites}
    return (*history[1 - LENGTH :], Outcome(release, tuple(sorted(participants)), change))


def find(history: History) -> dict[str, Finding]:
    """Find nodes with whose updates releases are clearly worse at other sites than without."""
    nodes = sorted({n for outcome in history for n in outcome.participants})
    ordered = [sorted(outcome.change.values()) for outcome in history]  # once, not for each node
    found = {n: _worse(history, ordered, n) for n in nodes}
    return {n: f for n, f in found.items() if f is not None}


def _worse(history: History, ordered: list[list[float]], node: str) -> Finding | None:
    releases = zip(history, ordered, strict=True)
    others = [(node in o.participants, _without(values, o.change.get(node))) for o, values in releases]
    changes = [(took_part, _median(values)) for took_part, values in others if len(values) >= FEWEST_SITES]
    with_it, without = (np.array([c for took_part, c in changes if took_part is kind]) for kind in (True, False))
    if min(len(with_it), len(without)) < FEWEST:
        return None
    rise = float(with_it.mean() - without.mean())
    error = (_square_error(with_it) + _square_error(without)) ** 0.5  # Welch 1947
    if rise <= max(MATTERS, CERTAIN * error):
        return None
    return Finding(0.25, "canary", soft=True)


def _without(ordered: list[float], own: float | None) -> list[float]:
    """The changes without the node's own."""
    at = len(ordered) if own is None else bisect_left(ordered, own)
    return ordered[:at] + ordered[at + 1 :]


def _median(ordered: list[float]) -> float:
    """The median of sorted numbers."""
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def _square_error(values: NDArray[np.float64]) -> float:
    """The squared standard error of the mean."""
    return float(values.var(ddof=1)) / len(values)
