"""What is remembered of a node's conduct, and how one more round changes it. Pure, frozen, JSON.

Suspicion falls by a little in a good round and rises by the blame of a bad one: a one-sided cumulative sum (Page 1954).
Who is quarantined, and who votes, is `trust.py`'s to say.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
import numpy as np
from fedge_models.system.settings import Seconds
from fedge_models.system.structs import known
from msgspec import Meta
from msgspec.structs import replace

from .evidence import Evidence
from .sketches import WIDTH
from .suspicion import Finding, Kind, Push

MEMORY = 0.9  # of the last round's pushes that is left in the next: about ten rounds
RECENT = 8  # rounds that words are made of
OVER_LIMIT = 1.0  # bad rounds that suspicion may pass its limit by, so that there is a way back


class TrustConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[federation.X] trust``: what an aggregator makes of the conduct of nodes."""

    action: Literal["watch", "weigh", "quarantine"] = "quarantine"  # watch: only scores; weigh: lower weights too
    limit: Annotated[float, Meta(ge=1.0, le=100.0)] = 3.0  # clearly bad rounds until quarantine
    forgive: Annotated[float, Meta(gt=0.0, le=0.2)] = 0.05  # bad rounds that a good one makes up for
    ramp: Annotated[int, Meta(ge=1, le=10_000)] = (
        10  # good rounds until a new node weighs fully; twice after quarantine
    )
    quarantine: Seconds = Seconds(7 * 86400)  # until let out by time; twice as long each time again
    most: Annotated[float, Meta(ge=0.0, lt=0.5)] = 0.4  # share of the members that may be in quarantine


@known
class Mark(msgspec.Struct, frozen=True, array_like=True):
    """One judged round of a node."""

    release: int  # the base release of the round
    cosine: float  # with the others, and what was usual
    usual: float
    blame: float
    kind: Kind


@known
class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """All that is remembered of one node in one federation; starts as `Standing()`."""

    suspicion: float = 0.0  # in clearly bad rounds
    credit: int = 0  # rounds without blame, up to what full weight takes
    rounds: int = 0  # judged
    times: int = 0  # quarantined so far
    since: float | None = None  # Unix s; in quarantine
    until: float | None = None  # Unix s; no sooner is it let out by time
    reason: str = ""  # of the quarantine it is in, or was in last
    marks: tuple[Mark, ...] = ()  # the last few rounds, oldest first
    pushed: bytes = b""  # WIDTH float32: sketch of what it pushed by itself, fading
    energy: float = 0.0  # sum of their squares, fading alike

    @property
    def quarantined(self) -> bool:
        """Whether it is in quarantine."""
        return self.since is not None

    def needed(self, config: TrustConfig) -> int:
        """Rounds without blame until it weighs fully."""
        return config.ramp * (1 + self.times)

    def score(self, config: TrustConfig) -> float:
        """Trust from 0 (quarantined) to 1: earned over rounds, less what is suspected."""
        if self.quarantined:
            return 0.0
        earned = (1 + min(self.credit, self.needed(config))) / (1 + self.needed(config))
        return earned * max(LEAST, 1.0 - self.suspicion / config.limit)


LEAST = 0.1  # of its earned weight: only quarantine takes a voice away, and that is bounded


def pushed(standing: Standing, evidence: Evidence) -> tuple[Standing, Push]:
    """The standing with this round's push added, and what the pushes come to."""
    kept = np.frombuffer(standing.pushed, "<f4").astype(np.float64) if standing.pushed else np.zeros(WIDTH)
    total = (MEMORY * kept + evidence.residual).astype("<f4")
    energy = MEMORY**2 * standing.energy + float(evidence.residual @ evidence.residual)
    square = float(np.square(total, dtype=np.float64).sum())
    after = replace(standing, pushed=total.tobytes(), energy=energy, rounds=standing.rounds + 1)
    return after, Push(after.rounds, square / energy if energy > 0 else 1.0, square**0.5)


def judged(standing: Standing, finding: Finding, mark: Mark, config: TrustConfig) -> Standing:
    """After one more round. Findings of a `soft` kind alone lead no further than half of the way to quarantine."""
    suspicion, top = standing.suspicion, config.limit + OVER_LIMIT
    if finding.blame == 0:
        suspicion = max(0.0, suspicion - config.forgive)
    elif not finding.soft:
        suspicion = min(top, suspicion + finding.blame)
    elif suspicion < config.limit / 2:
        suspicion = min(config.limit / 2, suspicion + finding.blame)
    credit = standing.credit + (finding.blame == 0 and not standing.quarantined)
    marks = (*standing.marks[1 - RECENT :], mark)
    return replace(standing, suspicion=suspicion, credit=min(credit, standing.needed(config)), marks=marks)


def confine(standing: Standing, now: float, config: TrustConfig) -> Standing:
    """Into quarantine, for longer each time."""
    until = now + float(config.quarantine) * 2.0 ** min(standing.times, 10)
    return replace(standing, since=now, until=until, times=standing.times + 1, reason=reason(standing))


def release(standing: Standing, config: TrustConfig) -> Standing:
    """Out of quarantine and on probation: one clearly bad round leads back, and full weight is far away."""
    suspicion = max(config.limit - 1.0, 0.0)
    return replace(standing, since=None, until=None, suspicion=suspicion, credit=0)


WHY: dict[Kind, str] = {
    "against": "pointed against the others'",
    "unrelated": "had nothing to do with the others'",
    "idle": "said next to nothing where the others had much to say",
    "push": "pushed one and the same way, away from the others",
    "harm": "made the model worse on the held-back set",
    "canary": "were followed by worse releases at other sites",
}


def reason(standing: Standing) -> str:
    """What the last rounds hold against a node, in plain words."""
    bad = [m for m in standing.marks if m.blame > 0]
    if not bad:
        return ""
    parts = []
    for kind in sorted({m.kind for m in bad}, key=lambda k: -sum(m.blame for m in bad if m.kind == k)):
        own = [m for m in bad if m.kind == kind]
        cosine, usual = (float(np.mean([getattr(m, f) for m in own])) for f in ("cosine", "usual"))
        told = kind in ("against", "unrelated")
        shown = f" (cosine {cosine:.2f} on average, usual {usual:.2f})" if told else ""
        parts.append(f"{len(own)} of its last {len(standing.marks)} updates {WHY[kind]}{shown}")
    return "; ".join(parts)
