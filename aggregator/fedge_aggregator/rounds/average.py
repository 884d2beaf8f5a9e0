# SPDX-License-Identifier: Apache-2.0
"""Make a step of a round's updates: trust, rule and server optimiser; with privacy, noise and server optimiser.

One function for the server and for the simulator. Pure: what one round leaves to the next is passed in and returned
(`RoundState`). The same input gives the same bits, so that a round that is averaged again after a crash gives the same
release. Only noise differs, and none is published twice.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from fedge_models.messages.quantize import Floats
from msgspec.structs import replace

from . import central_privacy, server_optimizers, start_value
from .central_privacy import Privacy, Spent
from .contribution import Contribution, weigh
from .engine import blocks
from .engine.gram import WithReference, unite
from .engine.runner import Runner
from .engine.runners import LOCAL
from .engine.update_rows import ChosenRows, Rows
from .rules.pipeline import Pipeline
from .rules.rule import Gram, Weights
from .server_optimizers import ServerOptimizer, State
from .start_value import AveragedRows, Local, Start
from .trust import outside_evidence, replays, sketches
from .trust.assessment import Assessment, assess, representatives
from .trust.outside_evidence import HeldBackCheck, LossReports
from .trust.reputation import Reputation, TrustConfig

LOSS = "base_loss"  # the metric of an update: loss of the base release on the site's held-back samples


@dataclass(frozen=True)
class Averaging:
    """How a federation averages."""

    name: str  # for operators
    pipeline: Pipeline
    optimizer: ServerOptimizer
    trust: TrustConfig
    privacy: Privacy | None
    staleness_exponent: float
    held_back: HeldBackCheck | None = None  # where the operator gives rows to check updates by
    local: Local | None = None  # what stays at the sites: neither rule, trust nor noise touches it


@dataclass(frozen=True)
class RoundState:
    """What a round leaves to the next."""

    reputations: Mapping[str, Reputation] = field(default_factory=dict)
    spent: Spent = field(default_factory=Spent)
    losses: LossReports = field(default_factory=LossReports)
    last_aggregate: Floats | None = None  # (P,) in parameter units, where the rule starts from it
    optimizer: State = ()
    last_step: Floats | None = None  # (P,) change of the newest release, in parameter units, where trust uses it


@dataclass(frozen=True)
class DueRound:
    """A round that is to be averaged now."""

    federation: str
    release: int  # the newest, which the updates improve on
    weights: Floats  # (P,) of that release
    grid: Floats  # (P,) its steps
    updates: Sequence[Contribution]
    rows: Rows  # codes of the updates, in the same order
    members: Collection[str]  # all enrolled nodes, with an update or without
    now: float  # Unix time, s
    seed: int  # cannot be foreseen by nodes; the same each time this round is averaged


@dataclass(frozen=True)
class RoundResult:
    """The step that a round leads to, and how it came about."""

    step: Floats  # (P,) in steps of the newest grid
    state: RoundState
    shares: dict[str, float]  # weights of the nodes in it, 0: left out; they add up to 1
    damping: float  # factor for staleness
    changes: tuple[str, ...]  # who entered or left quarantine, and why
    start: Start | None = None  # how the start value of local tensors moves; None: the file's stays


class _Combined(NamedTuple):
    """A round before the optimiser."""

    aggregate: Floats  # (P,) in steps of the grid
    shares: dict[str, float]
    damping: float
    changes: tuple[str, ...]
    reputations: Mapping[str, Reputation]
    spent: Spent
    losses: LossReports


def average(how: Averaging, due: DueRound, state: RoundState, runner: Runner = LOCAL) -> RoundResult:
    """Average a round.

    Raises ValueError for fewer updates than the rule needs, BudgetError if the privacy budget does not allow the round.
    """
    seen = due if how.local is None else dataclasses.replace(due, rows=AveragedRows(due.rows, how.local.mask))
    made = _with_noise(how, how.privacy, seen, state) if how.privacy else _by_rule(how, seen, state, runner)
    moved, optimizer = made.aggregate * due.grid, state.optimizer
    if len(optimizer) != how.optimizer.vectors:  # the first round, or another optimiser than before
        optimizer = server_optimizers.first_state(how.optimizer, len(due.grid))
    step, optimizer = how.optimizer.step(optimizer, moved)
    after = RoundState(
        reputations=made.reputations,
        spent=made.spent,
        losses=made.losses,
        last_aggregate=moved if how.pipeline.rule.reference else None,  # megabytes that only some rules need again
        optimizer=optimizer,
        last_step=step if how.privacy is None and how.trust.action != "watch" else None,
    )
    result = RoundResult(step / due.grid, after, made.shares, made.damping, made.changes)
    return result if how.local is None else _with_start(result, how.local, how, due)


def _with_start(result: RoundResult, local: Local, how: Averaging, due: DueRound) -> RoundResult:
    """The same step, with what a release does with the tensors that stay at the sites."""
    counts = [how.privacy is None and (u.staleness == 0 or u.moved) and result.shares[u.node] > 0 for u in due.updates]
    hostile = how.pipeline.hostile(len(due.updates))
    start: Start = start_value.follow(local, due.rows, [u.spread for u in due.updates], counts, hostile)
    step = result.step.copy()
    step[local.mask] = start.step
    return dataclasses.replace(result, step=step, start=start if local.shared else None)


def _with_noise(how: Averaging, privacy: Privacy, due: DueRound, state: RoundState) -> _Combined:
    """The mean of clipped updates under noise. No trust here: nothing may depend on what an update looks like."""
    spent = central_privacy.spend(state.spent, privacy, due.federation)
    local = None if how.local is None else how.local.mask
    aggregate = central_privacy.aggregate(due.rows, due.grid, len(due.members), privacy, local)
    shares = {u.node: 1 / len(due.updates) for u in due.updates}
    return _Combined(aggregate, shares, 1.0, (), state.reputations, spent, state.losses)


def _by_rule(how: Averaging, due: DueRound, state: RoundState, runner: Runner) -> _Combined:
    """What the rule makes of the updates that trust leaves."""
    before = None if state.last_aggregate is None else state.last_aggregate / due.grid
    gram, similarity = _compare(due, state.last_step, runner)
    losses = outside_evidence.add_losses(state.losses, _reported_losses(due), due.release)
    assessment = _assess(how, due, state, losses, gram, similarity)
    trusted = [u.node for u in due.updates]
    if how.trust.action != "watch":
        trusted = representatives(assessment, how.pipeline.minimum())
    chosen = [i for i, u in enumerate(due.updates) if u.node in trusted]
    left = [due.updates[i] for i in chosen]
    weighing = weigh(left, how.staleness_exponent)
    weights = weighing.weights * np.array([assessment.weights[u.node] for u in left])
    rows = due.rows if len(chosen) == due.rows.n else ChosenRows(due.rows, tuple(chosen))
    aggregate = blocks.aggregate(
        how.pipeline,
        rows,
        weights,
        reference=before,
        gram=gram[np.ix_(chosen, chosen)],
        seed=due.seed,
        runner=runner,
    )
    if weighing.damping != 1:
        aggregate *= np.float32(weighing.damping)
    shares = dict.fromkeys([u.node for u in due.updates], 0.0)
    shares |= {u.node: float(share) for u, share in zip(left, weights / weights.sum(), strict=True)}
    losses = replace(losses, participants=tuple(n for n, share in shares.items() if share))
    reputations, changes = assessment.reputations, assessment.changes
    return _Combined(aggregate, shares, weighing.damping, changes, reputations, state.spent, losses)


def _reported_losses(due: DueRound) -> dict[str, float]:
    """Site -> its loss of the newest release, where it reports one."""
    return {u.node: u.metrics[LOSS] for u in due.updates if u.staleness == 0 and LOSS in u.metrics}


def _compare(due: DueRound, last_step: Floats | None, runner: Runner) -> tuple[Gram, Weights | None]:
    """Inner products (n, n) of the rows, and their cosines (n,) with the newest release's change, in one pass."""
    if last_step is None:
        return blocks.gram_matrix(due.rows, runner), None
    wide = blocks.gram_matrix(WithReference(due.rows, replays.direction(last_step, due.grid)), runner)
    n = due.rows.n
    return wide[:n, :n], replays.cosines(unite(n) @ wide @ unite(n).T)


def _assess(
    how: Averaging, due: DueRound, state: RoundState, losses: LossReports, gram: Gram, similarity: Weights | None
) -> Assessment:
    """Trust's assessment of the round, with the evidence from outside the updates."""
    names = [u.node for u in due.updates]
    votes = np.array([state.reputations.get(n, Reputation()).score(how.trust) for n in names])
    shares = votes if votes.any() else np.ones(len(votes))
    return assess(
        state.reputations,
        names,
        gram,
        _sketches(due.rows),
        release=due.release,
        now=due.now,
        minimum=how.pipeline.minimum(),
        members=due.members,
        config=how.trust,
        claims={u.node: float(u.samples) for u in due.updates},
        similarity=similarity,
        outside=outside_evidence.find(losses, how.held_back, names, due.rows, due.weights, due.grid, shares),
    )


def _sketches(rows: Rows) -> sketches.Floats:
    """Sketches (n, WIDTH) of all rows; always in this process, because they depend on the columns' numbers."""
    total = np.zeros((rows.n, sketches.WIDTH))
    for _, _, part in LOCAL.map(sketches.sketches_of, rows):
        total += part
    return total
