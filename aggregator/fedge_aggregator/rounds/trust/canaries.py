"""How releases that a node had a part in fare at other sites.

Each update tells, in its metrics, the loss of its base release on what its site holds back (`base_loss`; a gateway with
fewer than ten held-back samples tells none). So two updates of one site say what the release between them did there. A
node that sometimes has no part (it is slow, away, or in quarantine) can then be told by the difference: are releases
with it worse, at the other sites, than those without?

What nodes tell are claims: of each release only the median over the other sites counts, a minority cannot move it
far. Still, hostile nodes could behave badly just when an honest one takes part; so this finding is soft: by itself it
halves a node's weight at most (`standing.judged`). Pure; the history is kept by the caller, as JSON.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping

import msgspec
import numpy as np
from fedge_models.system.structs import known
from numpy.typing import NDArray

from .suspicion import Finding

LENGTH = 40  # releases remembered
FEWEST, FEWEST_SITES = 5, 3  # releases with it and without it; sites that tell
SMALL_LOSS = 0.05  # a loss this small doubles by nothing at all
CERTAIN, MATTERS = 3.0, 0.02  # standard errors; of the logarithm of the loss


@known
class Outcome(msgspec.Struct, frozen=True, array_like=True):
    """What became of one release."""

    release: int
    part: tuple[str, ...]  # nodes whose updates weighed something in it
    change: dict[str, float]  # at each site that told: logarithm of its loss over that of the release before


History = tuple[Outcome, ...]


def record(
    history: History, release: int, part: tuple[str, ...], before: Mapping[str, float], after: Mapping[str, float]
) -> History:
    """With one more release: who had a part in it, and `base_loss` of the sites before and with it."""
    told = [n for n in sorted(after) if n in before and np.isfinite([before[n], after[n]]).all()]
    change = {n: float(np.log(max(after[n], SMALL_LOSS)) - np.log(max(before[n], SMALL_LOSS))) for n in told}
    return (*history[1 - LENGTH :], Outcome(release, tuple(sorted(part)), change))


def find(history: History) -> dict[str, Finding]:
    """Nodes with whom releases are clearly worse elsewhere than without them."""
    nodes = sorted({n for outcome in history for n in outcome.part})
    ordered = [sorted(outcome.change.values()) for outcome in history]  # once, not for each node
    found = {n: _worse(history, ordered, n) for n in nodes}
    return {n: f for n, f in found.items() if f is not None}


def _worse(history: History, ordered: list[list[float]], node: str) -> Finding | None:
    told = zip(history, ordered, strict=True)
    others = [(node in o.part, _others(values, o.change.get(node))) for o, values in told]
    changes = [(part, _middle(values)) for part, values in others if len(values) >= FEWEST_SITES]
    having, lacking = (np.array([c for part, c in changes if part is had]) for had in (True, False))
    if min(len(having), len(lacking)) < FEWEST:
        return None
    rise = float(having.mean() - lacking.mean())
    error = (_square_error(having) + _square_error(lacking)) ** 0.5  # Welch 1947
    if rise <= max(MATTERS, CERTAIN * error):
        return None
    words = f"was followed by releases {np.expm1(rise):.0%} worse at other sites than those it had no part in"
    return Finding(0.25, "canary", words, soft=True)


def _others(ordered: list[float], own: float | None) -> list[float]:
    """Without the node's own."""
    at = len(ordered) if own is None else bisect_left(ordered, own)
    return ordered[:at] + ordered[at + 1 :]


def _middle(ordered: list[float]) -> float:
    """The median."""
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def _square_error(values: NDArray[np.float64]) -> float:
    return float(values.var(ddof=1)) / len(values)
