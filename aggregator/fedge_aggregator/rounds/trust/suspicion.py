"""From a round's evidence to what speaks against a node, in words. Pure; memory is `trust.py`'s.

Every finding is relative to what the others show in the same round, and none is made where the others themselves
do not agree: when updates are mostly noise, as near convergence, or sites pull apart, a direction proves nothing. The
thresholds were chosen by measurement (docs/benchmarks.md), so that honest sites with unusual data stay below.

Not found here, on purpose: near-copies (`Round.groups`). Whoever copies an honest update would have it accused; so
copies share one vote and nobody is blamed for being one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .evidence import Evidence, Round

Kind = Literal["", "against", "unrelated", "idle", "push", "harm", "canary", "replay"]

AGREE_SOME, AGREE, AGREE_MUCH = 0.2, 0.25, 0.3  # median cosine from which on a direction says something
AGAINST = 0.7  # of the usual cosine, the other way round
UNRELATED = 0.25  # of the usual cosine
NO_SUPPORT = 0.05  # cosine with the others one by one
FAR, VERY_FAR = 2.5, 3.0  # robust standard deviations below the median cosine
LEAST_SPREAD = 0.05  # of cosines: a fleet that agrees to the third digit has no outliers for it
IDLE = 0.01  # usual lengths
STEADY = 1.5  # of steadiness; 1 is what pushes in random directions give
STEADIER, FARTHER = 2.5, 1.6  # times the median of the others: how steady, and how far it came
AIMLESS = 1.3  # below it: a site with data of another kind wants something, noise does not
CROWD = 0.4  # of the voters: where more push, who is who cannot be told
PUSHED = 0.8  # usual lengths, in sum: less is no push worth a word


@dataclass(frozen=True)
class Finding:
    """What speaks against a node this round; blame 0: nothing does."""

    blame: float  # of a clearly bad round, 0 to 1
    kind: Kind
    words: str  # completes "its update ..."
    soft: bool = False  # lowers the weight, but leads by itself no further than half of the way to quarantine


@dataclass(frozen=True)
class Push:
    """What a node's own pushes of the last rounds add up to (`trust.py` keeps them)."""

    rounds: int  # judged so far
    steadiness: float  # squared sum over sum of squares: 1 at random, the number of rounds when always the same
    size: float  # of the sum, in usual lengths


GOOD = Finding(0.0, "", "")
REPLAY = Finding(0.0, "replay", "repeated what the last release had changed")  # no blame: `replays.py`
FEWEST_PUSHES = 6  # rounds before steadiness says anything


@dataclass(frozen=True)
class Usual:
    """What this round's voters show: medians that a minority cannot move far."""

    cosine: float
    spread: float  # of cosines, robust standard deviation
    steadiness: float
    size: float  # of pushes
    crowded: bool  # so many push steadily that it says nothing


def usual(round_: Round, pushes: Mapping[str, Push], votes: Mapping[str, float]) -> Usual:
    """Over the nodes that have a vote."""
    voters = sorted(n for n in round_.evidence if votes.get(n, 0.0) > 0)
    cosines = np.array([round_.evidence[n].cosine for n in voters])
    middle = float(np.median(cosines))
    spread = max(LEAST_SPREAD, 1.4826 * float(np.median(np.abs(cosines - middle))))
    steady = float(np.median([pushes[n].steadiness for n in voters]))
    size = float(np.median([pushes[n].size for n in voters]))
    crowd = sum(_steady(pushes[n], steady, size) for n in voters)
    return Usual(middle, spread, steady, size, crowd > CROWD * len(voters))


def find(evidence: Evidence, push: Push, others: Usual) -> Finding:
    """The gravest thing that its update and its last rounds say against a node."""
    if others.cosine >= AGREE_SOME and _against(evidence, others):
        return Finding(1.0, "against", f"pointed against the others' ({_compared(evidence, others)})")
    if others.cosine < AGREE:
        return GOOD
    if others.cosine >= AGREE_MUCH and evidence.length < IDLE:
        return Finding(0.25, "idle", f"said next to nothing ({evidence.length:.1%} of the usual length)")
    if others.cosine >= AGREE_MUCH and _apart(evidence, others) and push.steadiness < AIMLESS:
        said = _compared(evidence, others)
        return Finding(0.5, "unrelated", f"had nothing to do with the others', nor with its own before ({said})")
    if not others.crowded and _steady(push, others.steadiness, others.size):
        words = f"pushed the way it has pushed by itself for rounds (steadiness {push.steadiness:.1f}, usual "
        return Finding(0.5, "push", words + f"{others.steadiness:.1f})")
    return GOOD


def _against(evidence: Evidence, others: Usual) -> bool:
    """Well below the others, the other way round, and with the support of fewer than half of them."""
    far = others.cosine - evidence.cosine > FAR * others.spread
    return far and evidence.cosine < -AGAINST * others.cosine and evidence.support < 0


def _apart(evidence: Evidence, others: Usual) -> bool:
    far = others.cosine - evidence.cosine > VERY_FAR * others.spread
    return far and evidence.cosine < UNRELATED * others.cosine and evidence.support < NO_SUPPORT


def _compared(evidence: Evidence, others: Usual) -> str:
    return f"cosine {evidence.cosine:.2f} where {others.cosine:.2f} is usual"


def _steady(push: Push, steadiness: float, size: float) -> bool:
    """Against the medians of the others.

    Honest sites take their own drift back (`fedge_models.training.drift`), so that what is left of it has no direction.
    Where they do not (`drift_correction = 0`), all are steady, and only one that comes much farther than the others is
    found.
    """
    steady = push.steadiness > max(STEADY, STEADIER * steadiness)
    return steady and push.rounds >= FEWEST_PUSHES and push.size > max(PUSHED, FARTHER * size)
