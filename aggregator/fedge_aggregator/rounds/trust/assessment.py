"""Trust in each node of a federation: who weighs what this round, who is in quarantine, and why.

It falls fast and rises slowly (`standing.py`), on evidence of each round beside the others' (`evidence.py`,
`suspicion.py`), and it comes before the rule: an update that takes a node over the limit weighs nothing any more. In
quarantine a node's updates are still accepted and judged. A new node, and one that was let out, starts with a small
weight and earns the rest over rounds without blame.

Quarantine must not be a lever: never a majority of the members, never so many that the rule cannot hold, and nobody
for what others did (near-copies share a vote). Pure: the same input gives the same bits, so that a round that is
averaged again after a crash is judged alike. Keeping standings, and the audit log, is the caller's.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from . import reputation as conduct
from .evidence import Floats, Round, collect
from .replays import find as replayed
from .reputation import Mark, Standing, TrustConfig
from .suspicion import GOOD, REPLAY, Finding, Push, Usual, find, usual

FEWEST = 3  # updates without which nothing is compared: of two that differ, neither is the odd one out
CLAIM = 4.0  # median claims; sites differ in size, but one site must not be most of the data by saying so
PARDON = 0.5  # of the limit: below it a node whose time is over is let out


@dataclass(frozen=True)
class Verdict:
    """What a round comes to."""

    standings: dict[str, Standing]  # of all nodes that were known or sent something; to be kept
    weights: dict[str, float]  # of the nodes that sent something: factor from 0 (leave out) to 1
    groups: tuple[tuple[str, ...], ...]  # near-copies: each already weighs its part of one vote
    changes: tuple[str, ...]  # who went into quarantine or out of it, and why; for the audit log


def judge(
    standings: Mapping[str, Standing],
    names: list[str],
    gram: Floats,
    sketches: Floats,
    *,
    release: int,
    now: float,
    minimum: int,
    members: Collection[str],
    config: TrustConfig,
    others: Mapping[str, Finding] | None = None,
    claims: Mapping[str, float] | None = None,
    likeness: Floats | None = None,
) -> Verdict:
    """One round's updates, before the rule.

    names, gram, sketches: as `evidence.collect` takes them, a row for each update against `release`;
    minimum: updates that the rule needs; members: the nodes that are enrolled now, here or not; others: findings
    from outside the updates (`heldback.py`, `canaries.py`); claims: sample counts, where the rule weighs by them: a
    claim of more than CLAIM times the median claim takes the rest of itself off the weight; likeness: cosines (n,) of
    the rows with what the last release moved, once there was one (`replays.py`). now: Unix s.
    """
    known = {n: standings.get(n, Standing()) for n in sorted({*standings, *names})}
    votes = {n: known[n].score(config) for n in names}
    if len(names) < FEWEST or not any(votes.values()):
        return Verdict(known, _weights(known, names, None, claims, config), (), ())
    echoes = () if likeness is None else replayed(names, likeness, votes, sum(map(bool, votes.values())) - minimum)
    votes |= dict.fromkeys(echoes, 0.0)
    round_ = collect(names, gram, sketches, votes)
    told = {**dict.fromkeys(echoes, REPLAY), **(others or {})}
    after = {**known, **_judged(known, round_, votes, release, config, told)}
    after, changes = _let_out(after, now, config)
    if config.action == "quarantine":
        after, more = _confine(after, names, now, minimum, {*members, *names}, config)
        changes += more
    weights = _weights(after, names, round_, claims, config)
    if config.action != "watch":
        weights |= dict.fromkeys(echoes, 0.0)
    return Verdict(after, weights, round_.groups, changes)


def _judged(
    known: Mapping[str, Standing],
    round_: Round,
    votes: Mapping[str, float],
    release: int,
    config: TrustConfig,
    others: Mapping[str, Finding],
) -> dict[str, Standing]:
    moved = {n: conduct.pushed(known[n], e) for n, e in round_.evidence.items()}
    pushes = {n: push for n, (_, push) in moved.items()}
    level, after = usual(round_, pushes, votes), {}
    for node, (standing, push) in moved.items():
        found = _gravest(round_, node, push, level, others)
        mark = Mark(release, round(round_.evidence[node].cosine, 4), round(level.cosine, 4), found.blame, found.kind)
        after[node] = conduct.judged(standing, found, mark, config)
    return after


def _gravest(round_: Round, node: str, push: Push, level: Usual, others: Mapping[str, Finding]) -> Finding:
    """A round counts once, for the gravest thing that speaks against the node; a hard finding before a soft one."""
    found = find(round_.evidence[node], push, level), others.get(node, GOOD)
    return max(found, key=lambda f: (f.blame > 0, not f.soft, f.blame, f.kind != ""))


def _let_out(
    standings: Mapping[str, Standing], now: float, config: TrustConfig
) -> tuple[dict[str, Standing], tuple[str, ...]]:
    """Those whose time is over and who have behaved meanwhile."""
    after, changes = dict(standings), []
    for node, standing in standings.items():
        over = standing.until is not None and now >= standing.until
        if over and standing.suspicion <= PARDON * config.limit:
            after[node] = conduct.release(standing, config)
            changes.append(f"{node} is out of quarantine: its time is over and its updates were in order; on probation")
    return after, tuple(changes)


def _confine(
    standings: Mapping[str, Standing],
    names: Collection[str],
    now: float,
    minimum: int,
    members: Collection[str],
    config: TrustConfig,
) -> tuple[dict[str, Standing], tuple[str, ...]]:
    """The most suspected ones over the limit, as many as may be."""
    after, changes = dict(standings), []
    suspects = [n for n in names if not standings[n].quarantined and standings[n].suspicion >= config.limit]
    for node in sorted(suspects, key=lambda n: (-standings[n].suspicion, n)):
        if _room(after, names, minimum, members, config) < 1:
            break
        after[node] = conduct.confine(after[node], now, config)
        changes.append(f"{node} is in quarantine: {after[node].reason}")
    return after, tuple(changes)


def _room(
    standings: Mapping[str, Standing],
    names: Collection[str],
    minimum: int,
    members: Collection[str],
    config: TrustConfig,
) -> int:
    """How many more may be quarantined: never a majority, never so many that the rule lacks updates."""
    inside = sum(standings[n].quarantined for n in members if n in standings)
    here = sum(not standings[n].quarantined for n in names)
    most = min((len(members) - 1) // 2, int(config.most * len(members)), len(members) - minimum)
    return min(most - inside, here - minimum, here - 1)


def _weights(
    standings: Mapping[str, Standing],
    names: Collection[str],
    round_: Round | None,
    claims: Mapping[str, float] | None,
    config: TrustConfig,
) -> dict[str, float]:
    """Scores beside the best node's (here or not), near-copies sharing one vote, claims cut to what is believed."""
    if config.action == "watch":
        return dict.fromkeys(sorted(names), 1.0)
    best = max((s.score(config) for s in standings.values()), default=1.0) or 1.0
    most = CLAIM * float(np.median([claims[n] for n in names])) if claims else math.inf
    weights = {}
    for node in sorted(names):
        believed = min(1.0, most / claims[node]) if claims else 1.0
        share = round_.share(node) if round_ else 1.0
        weights[node] = standings[node].score(config) / best * share * believed
    return weights


def spokesmen(verdict: Verdict, minimum: int) -> list[str]:
    """Whose rows are left, in order of names, where a rule does not weigh rows (medians, Krum).

    Those with a weight, and of near-copies only the heaviest, unless the rule would lack updates without the others.
    """
    left_out = {n for n, w in verdict.weights.items() if w == 0}
    copies = []
    for group in verdict.groups:
        ranked = sorted((n for n in group if n not in left_out), key=lambda n: (-verdict.weights[n], n))
        copies += ranked[1:]
    spare = max(0, len(verdict.weights) - len(left_out) - minimum)
    left_out |= set(sorted(copies, key=lambda n: (verdict.weights[n], n))[:spare])
    return sorted(set(verdict.weights) - left_out)


def let_out(standing: Standing, config: TrustConfig) -> Standing:
    """By the operator: out of quarantine, on probation."""
    return conduct.release(standing, config)


def explain(node: str, standing: Standing, config: TrustConfig, now: float) -> list[str]:
    """What `nodes list` and `status` say of a node: its trust, and why."""
    if standing.quarantined:
        left = max(0.0, (standing.until or now) - now) / 3600
        lines = [f"{node}: in quarantine, weighs nothing: {standing.reason}"]
        if left > 0:
            return [*lines, f"{node}: let out in {left:.1f} h at the earliest, or by `nodes release {node}`"]
        return [*lines, f"{node}: its time is over, but its updates are not yet in order"]
    lines = [f"{node}: trust {standing.score(config):.2f}, judged in {standing.rounds} rounds"]
    if echoes := sum(m.kind == REPLAY.kind for m in standing.marks):
        lines.append(
            f"{node}: {echoes} of its last {len(standing.marks)} updates only repeated what the release before had "
            "changed: they weighed nothing"
        )
    if standing.credit < standing.needed(config):
        what = "on probation" if standing.times else "new"
        lines.append(
            f"{node}: {what}, {standing.credit} of {standing.needed(config)} rounds without blame to full weight"
        )
    if why := conduct.reason(standing):
        lines.append(f"{node}: suspicion {standing.suspicion:.1f} of {config.limit:g}: {why}")
    return lines
