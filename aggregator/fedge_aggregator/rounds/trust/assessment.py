# SPDX-License-Identifier: Apache-2.0
"""Assess one round's updates before the rule: each node's weight, who is in quarantine, and why.

Trust falls fast and rises slowly (`reputation.py`), by evidence that compares the updates of a round (`evidence.py`,
`suspicion.py`). An update that takes its node over the limit already has no weight in its own round. Updates of nodes
in quarantine are still accepted and assessed. A new node, and one that leaves quarantine, starts with a small weight
and earns the rest in rounds without blame.

Quarantine must not become a weapon. It never holds a majority of the members, it leaves the rule the updates that it
needs, and nobody is quarantined for what others did (near-copies share a vote). Pure: the same input gives the same
bits, so that a round that is averaged again after a crash is assessed in the same way. The caller stores reputations
and writes the audit log.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from dataclasses import replace as altered

import numpy as np
from msgspec.structs import replace

from . import replays
from .evidence import Floats, RoundEvidence, collect
from .reputation import (
    AssessedRound,
    Reputation,
    TrustConfig,
    after_round,
    enter_quarantine,
    leave_quarantine,
    reason,
    with_push,
)
from .suspicion import FEW, GOOD, REPLAY, Earlier, Finding, find, usual

FEWEST = 3  # updates needed to compare any: of two that differ, neither is the odd one out
CLAIM = 4.0  # median claims; sites differ in size, but none may become most of the data by claiming so
DOUBT = 0.5  # of the limit: suspicion above which updates have no weight
ALONE = 0.5  # of the blame for a push, while the node has no weight: nothing of what its data want is in the releases
CLEARED = 0.5  # of the limit: suspicion that a node must not exceed to leave quarantine when its time is over


@dataclass(frozen=True)
class Assessment:
    """What one round's updates mean for their nodes."""

    reputations: dict[str, Reputation]  # of all nodes that were known or sent an update; to be stored
    weights: dict[str, float]  # of the nodes that sent an update: factor from 0 (leave out) to 1
    groups: tuple[tuple[str, ...], ...]  # near-copies: each already has its part of one vote
    changes: tuple[str, ...]  # who entered or left quarantine, and why; for the audit log


def assess(
    reputations: Mapping[str, Reputation],
    names: list[str],
    gram: Floats,
    sketches: Floats,
    *,
    release: int,
    now: float,
    minimum: int,
    members: Collection[str],
    config: TrustConfig,
    outside: Mapping[str, Finding] | None = None,
    claims: Mapping[str, float] | None = None,
    similarity: Floats | None = None,
) -> Assessment:
    """Assess one round's updates.

    names, gram, sketches: as `evidence.collect` takes them, a row for each update against `release`; now: Unix time, s;
    minimum: updates that the rule needs; members: all enrolled nodes, with an update or without.
    outside: findings from outside the updates (`outside_evidence.py`).
    claims: sample counts, where the rule weighs by them; the part of a claim above CLAIM median claims has no weight.
    similarity: cosines (n,) of the rows with the change of the last release, if there was one (`replays.py`).
    """
    known = {n: reputations.get(n, Reputation()) for n in sorted({*reputations, *names})}
    votes = {n: known[n].score(config) for n in names}
    if len(names) < FEWEST or not any(votes.values()):
        return Assessment(known, _weights(known, names, None, claims, config), (), ())
    most = sum(map(bool, votes.values())) - minimum
    replaying = () if similarity is None else replays.find(names, similarity, votes, most)
    votes |= dict.fromkeys(replaying, 0.0)
    evidence = collect(names, gram, sketches, votes)
    outside = {**dict.fromkeys(replaying, REPLAY), **(outside or {})}
    after = {**known, **_with_findings(known, evidence, votes, release, config, outside)}
    after, changes = _end_quarantines(after, now, config)
    if config.action == "quarantine":
        suspects = _suspects(after, names, votes, config)
        after, more = _begin_quarantines(after, names, suspects, now, minimum, {*members, *names}, config)
        changes += more
    weights = _weights(after, names, evidence, claims, config)
    if config.action != "watch":
        weights |= dict.fromkeys(replaying, 0.0)
        doubted = _doubted(after, weights, votes, minimum, config)
        weights |= dict.fromkeys(doubted, 0.0)
        after = {n: replace(r, doubted=n in doubted) if n in weights else r for n, r in after.items()}
    return Assessment(after, weights, evidence.groups, changes)


def _with_findings(
    known: Mapping[str, Reputation],
    evidence: RoundEvidence,
    votes: Mapping[str, float],
    release: int,
    config: TrustConfig,
    outside: Mapping[str, Finding],
) -> dict[str, Reputation]:
    """Reputations after this round's findings."""
    moved = {n: with_push(known[n], e) for n, e in evidence.evidence.items()}
    pushes = {n: push for n, (_, push) in moved.items()}
    level, after = usual(evidence, pushes, votes), {}
    for node, (reputation, push) in moved.items():
        before = [Earlier(r.cosine, r.usual, r.kind) for r in reputation.recent]
        inside = find(evidence.evidence[node], push, level, before)
        found, cosine = _most_serious(inside, outside.get(node, GOOD)), evidence.evidence[node].cosine
        if reputation.doubted and found.kind == "push":
            found = altered(found, blame=ALONE * found.blame)
        assessed = AssessedRound(release, round(cosine, 4), round(level.cosine, 4), found.blame, found.kind)
        after[node] = after_round(reputation, found, assessed, config)
    return after


def _most_serious(*found: Finding) -> Finding:
    """The finding that counts for a node: one a round, a hard one before a soft one, then by blame."""
    return max(found, key=lambda f: (f.blame > 0, not f.soft, f.blame, f.kind != ""))


def _end_quarantines(
    reputations: Mapping[str, Reputation], now: float, config: TrustConfig
) -> tuple[dict[str, Reputation], tuple[str, ...]]:
    """Let out the nodes whose time is over and whose updates were in order meanwhile."""
    after, changes = dict(reputations), []
    for node, reputation in reputations.items():
        over = reputation.quarantined_until is not None and now >= reputation.quarantined_until
        if over and reputation.suspicion <= CLEARED * config.limit:
            after[node] = leave_quarantine(reputation, config)
            changes.append(f"{node} is out of quarantine: its time is over and its updates were in order; on probation")
    return after, tuple(changes)


def _suspects(
    reputations: Mapping[str, Reputation], names: Collection[str], votes: Mapping[str, float], config: TrustConfig
) -> list[str]:
    """The nodes over the limit. Among few voters, those of whose last updates more than one speaks against them.

    Sites of a small fleet differ, and each points against the others now and then: over a hundred rounds that adds up.
    """
    few = sum(map(bool, votes.values())) < FEW
    over = [n for n in names if not reputations[n].quarantined and reputations[n].suspicion >= config.limit]
    return [n for n in over if not few or sum(r.blame > 0 for r in reputations[n].recent) > 1]


def _doubted(
    reputations: Mapping[str, Reputation],
    weights: Mapping[str, float],
    votes: Mapping[str, float],
    minimum: int,
    config: TrustConfig,
) -> list[str]:
    """Those that push alone, to leave out until suspicion has fallen: most rules do not weigh, so a low weight is none.

    As few as may be in quarantine, none among few voters, and never so many that the rule lacks updates. Others are
    left to quarantine: an honest site that is left out for once pointing against the others does so again the sooner.
    """
    having = [n for n, weight in weights.items() if weight > 0]
    if config.action != "quarantine" or sum(map(bool, votes.values())) < FEW:
        return []
    doubted = [n for n in having if reputations[n].suspicion > DOUBT * config.limit and _pushes(reputations[n])]
    most = min(int(config.most * len(weights)) - (len(weights) - len(having)), len(having) - minimum)
    return sorted(doubted, key=lambda n: (-reputations[n].suspicion, n))[: max(0, most)]


def _pushes(reputation: Reputation) -> bool:
    """Whether most of what its last updates are blamed for is that they pushed alone in one direction."""
    blamed = [(r.blame, r.kind) for r in reputation.recent]
    return 2 * sum(b for b, kind in blamed if kind == "push") > sum(b for b, _ in blamed)


def _begin_quarantines(
    reputations: Mapping[str, Reputation],
    names: Collection[str],
    suspects: Collection[str],
    now: float,
    minimum: int,
    members: Collection[str],
    config: TrustConfig,
) -> tuple[dict[str, Reputation], tuple[str, ...]]:
    """Quarantine suspects, the most suspected first, as many as may be."""
    after, changes = dict(reputations), []
    for node in sorted(suspects, key=lambda n: (-reputations[n].suspicion, n)):
        if _places_left(after, names, minimum, members, config) < 1:
            break
        after[node] = enter_quarantine(after[node], now, config)
        changes.append(f"{node} is in quarantine: {after[node].reason}")
    return after, tuple(changes)


def _places_left(
    reputations: Mapping[str, Reputation],
    names: Collection[str],
    minimum: int,
    members: Collection[str],
    config: TrustConfig,
) -> int:
    """How many more may be quarantined: never a majority, and never so many that the rule lacks updates."""
    inside = sum(reputations[n].quarantined for n in members if n in reputations)
    free = sum(not reputations[n].quarantined for n in names)
    most = min((len(members) - 1) // 2, int(config.most * len(members)), len(members) - minimum)
    return min(most - inside, free - minimum, free - 1)


def _weights(
    reputations: Mapping[str, Reputation],
    names: Collection[str],
    evidence: RoundEvidence | None,
    claims: Mapping[str, float] | None,
    config: TrustConfig,
) -> dict[str, float]:
    """Scores over the best node's score; near-copies share one vote, and claims are cut to what is believed."""
    if config.action == "watch":
        return dict.fromkeys(sorted(names), 1.0)
    best = max((r.score(config) for r in reputations.values()), default=1.0) or 1.0
    most = CLAIM * float(np.median([claims[n] for n in names])) if claims else math.inf
    weights = {}
    for node in sorted(names):
        believed = min(1.0, most / claims[node]) if claims else 1.0
        share = evidence.share(node) if evidence else 1.0
        weights[node] = reputations[node].score(config) / best * share * believed
    return weights


def representatives(assessment: Assessment, minimum: int) -> list[str]:
    """Nodes whose rows go to a rule that does not weigh rows (medians, Krum), in the order of names.

    Those with a weight. Of near-copies only the heaviest stays, unless the rule would then lack updates.
    """
    left_out = {n for n, w in assessment.weights.items() if w == 0}
    copies = []
    for group in assessment.groups:
        ranked = sorted((n for n in group if n not in left_out), key=lambda n: (-assessment.weights[n], n))
        copies += ranked[1:]
    spare = max(0, len(assessment.weights) - len(left_out) - minimum)
    left_out |= set(sorted(copies, key=lambda n: (assessment.weights[n], n))[:spare])
    return sorted(set(assessment.weights) - left_out)


def explain(node: str, reputation: Reputation, config: TrustConfig, now: float) -> list[str]:
    """A node's trust and the reason for it, in lines for `nodes list` and `status`."""
    if reputation.quarantined:
        left = max(0.0, (reputation.quarantined_until or now) - now) / 3600
        lines = [f"{node}: in quarantine, no weight: {reputation.reason}"]
        if left > 0:
            return [*lines, f"{node}: leaves quarantine in {left:.1f} h at the earliest, or by `nodes release {node}`"]
        return [*lines, f"{node}: its time is over, but its updates are not yet in order"]
    lines = [f"{node}: trust {reputation.score(config):.2f}, assessed in {reputation.rounds} rounds"]
    if count := sum(r.kind == REPLAY.kind for r in reputation.recent):
        lines.append(
            f"{node}: {count} of its last {len(reputation.recent)} updates only repeated the change of the release "
            "before: they had no weight"
        )
    if reputation.credit < reputation.needed(config):
        what = "on probation" if reputation.quarantines else "new"
        lines.append(
            f"{node}: {what}, {reputation.credit} of {reputation.needed(config)} rounds without blame to full weight"
        )
    if reputation.doubted:
        lines.append(f"{node}: had no weight in its last round: suspicion above half of its limit")
    if why := reason(reputation):
        lines.append(f"{node}: suspicion {reputation.suspicion:.1f} of {config.limit:g}: {why}")
    return lines
