# SPDX-License-Identifier: Apache-2.0
"""What is remembered of a node's updates in one federation, and how one more round changes it. Pure, frozen, JSON.

Suspicion falls a little in a good round and rises by the blame of a bad one: a one-sided cumulative sum (Page 1954).
`assessment.py` decides who is quarantined. The JSON keeps the field names that earlier state folders have.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
import numpy as np
from fedge_models.system.settings import Seconds
from fedge_models.system.structs import known
from msgspec import Meta, field
from msgspec.structs import replace

from .evidence import Evidence, Floats
from .sketches import WIDTH
from .suspicion import LOST, Finding, Kind, Push

DECAY = 0.9  # factor of all earlier pushes in each round: they fade over about ten rounds
CLEAR = 3.0  # steadiness of a record that says what to expect next
MOST_WEIGHTS = 100  # pushes: older ones have faded
RECENT = 8  # rounds from which the reason in words is made
OVER_LIMIT = 1.0  # bad rounds by which suspicion may exceed its limit, so that a node can recover
LEAST = 0.1  # of its earned weight: only quarantine, which is bounded, takes a node's whole weight away


class TrustConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[federation.X] trust``: what follows from a node's updates."""

    action: Literal["watch", "weigh", "quarantine"] = "quarantine"  # watch: only scores; weigh: lower weights too
    limit: Annotated[float, Meta(ge=1.0, le=100.0)] = 3.0  # clearly bad rounds until quarantine
    forgive: Annotated[float, Meta(gt=0.0, le=0.2)] = 0.05  # bad rounds that one good round makes up for
    ramp: Annotated[int, Meta(ge=1, le=10_000)] = 10  # good rounds to full weight; more after each quarantine
    quarantine: Seconds = Seconds(7 * 86400)  # shortest time in quarantine; doubles each time the node goes there again
    most: Annotated[float, Meta(ge=0.0, lt=0.5)] = 0.4  # share of the members that may be in quarantine


@known
class AssessedRound(msgspec.Struct, frozen=True, array_like=True):
    """What one round showed of a node."""

    release: int  # the base release of the round
    cosine: float  # with the mean of the others
    usual: float  # median of the cosines in that round
    blame: float
    kind: Kind


@known
class Reputation(msgspec.Struct, frozen=True, kw_only=True):
    """All that is remembered of one node in one federation; a new node has `Reputation()`."""

    suspicion: float = 0.0  # in clearly bad rounds
    credit: int = 0  # rounds without blame, up to what full weight takes
    rounds: int = 0  # assessed
    quarantines: int = field(default=0, name="times")  # so far
    quarantined_since: float | None = field(default=None, name="since")  # Unix time, s; None: not in quarantine
    quarantined_until: float | None = field(default=None, name="until")  # Unix time, s; earliest end by time
    reason: str = ""  # of the present or last quarantine
    recent: tuple[AssessedRound, ...] = field(default=(), name="marks")  # the last few rounds, oldest first
    pushed: bytes = b""  # WIDTH float32: sum of the sketches of what its updates did not share, fading
    energy: float = 0.0  # sum of their squared lengths, fading in the same way
    pushes: int | None = None  # in that sum; None: one each round
    doubted: bool = False  # its last update had no weight, though it is not in quarantine

    @property
    def quarantined(self) -> bool:
        """Whether the node is in quarantine."""
        return self.quarantined_since is not None

    @property
    def in_record(self) -> int:
        """How many pushes are in the sum."""
        return self.rounds if self.pushes is None else self.pushes

    def needed(self, config: TrustConfig) -> int:
        """Rounds without blame that full weight takes."""
        return config.ramp * (1 + self.quarantines)

    def score(self, config: TrustConfig) -> float:
        """Trust from 0 (quarantined) to 1: earned over rounds, reduced by suspicion."""
        if self.quarantined:
            return 0.0
        earned = (1 + min(self.credit, self.needed(config))) / (1 + self.needed(config))
        return earned * max(LEAST, 1.0 - self.suspicion / config.limit)


def with_push(reputation: Reputation, evidence: Evidence) -> tuple[Reputation, Push]:
    """Add the part of this round's update that the others do not share; also return the sum of those parts.

    Where the node was steady and this part has nothing of that, it has changed, and its sum begins anew: what it was
    before must not hide what it does now.
    """
    before = np.frombuffer(reputation.pushed, "<f4").astype(np.float64) if reputation.pushed else np.zeros(WIDTH)
    kept, record = _kept(before, evidence.residual, reputation), reputation
    if kept < LOST and _steadiness(before, reputation.energy) > CLEAR:
        before, record = np.zeros(WIDTH), replace(reputation, energy=0.0, pushes=0)
    total = (DECAY * before + evidence.residual).astype("<f4")
    energy = DECAY**2 * record.energy + float(evidence.residual @ evidence.residual)
    pushes, rounds = record.in_record + 1, record.rounds + 1
    after = replace(record, pushed=total.tobytes(), energy=energy, rounds=rounds, pushes=pushes)
    wide = total.astype(np.float64)
    return after, Push(after.rounds, _steadiness(wide, energy), float(np.linalg.norm(wide)), kept)


def _steadiness(total: Floats, energy: float) -> float:
    """Squared length of a sum of pushes over the sum of their squares; 1 where there are none."""
    return float(total @ total) / energy if energy > 0 else 1.0


def _kept(before: Floats, residual: Floats, record: Reputation) -> float:
    """How far a push goes on as the record did: its cosine with the sum so far, over what the record's steadiness says.

    Of pushes with a common cosine c to each other, fading by DECAY, the sum has the squared length E + c (S² - E); S
    and E are the sums of the weights and of their squares. 1 where the record has no direction.
    """
    length, size = float(np.linalg.norm(before)), float(np.linalg.norm(residual))
    if record.in_record < 2 or length == 0 or size == 0 or record.energy <= 0:
        return 1.0
    weights = DECAY ** np.arange(min(record.in_record, MOST_WEIGHTS))
    total, squares = float(weights.sum()), float(np.square(weights).sum())
    steadiness = _steadiness(before, record.energy)
    common = (steadiness - 1) * squares / (total**2 - squares)
    expected = common * total / (steadiness * squares) ** 0.5
    return float(before @ residual) / (length * size) / expected if expected > 0 else 1.0


def after_round(reputation: Reputation, finding: Finding, assessed: AssessedRound, config: TrustConfig) -> Reputation:
    """Apply one round's finding. Soft findings alone raise suspicion to half of the limit at most."""
    suspicion, top = reputation.suspicion, config.limit + OVER_LIMIT
    if finding.blame == 0:
        suspicion = max(0.0, suspicion - config.forgive)
    elif not finding.soft:
        suspicion = min(top, suspicion + finding.blame)
    elif suspicion < config.limit / 2:
        suspicion = min(config.limit / 2, suspicion + finding.blame)
    credit = reputation.credit + (finding.blame == 0 and not reputation.quarantined)
    recent = (*reputation.recent[1 - RECENT :], assessed)
    return replace(reputation, suspicion=suspicion, credit=min(credit, reputation.needed(config)), recent=recent)


def enter_quarantine(reputation: Reputation, now: float, config: TrustConfig) -> Reputation:
    """Put the node into quarantine, for twice as long as the time before."""
    until = now + float(config.quarantine) * 2.0 ** min(reputation.quarantines, 10)
    times, why = reputation.quarantines + 1, reason(reputation)
    return replace(reputation, quarantined_since=now, quarantined_until=until, quarantines=times, reason=why)


def leave_quarantine(reputation: Reputation, config: TrustConfig) -> Reputation:
    """Put the node on probation: one clearly bad round leads back, and full weight takes many good ones."""
    suspicion = max(config.limit - 1.0, 0.0)
    return replace(reputation, quarantined_since=None, quarantined_until=None, suspicion=suspicion, credit=0)


WHY: dict[Kind, str] = {
    "against": "pointed against the others'",
    "unrelated": "were unrelated to the others'",
    "idle": "hardly changed anything where the others changed much",
    "push": "pushed alone in one direction",
    "harm": "made the model worse on the held-back set",
    "canary": "were followed by worse releases at other sites",
}


def reason(reputation: Reputation) -> str:
    """Why the last rounds speak against a node, in plain words; empty if they do not."""
    bad = [r for r in reputation.recent if r.blame > 0]
    parts = []
    for kind in sorted({r.kind for r in bad}, key=lambda k: -sum(r.blame for r in bad if r.kind == k)):
        own = [r for r in bad if r.kind == kind]
        cosine, usual = (float(np.mean([getattr(r, f) for r in own])) for f in ("cosine", "usual"))
        shown = f" (cosine {cosine:.2f} on average, usual {usual:.2f})" if kind in ("against", "unrelated") else ""
        parts.append(f"{len(own)} of its last {len(reputation.recent)} updates {WHY[kind]}{shown}")
    return "; ".join(parts)
