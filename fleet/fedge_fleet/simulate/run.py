# SPDX-License-Identifier: Apache-2.0
"""`fedge-fleet simulate`: a federation of many sites in one process, some of them slow, away or hostile.

Promises the same bits for the same configuration and data. What is real and what is not: see
docs/data-scientist/simulate.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from fedge_aggregator.config.averaging import build_averaging
from fedge_aggregator.rounds.start_value import local_of
from fedge_models.errors import ConfigError
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.system import kinds

from ..data.member import Member
from ..data.problems.problem import Problem
from ..data.problems.registry import load
from ..data.site_data import Windows, held_back, standardised, trainable
from . import production, skew
from .aggregator import Aggregator
from .attacks import registry as attacks
from .attacks.attack import Attack
from .attacks.backdoor import Backdoor
from .attacks.crew import Crew
from .config import Config
from .loop import Loop, SiteModels, Trip
from .scores import Evaluator

TRAINING_S = 60.0  # simulated, of a usual site
UNEVEN = 0.2  # deviation of the logarithm of that
AWAY_S = 1800.0  # how long a site that drops out stays away


@dataclass(frozen=True)
class Point:
    """The federation after a number of rounds."""

    round: int
    hours: float  # simulated
    score: float  # of the honest sites
    worst: float  # the worst honest site's; NaN where no site can be scored alone
    backdoor: float  # success of the backdoor, 0 to 1; NaN without one


@dataclass(frozen=True)
class Outcome:
    """The result of a simulation."""

    config: Config
    rule: str  # rule and mixing by name
    metric: str
    parameters: int
    hostile: tuple[str, ...]
    history: tuple[Point, ...]
    scores: dict[str, float]  # of each honest site that can be judged, at the end
    counts: dict[str, int]  # updates admitted, late, lost, refused
    reasons: dict[str, int]  # why refused
    quarantined: tuple[str, ...]  # by trust, at the end
    changes: tuple[str, ...]  # who entered or left quarantine, and why
    bytes_up: int  # of all sites
    bytes_down: int  # of one site
    digest: str  # SHA-256 of the last weights
    federation: SiteModels  # the last weights, and what each site keeps for itself

    @property
    def last(self) -> Point:
        """The last point."""
        return self.history[-1]


class Fleet:
    """The sites of a simulation, dealt and standardised once: several federations may be run on them."""

    def __init__(self, config: Config, where: str, problem: Problem | None = None) -> None:
        self.problem = problem or load(config.set, config.folder(where), where)
        how = kinds.build(config.skew, skew.SKEWS, where, "skew")
        try:
            dealt = skew.deal(self.problem.sites, config.sites, how, config.seed)
        except ConfigError as e:
            raise ConfigError(f"{where}: {e}") from e
        self.sites = {n: standardised(s, self.problem.card) for n, s in dealt.items()}
        self._stranger = self._take_one_out() if self.problem.unseen else None
        self.graph = TrainableGraph.load(self.problem.model(config.seed))
        self.start = self.graph.params.copy()

    def _take_one_out(self) -> Windows:
        """The last site, which then takes no part: the set's score is what a model does where nobody trained it."""
        name = max(self.sites)
        site = self.sites.pop(name)
        return replace(site, test=np.ones_like(site.test))

    def judged(self, names: Iterable[str]) -> dict[str, Windows]:
        """By which windows the models of sites are judged."""
        return {name: self._stranger or self.sites[name] for name in names}

    def hostile(self, share: float, seed: int) -> tuple[str, ...]:
        """Which sites are hostile: drawn, the same for the same seed; a larger share adds to a smaller one."""
        order = np.random.default_rng([seed, 1]).permutation(list(self.sites))
        return tuple(sorted(str(n) for n in order[: round(share * len(order))]))


def simulate(
    config: Config,
    where: str,
    look: Callable[[Point, int], None] = lambda point, rounds: None,
    fleet: Fleet | None = None,
    every: int = 1,
) -> Outcome:
    """Run a simulation; `look` gets each point and the number of rounds in all. `every`: rounds between two points.

    Raises ConfigError, or StopError when a round can never end.
    """
    fleet = fleet or Fleet(config, where)
    attack = attacks.build(config.attack, where)
    loop, bad, server = _assemble(config, where, fleet, attack)
    honest = {n: s for n, s in fleet.sites.items() if n not in bad}
    evaluator = Evaluator(fleet.problem, fleet.graph, fleet.judged(honest))
    history: list[Point] = []

    def shown(done: int, federation: SiteModels) -> None:
        if done % every and done < loop.plan.rounds:
            return
        scores = evaluator.sites(federation.at)
        worst = (max if fleet.problem.error else min)(scores.values(), default=float("nan"))
        success = _success(attack, fleet.graph, federation, honest) if bad else float("nan")
        history.append(Point(done, loop.now / 3600, evaluator.overall(federation.at), worst, success))
        look(history[-1], loop.plan.rounds)

    shown(0, loop.so_far())
    end = loop.run(shown)
    return Outcome(
        config,
        server.how.name,
        fleet.problem.metric,
        len(fleet.start),
        bad,
        tuple(history),
        evaluator.sites(end.at),
        dict(loop.counts),
        dict(loop.reasons),
        server.quarantined(),
        tuple(server.changes),
        server.traffic.up,
        server.traffic.down,
        hashlib.sha256(end.params.astype("<f4").tobytes()).hexdigest(),
        end,
    )


def _assemble(config: Config, where: str, fleet: Fleet, attack: Attack) -> tuple[Loop, tuple[str, ...], Aggregator]:
    bad, plan, graph = (
        fleet.hostile(config.hostile, config.seed),
        production.plan(config, where, fleet.problem.plan),
        fleet.graph,
    )
    graph.set_params(fleet.start)
    members = {n: _member(n, k, config, fleet, attack if n in bad else None) for k, n in enumerate(fleet.sites)}
    federation = production.federation(config, plan, where)
    local = local_of(graph.card, [t.name for t in graph.layout], graph.sizes)
    how = replace(build_averaging(federation, where), local=local)
    if not config.server_optimizer:
        how = replace(how, optimizer=plan.server)
    if (need := how.pipeline.minimum()) > len(members):
        raise ConfigError(
            f"{where}: key 'rule': {how.pipeline.describe()} needs {need} sites, there are {len(members)}"
        )
    server = Aggregator(graph, list(members), how, federation, config.seed)
    crew = Crew(attack, {n: members[n] for n in bad}, graph, plan, len(members), config.seed, how) if bad else None
    limits, active = federation.limits(how.pipeline.minimum()), float(federation.active)
    secret = f"simulated {config.seed}".encode()
    loop = Loop(graph, members, plan, server, limits, active, Habits(config, list(members)).trip, crew, secret)
    return loop, bad, server


def _member(name: str, index: int, config: Config, fleet: Fleet, attack: Attack | None) -> Member:
    rng, site = np.random.default_rng([config.seed, 2, index]), fleet.sites[name]
    if attack is not None:
        site = attack.poison(site, fleet.problem.card, rng)
    held = held_back(site, fleet.problem.card)
    return Member(*trainable(site, fleet.problem.card), np.zeros_like(fleet.start), rng, held=held)


class Habits:
    """How long each site takes, and whether it returns in time."""

    def __init__(self, config: Config, names: list[str]) -> None:
        self._config = config
        self._rngs = {n: np.random.default_rng([config.seed, 3, k]) for k, n in enumerate(names)}
        order = np.random.default_rng([config.seed, 4]).permutation(names)
        self._slow = {str(n) for n in order[: round(config.stragglers * len(names))]}

    def trip(self, node: str, version: int) -> Trip:
        """Return how a site answers a release."""
        rng = self._rngs[node]
        seconds = TRAINING_S * float(rng.lognormal(0, UNEVEN)) * (self._config.slowness if node in self._slow else 1)
        if rng.random() < self._config.dropouts:
            return Trip(seconds + AWAY_S, arrives=False)
        return Trip(seconds)


def _success(attack: Attack, graph: TrainableGraph, federation: SiteModels, honest: Mapping[str, Windows]) -> float:
    if not isinstance(attack, Backdoor):
        return float("nan")
    found = [attack.success(graph, federation.at(n), s) for n, s in honest.items()]
    known = [f for f in found if np.isfinite(f)]
    return float(np.mean(known)) if known else float("nan")
