"""What makes a step of a round's updates: trust, rule and server optimiser; or, for privacy, noise and optimiser.

One function for the server and for the simulator. Pure: what one round leaves to the next is handed in and out
(`Carried`), and the same input gives the same bits, so that a round that is averaged again after a crash gives the same
release. Only noise differs: none is published twice.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from fedge_models.messages.quantize import Floats
from fedge_models.training.personal import Mask
from msgspec.structs import replace

from . import central_privacy as privacy
from . import server_optimizers
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
from .trust import replays, sketches
from .trust.assessment import Verdict, judge, spokesmen
from .trust.outside_evidence import Court, Seen, listen, testify
from .trust.reputation import Standing, TrustConfig


@dataclass(frozen=True)
class Averaging:
    """How a federation averages."""

    name: str  # in the operator's words
    pipeline: Pipeline
    optimizer: ServerOptimizer
    trust: TrustConfig
    privacy: Privacy | None
    staleness_exponent: float
    court: Court | None = None  # where the operator gives rows to judge updates by
    local: Mask | None = None  # (P,) what stays at the sites: no noise goes there


@dataclass(frozen=True)
class Carried:
    """What a round leaves to the next."""

    standings: Mapping[str, Standing] = field(default_factory=dict)
    spent: Spent = field(default_factory=Spent)
    seen: Seen = field(default_factory=Seen)
    moved: Floats | None = None  # (P,) the last aggregate, in parameter units, where the rule wants it
    state: State = ()  # of the optimiser
    went: Floats | None = None  # (P,) what the newest release changed, in parameter units, where trust looks at it


@dataclass(frozen=True)
class Gathered:
    """A round that is due."""

    federation: str
    release: int  # the newest, which the updates improve on
    weights: Floats  # (P,) its weights
    grid: Floats  # (P,) its steps
    updates: Sequence[Contribution]
    rows: Rows  # their codes, in the same order
    members: Collection[str]  # who is enrolled, here or not
    now: float  # Unix time, s
    seed: int  # unforeseen by nodes, the same every time


@dataclass(frozen=True)
class Averaged:
    """What it comes to."""

    step: Floats  # (P,) in steps of the newest grid
    carried: Carried
    shares: dict[str, float]  # of the nodes in it, 0: left out; they add up to 1
    damping: float  # for staleness
    changes: tuple[str, ...]  # who went into quarantine or out of it, and why


class _Combined(NamedTuple):
    """Before the optimiser."""

    aggregate: Floats  # (P,) in steps of the grid
    shares: dict[str, float]
    damping: float
    changes: tuple[str, ...]
    standings: Mapping[str, Standing]
    spent: Spent
    seen: Seen


def average(how: Averaging, due: Gathered, carried: Carried, runner: Runner = LOCAL) -> Averaged:
    """The step of a round.

    Raises ValueError for fewer updates than the rule needs, BudgetError when the privacy budget does not pay for it.
    """
    made = _noised(how, how.privacy, due, carried) if how.privacy else _ruled(how, due, carried, runner)
    moved, state = made.aggregate * due.grid, carried.state
    if len(state) != how.optimizer.vectors:  # the first round, or another optimiser than before
        state = server_optimizers.first_state(how.optimizer, len(due.grid))
    step, state = how.optimizer.step(state, moved)
    last = moved if how.pipeline.rule.reference else None  # megabytes that only some rules look at again
    went = step if how.privacy is None and how.trust.action != "watch" else None
    kept = Carried(made.standings, made.spent, made.seen, last, state, went)
    return Averaged(step / due.grid, kept, made.shares, made.damping, made.changes)


def _noised(how: Averaging, bound: Privacy, due: Gathered, carried: Carried) -> _Combined:
    """The mean of clipped updates under noise. Nothing may depend on what an update looks like: no trust here."""
    spent = privacy.spend(carried.spent, bound, due.federation)
    aggregate = privacy.aggregate(due.rows, due.grid, len(due.members), bound, how.local)
    shares = {u.node: 1 / len(due.updates) for u in due.updates}
    return _Combined(aggregate, shares, 1.0, (), carried.standings, spent, carried.seen)


def _ruled(how: Averaging, due: Gathered, carried: Carried, runner: Runner) -> _Combined:
    """What the rule makes of those that trust leaves."""
    before = None if carried.moved is None else carried.moved / due.grid
    (gram, likeness), seen = _compared(due, carried.went, runner), listen(carried.seen, due.updates, due.release)
    verdict = _judged(how, due, carried, seen, gram, likeness)
    trusted = [u.node for u in due.updates]
    if how.trust.action != "watch":
        trusted = spokesmen(verdict, how.pipeline.minimum())
    chosen = [i for i, u in enumerate(due.updates) if u.node in trusted]
    left = [due.updates[i] for i in chosen]
    weighing = weigh(left, how.staleness_exponent)
    weights = weighing.weights * np.array([verdict.weights[u.node] for u in left])
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
    seen = replace(seen, part=tuple(n for n, share in shares.items() if share))
    return _Combined(aggregate, shares, weighing.damping, verdict.changes, verdict.standings, carried.spent, seen)


def _compared(due: Gathered, went: Floats | None, runner: Runner) -> tuple[Gram, Weights | None]:
    """Inner products (n, n) of the rows, and cosines (n,) with what the newest release changed, in one pass."""
    if went is None:
        return blocks.gram_matrix(due.rows, runner), None
    wide, n = blocks.gram_matrix(WithReference(due.rows, replays.direction(went, due.grid)), runner), due.rows.n
    return wide[:n, :n], replays.cosines(unite(n) @ wide @ unite(n).T)


def _judged(
    how: Averaging, due: Gathered, carried: Carried, seen: Seen, gram: Gram, likeness: Weights | None
) -> Verdict:
    votes = np.array([carried.standings.get(u.node, Standing()).score(how.trust) for u in due.updates])
    shares = votes if votes.any() else np.ones(len(votes))
    return judge(
        carried.standings,
        [u.node for u in due.updates],
        gram,
        _sketches(due.rows),
        release=due.release,
        now=due.now,
        minimum=how.pipeline.minimum(),
        members=due.members,
        config=how.trust,
        claims={u.node: float(u.samples) for u in due.updates},
        likeness=likeness,
        others=testify(seen, how.court, due.updates, due.rows, due.weights, due.grid, shares),
    )


def _sketches(rows: Rows) -> sketches.Floats:
    """Sketches (n, WIDTH) of all rows; here, for they depend on where a column is in the whole."""
    total = np.zeros((rows.n, sketches.WIDTH))
    for _, _, part in LOCAL.map(sketches.sketches_of, rows):
        total += part
    return total
