# SPDX-License-Identifier: Apache-2.0
"""What privacy costs: a federation's score under a budget of epsilon, noised at each site or once at the aggregator.

A set's real sites are dealt on to as many smaller ones as the row says. Updates are clipped, noised and accounted for
by the agent's own code (`fedge_agent.learning.update.protected`) and the aggregator's
(`fedge_aggregator.rounds.central_privacy.aggregate`), with int8 coding, error feedback and grid in the loop; only the
noise's bits come from a seeded generator. The noise is the least with which the budget pays for all rounds; delta is
1e-5, everyone takes part in every round. *clip only*: no noise, sites weigh alike. *kept*: the score over that of the
same sites without privacy. Means over the seeds. Of clip norms 1 and 0.3, test scores spoke for 1; nothing else was
chosen. `--quick`: one seed and fewer rows; other figures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

from _common import arguments, finish, table  # isort: skip  # sets the BLAS threads first

import numpy as np
from fedge_agent.learning.training import Trained
from fedge_agent.learning.update import code, protected
from fedge_aggregator.federation.publish import difference_steps, next_grid
from fedge_aggregator.rounds import central_privacy
from fedge_aggregator.rounds.engine.update_rows import MemoryRows
from fedge_aggregator.rounds.round import RoundConfig
from fedge_fleet.data.member import Base, Member, Plan, Sent
from fedge_fleet.data.problems.problem import Problem
from fedge_fleet.data.problems.registry import SETS
from fedge_fleet.data.site_data import Floats, Windows, standardised, trainable
from fedge_fleet.simulate import skew
from fedge_fleet.simulate.baselines import Plain
from fedge_fleet.simulate.loop import Loop
from fedge_fleet.simulate.scores import Evaluator
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.messages.quantize import dequantize, expand, quantize
from fedge_models.messages.release import apply_difference
from fedge_models.privacy import budget
from fedge_models.privacy.accounting import zcdp_budget
from fedge_models.privacy.budget import SitePrivacy
from fedge_models.privacy.discrete_gaussian import Bits
from fedge_models.training import personal
from fedge_models.training.loop import FitReport

DELTA = 1e-5
SEEDS = 3
CLIP = 1.0  # L2: without privacy an update measures 0.7 in the first round and 0.3 to 0.4 in the last, in these sets


class Case(NamedTuple):
    """A data set on a number of sites, and the budgets to try."""

    set: str
    sites: int
    at_aggregator: tuple[float, ...]
    at_site: tuple[float, ...]


CASES = (
    Case("fan", 200, (2, 4, 8, 16), (16, 64)),
    Case("fan", 5, (16, 64), (16, 64)),
    Case("skab_experiments", 25, (4, 8, 16), (16, 64)),
)
QUICK = (Case("fan", 200, (4, 16), ()), Case("skab_experiments", 25, (16,), (16,)))


def words(rng: np.random.Generator) -> Bits:
    """Return a generator's bits in place of the system's."""
    return lambda count: rng.integers(0, 2**64, count, dtype=np.uint64)


@dataclass
class ClippedSite(Member):
    """A site whose update is clipped, and that weighs as any other."""

    def coded(self, wanted: Floats, base: Base, graph: TrainableGraph) -> Sent:
        delta = wanted - self.error_feedback
        delta *= np.float32(min(1.0, CLIP / float(np.linalg.norm(delta))))
        return replace(super().coded(delta + self.error_feedback, base, graph), samples=1)


@dataclass
class NoisedSite(Member):
    """A site under `[model.X] privacy`."""

    config: SitePrivacy | None = None

    def coded(self, wanted: Floats, base: Base, graph: TrainableGraph) -> Sent:
        assert self.config is not None
        trained = Trained(FitReport((), 1, 0, False), wanted - self.error_feedback, {}, {})
        clipped = protected(trained, self.config, personal.local_mask(graph), 1, words(self.rng))
        assert clipped.delta is not None
        noised = clipped.delta + self.error_feedback
        codes, wish = code(noised, base.steps, graph.sizes, shorten=True)
        self.error_feedback = noised - dequantize(codes, expand(base.steps, graph.sizes))
        return Sent(codes, wish, 1)


class PrivateServer(Plain):
    """An aggregator under `[federation.X] privacy`."""

    def __init__(
        self, graph: TrainableGraph, start: Floats, plan: Plan, config: central_privacy.Privacy, bits: Bits
    ) -> None:
        super().__init__(graph, start, plan)
        self._config, self._bits, self.spent = config, bits, central_privacy.Spent()
        self._mask = personal.local_mask(graph)

    def close(self, now: float) -> None:
        """Publish the noised mean, coded as releases are; the grid follows the clip norm."""
        base, sizes, grid = self._base, self._sizes, expand(self._base.steps, self._sizes)
        self.spent = central_privacy.spend(self.spent, self._config, "benchmark")
        rows, local = MemoryRows([u.codes for u in self._updates]), self._mask
        wanted = central_privacy.aggregate(rows, grid, rows.n, self._config, local, self._bits) * grid + self._kept
        steps = difference_steps(wanted, sizes)
        codes = quantize(wanted, expand(steps, sizes))
        self._kept = wanted - dequantize(codes, expand(steps, sizes))
        weights = apply_difference(base.weights, codes, steps, sizes)
        self._base = Base(
            base.version + 1, weights, next_grid(base.steps, [central_privacy.spread(self._config, sizes)])
        )
        self._updates = []


class Run:
    """One set on its sites, for one seed."""

    def __init__(self, problem: Problem, sites: Mapping[str, Windows], seed: int) -> None:
        self._problem, self._sites, self._seed, self._plan = problem, sites, seed, problem.plan
        self._graph = TrainableGraph.load(problem.model(seed))
        self._start = self._graph.params.copy()

    def untrained(self) -> float:
        """Score the untrained model: noise alone must not fall far below it, and learning has to beat it."""
        return Evaluator(self._problem, self._graph, self._sites).overall(lambda _: self._start)

    def without(self) -> float:
        """Neither clip nor noise."""
        return self._score(Member, Plain(self._graph, self._start, self._plan))

    def clip_only(self) -> float:
        """Clip without noise."""
        return self._score(ClippedSite, Plain(self._graph, self._start, self._plan))

    def at_site(self, epsilon: float) -> float:
        """Each site noises its own updates."""
        noise = multiplier(epsilon, self._plan.rounds, budget.SENSITIVITY)
        config = SitePrivacy(clip=CLIP, noise_multiplier=noise, epsilon=epsilon, delta=DELTA)
        assert budget.updates_left(budget.Spent(), config) == self._plan.rounds
        return self._score(partial(NoisedSite, config=config), Plain(self._graph, self._start, self._plan))

    def at_aggregator(self, epsilon: float) -> float:
        """The aggregator noises each release."""
        noise = multiplier(epsilon, self._plan.rounds, 1)
        config = central_privacy.Privacy(clip=CLIP, noise_multiplier=noise, epsilon=epsilon, delta=DELTA)
        bits = words(np.random.default_rng([self._seed, 1]))
        server = PrivateServer(self._graph, self._start, self._plan, config, bits)
        found = self._score(Member, server)
        assert central_privacy.rounds_left(server.spent, config) == 0
        return found

    def _score(self, make: Callable[..., Member], server: Plain) -> float:
        graph, zeros = self._graph, np.zeros_like(self._start)
        graph.set_params(self._start)
        members = {
            name: make(*trainable(site, graph.card), zeros, np.random.default_rng([self._seed, 2, k]))
            for k, (name, site) in enumerate(self._sites.items())
        }
        loop = Loop(graph, members, self._plan, server, RoundConfig(len(members), math.inf), math.inf)
        return Evaluator(self._problem, graph, self._sites).overall(loop.run().at)


def multiplier(epsilon: float, rounds: int, sensitivity: float) -> float:
    """Return the least noise for which epsilon allows so many rounds: rounds × (sensitivity / multiplier)² / 2 = ρ."""
    return sensitivity * math.sqrt(rounds / 2 / zcdp_budget(epsilon, DELTA)) * (1 + 1e-6)


def ways(case: Case) -> Iterator[tuple[str, Callable[[Run], float]]]:
    """Return each column: its key and the function that computes it."""
    yield "untrained", Run.untrained
    yield "without", Run.without
    yield "clip_only", Run.clip_only
    for epsilon in case.at_aggregator:
        yield f"aggregator_eps{epsilon:g}", lambda run, e=epsilon: run.at_aggregator(e)  # type: ignore[misc]  # bound at once
    for epsilon in case.at_site:
        yield f"site_eps{epsilon:g}", lambda run, e=epsilon: run.at_site(e)  # type: ignore[misc]


def measure(case: Case, problem: Problem, seeds: int) -> dict[str, float]:
    """Return the mean score of each way."""
    found: dict[str, list[float]] = {}
    for seed in range(seeds):
        dealt = skew.deal(problem.sites, case.sites, skew.Own(), seed)
        run = Run(problem, {n: standardised(s, problem.card) for n, s in dealt.items()}, seed)
        for key, way in ways(case):
            found.setdefault(key, []).append(way(run))
    return {key: float(np.mean(scores)) for key, scores in found.items()}


def main() -> None:
    """Print the table."""
    args, rows, figures = arguments(__doc__ or "", data=True), [], {}
    for case in QUICK if args.quick else CASES:
        problem = SETS[case.set](args.data)
        scores = measure(case, problem, 1 if args.quick else SEEDS)
        for way, score in scores.items():
            said = [way.replace("_", " "), f"{score:.3f}", f"{score / scores['without']:.3f}"]
            rows.append([case.set, str(case.sites), problem.metric, *said])
            figures[f"{case.set}_{case.sites}_{way}"] = score
    table(["set", "sites", "score", "noise", "mean", "kept"], rows)
    finish("privacy", figures, args.json)


if __name__ == "__main__":
    main()
