# SPDX-License-Identifier: Apache-2.0
"""Find what speaks against a node in a round's evidence. Pure; `reputation.py` remembers the findings.

Every finding is relative to what the other updates show in the same round. None is made where those do not agree: when
updates are mostly noise, as near convergence, or sites pull apart, a direction proves nothing. The thresholds were
chosen by measurement (docs/benchmarks.md), so that honest sites with unusual data stay below them.

Near-copies (`RoundEvidence.groups`) are no finding, on purpose: whoever copies an honest update would have its sender
accused. Near-copies share one vote, and no node is blamed for being one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from .evidence import Evidence, RoundEvidence

Kind = Literal["", "against", "unrelated", "idle", "push", "harm", "canary", "replay"]

AGREE_SOME, AGREE, AGREE_MUCH = 0.2, 0.25, 0.3  # median cosine from which on a direction means something
AGAINST = 0.7  # times the usual cosine, with the opposite sign
TOGETHER = 4  # rounds that count together, where the others do not agree in the last of them
UNRELATED = 0.25  # times the usual cosine
NO_SUPPORT = 0.05  # weighted median of the cosines with each of the others
FAR, VERY_FAR = 2.5, 3.0  # robust standard deviations below the median cosine
LEAST_SPREAD = 0.05  # of cosines: among sites that agree to the third digit none is an outlier for it
IDLE = 0.01  # usual lengths
STEADY = 1.5  # steadiness; pushes in random directions have 1
STEADIER, FARTHER = 2.5, 1.6  # times the median of the others: steadiness and size of the push
AIMLESS = 1.3  # steadiness; a site with other data pushes more steadily than this, noise does not
LOST = 0.3  # of the part of its record's direction that an update should keep; noise keeps none
FEW = 7  # voters: among fewer sites that differ, one whose data are peculiar looks as an attacker does
CROWD = 0.4  # share of the voters: where more push steadily, an attacker cannot be told from a site
PUSHED = 0.8  # usual lengths, of the sum of pushes: a smaller one is no finding


@dataclass(frozen=True)
class Finding:
    """What speaks against a node in one round; blame 0: nothing does."""

    blame: float  # 0 to 1; 1 is a clearly bad round
    kind: Kind
    soft: bool = False  # lowers the weight, but alone never raises suspicion above half of the limit


class Earlier(NamedTuple):
    """What an earlier round showed of a node."""

    cosine: float
    usual: float
    kind: Kind


@dataclass(frozen=True)
class Push:
    """The sum of what a node's last updates did not share with the others (`reputation.py` stores it)."""

    rounds: int  # assessed so far
    steadiness: float  # squared length of the sum over the sum of squares: 1 at random, the number of rounds at most
    size: float  # length of the sum, in usual lengths
    kept: float = (
        1.0  # how far this update went on as its record did; 1: as the record's steadiness says, 0: not at all
    )


GOOD = Finding(0.0, "")
REPLAY = Finding(0.0, "replay")  # no blame: `replays.py`
FEWEST_PUSHES = 6  # rounds before steadiness means anything


@dataclass(frozen=True)
class Usual:
    """Medians over the nodes with a vote, which a minority cannot move far."""

    cosine: float
    spread: float  # robust standard deviation of the cosines
    steadiness: float
    size: float  # of pushes
    crowded: bool  # so many nodes push steadily, or so few are compared, that steadiness means nothing


def usual(round_: RoundEvidence, pushes: Mapping[str, Push], votes: Mapping[str, float]) -> Usual:
    """Compute the medians over the nodes that have a vote."""
    voters = sorted(n for n in round_.evidence if votes.get(n, 0.0) > 0)
    cosines = np.array([round_.evidence[n].cosine for n in voters])
    middle = float(np.median(cosines))
    spread = max(LEAST_SPREAD, 1.4826 * float(np.median(np.abs(cosines - middle))))
    steady = float(np.median([pushes[n].steadiness for n in voters]))
    size = float(np.median([pushes[n].size for n in voters]))
    crowd = sum(_steady(pushes[n], steady, size) for n in voters)
    return Usual(middle, spread, steady, size, len(voters) < FEW or crowd > CROWD * len(voters))


def find(evidence: Evidence, push: Push, others: Usual, before: Sequence[Earlier] = ()) -> Finding:
    """Return the most serious finding about a node's update and its last rounds; `before`: those, oldest first."""
    if _against(evidence, others, before[1 - TOGETHER :]):
        return Finding(1.0, "against")
    if others.cosine < AGREE:
        return GOOD
    if others.cosine >= AGREE_MUCH and evidence.length < IDLE:
        return Finding(0.25, "idle")
    if others.cosine >= AGREE_MUCH and _apart(evidence, others) and _aimless(push):
        return Finding(0.5, "unrelated")
    if not others.crowded and _steady(push, others.steadiness, others.size):
        return Finding(0.5, "push")
    return GOOD


def _against(evidence: Evidence, others: Usual, before: Sequence[Earlier]) -> bool:
    """Whether it points against the others, far from their median, and most of them against it.

    Those who attack together soon keep the others from agreeing. So a node that was found to point against them goes
    on to be judged where they do not agree in this round, but in the mean of the last few did.
    """
    cosine, usual_ = evidence.cosine, others.cosine
    if usual_ < AGREE_SOME and any(r.kind == "against" for r in before):
        cosine, usual_ = np.mean([(cosine, usual_), *((r.cosine, r.usual) for r in before)], axis=0)
    far = others.cosine - evidence.cosine > FAR * others.spread
    return bool(far and usual_ >= AGREE_SOME and cosine < -AGAINST * usual_ and evidence.support < 0)


def _apart(evidence: Evidence, others: Usual) -> bool:
    """Whether it is unrelated to the others, far from their median, and supported by none of them."""
    far = others.cosine - evidence.cosine > VERY_FAR * others.spread
    return far and evidence.cosine < UNRELATED * others.cosine and evidence.support < NO_SUPPORT


def _aimless(push: Push) -> bool:
    """Whether it has no direction of its own, or no longer the one that its record has.

    Otherwise a node that was honest for long, and steady in what is peculiar to its data, could send noise for a while.
    """
    return push.steadiness < AIMLESS or push.kept < LOST


def _steady(push: Push, steadiness: float, size: float) -> bool:
    """Whether a node pushes much more steadily and farther than the median of the others.

    Honest sites correct their own drift (`fedge_models.training.drift`), so that what remains of it has no direction.
    Where they do not (`drift_correction = 0`) all push steadily, and only one that comes much farther is found.
    """
    steady = push.steadiness > max(STEADY, STEADIER * steadiness)
    return steady and push.rounds >= FEWEST_PUSHES and push.size > max(PUSHED, FARTHER * size)
