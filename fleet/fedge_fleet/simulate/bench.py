# SPDX-License-Identifier: Apache-2.0
"""Run many federations on the same sites, with their base lines, on all cores.

Of each seed: every site alone and all data in one place. Of each rule, attack and number of hostile sites: what serves
at the honest sites. Deterministic: the same settings, seed and data give the same figures on any number of cores.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any, NamedTuple

import msgspec
import numpy as np
from fedge_agent.config.schema import Training
from fedge_agent.learning.champion import choose
from fedge_agent.learning.mixture import Blend
from fedge_agent.learning.training import Data, usable
from fedge_agent.learning.tuning import tune
from fedge_models.errors import ConfigError, StopError

from ..data.site_data import Floats, Windows, pooled
from . import baselines, champions
from .config import Config
from .data_source import Source
from .loop import SiteModels
from .rule_choice import Choice
from .run import Fleet, simulate
from .scores import Evaluator, Model

Scores = dict[str, float]
HONEST = "honest"


class Job(NamedTuple):
    """One federation: rule, attack, how many sites are hostile, seed."""

    rule: Choice
    attack: str
    hostile: int
    seed: int

    @property
    def key(self) -> tuple[str, str, int, int]:
        """What it is known by."""
        return self.rule.name, self.attack, self.hostile, self.seed


@dataclass(frozen=True)
class Judged:
    """How good models are at sites that can be judged, and in all."""

    sites: Scores
    overall: float  # NaN where nothing can be judged


@dataclass(frozen=True)
class Lines:
    """The base lines of one seed."""

    alone: Judged
    pooled: Judged
    train: dict[str, int]  # samples that each site trains on
    test: dict[str, int]  # and is judged by


@dataclass(frozen=True)
class Found:
    """What became of one federation."""

    serves: Judged  # what decides at the honest sites: the tuned release with each site's own model
    release: Judged  # the release by itself
    own_share: float  # how much the own models count
    history: tuple[tuple[int, float], ...]  # round, score of the release
    backdoor: float  # success, 0 to 1; NaN without one
    hostile: tuple[str, ...]
    quarantined: tuple[str, ...]
    counts: dict[str, int]
    bytes_up: int  # of all sites
    bytes_down: int  # of one site
    weights: Floats
    failed: str = ""  # why it cannot be run


@dataclass
class Bench:
    """The sites of every seed, and what runs on them."""

    source: Source
    config: Config
    where: str
    training: Training
    _seeds: dict[int, _Seed] = field(default_factory=dict)

    def lines(self, seed: int) -> Lines:
        """The base lines of a seed."""
        return self._at(seed).lines

    def run(self, job: Job) -> Found:
        """Simulate one federation; what cannot be run says why."""
        try:
            return self._at(job.seed).run(job, self.config, self.where)
        except (ConfigError, StopError, ValueError) as e:
            nothing = Judged({}, float("nan"))
            return Found(nothing, nothing, 0.0, (), float("nan"), (), (), {}, 0, 0, np.zeros(0, np.float32), str(e))

    def _at(self, seed: int) -> _Seed:
        if seed not in self._seeds:
            self._seeds.clear()  # one at a time: of each the windows are in memory
            self._seeds[seed] = _Seed(self.source.fleet(seed), seed, self.training)
        return self._seeds[seed]


class _Seed:
    """The fleet of one seed, its base lines and own models."""

    def __init__(self, fleet: Fleet, seed: int, training: Training) -> None:
        self.fleet, self.seed, self.training = fleet, seed, training
        self._lines: Lines | None = None
        self._own: dict[str, Floats] | None = None

    @property
    def lines(self) -> Lines:
        """Each site alone and all data in one place, with as many epochs as the federation has."""
        if self._lines is None:
            fleet, plan = self.fleet, self.fleet.problem.plan
            own = {n: baselines.alone(fleet.graph, fleet.start, s, plan, self.seed) for n, s in fleet.sites.items()}
            central = baselines.alone(fleet.graph, fleet.start, pooled(fleet.sites), plan, self.seed)
            self._lines = Lines(
                self._judged(fleet.sites, own.__getitem__),
                self._judged(fleet.sites, lambda _: central),
                {n: int((~s.test & ~s.held).sum()) for n, s in fleet.sites.items()},
                {n: int(s.test.sum()) for n, s in fleet.sites.items()},
            )
        return self._lines

    def run(self, job: Job, config: Config, where: str) -> Found:
        """Simulate a federation and judge what serves."""
        fleet, share = self.fleet, job.hostile / len(self.fleet.sites)
        attack = config.attack if config.attack["name"] == job.attack else {"name": job.attack}
        settings = job.rule.applied(msgspec.structs.replace(config, seed=self.seed, attack=attack, hostile=share))
        made = simulate(settings, where, fleet=fleet, every=1 if job.attack == HONEST else 10**6)
        honest = {n: s for n, s in fleet.sites.items() if n not in made.hostile}
        blends = self._served(made.federation, honest)
        return Found(
            self._judged(honest, blends.__getitem__),
            self._judged(honest, made.federation.at),
            float(np.mean([b.share for b in blends.values()])),
            tuple((p.round, p.score) for p in made.history),
            made.last.backdoor,
            made.hostile,
            made.quarantined,
            made.counts,
            made.bytes_up,
            made.bytes_down,
            made.federation.params,
        )

    def _judged(self, sites: dict[str, Windows], at: Callable[[str], Model]) -> Judged:
        evaluator = Evaluator(self.fleet.problem, self.fleet.graph, self.fleet.judged(sites))
        scores = evaluator.sites(at)
        # Each site has a model of its own here: on one class it needs no input to be right, so rows together tell
        # nothing where no site can be scored by itself.
        known = bool(scores) or self.fleet.problem.pooled
        return Judged(scores, evaluator.overall(at) if known else float("nan"))

    def _served(self, made: SiteModels, sites: dict[str, Windows]) -> dict[str, Blend]:
        """What decides at each site, as a gateway makes it: tuned where that helps, mixed with its own model."""
        graph, plan, rng = self.fleet.graph, self.fleet.problem.plan, np.random.default_rng([self.seed, 6])
        gentle = msgspec.structs.replace(plan.training, epochs=plan.fine_tune)
        own, found = self._own_models() if self.training.own_model else {}, {}
        for name, site in sites.items():
            data, held = (_data(site, graph.card.task, part) for part in (False, True))
            release = made.at(name)
            if plan.fine_tune and (better := tune(graph, release, data, held, gentle, rng)) is not None:
                release = better
            found[name] = choose(graph, release, own.get(name), data, held)
        return found

    def _own_models(self) -> dict[str, Floats]:
        """Each site's own model; no release enters it, so it is the same under every rule and attack."""
        if self._own is None:
            fleet, share = self.fleet, self.training.own_model
            plan, seed = fleet.problem.plan, self.seed
            self._own = {
                n: champions.alone(fleet.graph, fleet.start, site, plan, seed, share) for n, site in fleet.sites.items()
            }
        return self._own


def _data(site: Windows, task: str, held: bool) -> Data:
    keep = ~site.test & (site.held == held)
    return usable(task, Data(site.x[keep], site.y[keep]), labelled=True)


def work(
    bench: Bench, jobs: Sequence[Job], seeds: Sequence[int], workers: int, look: Callable[[int, int], None]
) -> tuple[dict[int, Lines], dict[tuple[str, str, int, int], Found]]:
    """Run base lines and federations; `look` gets how many are done, of how many."""
    tasks: list[Any] = [*seeds, *jobs]
    tasks.sort(key=lambda task: task if isinstance(task, int) else task.seed)
    lines, found = {}, {}
    for k, (task, result) in enumerate(zip(tasks, _results(bench, tasks, workers), strict=True), 1):
        if isinstance(task, int):
            lines[task] = result
        else:
            found[task.key] = result
        look(k, len(tasks))
    return lines, found


def cores() -> int:
    """How many processes may run at once here."""
    return max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def _results(bench: Bench, tasks: Sequence[Any], workers: int) -> Iterator[Any]:
    if min(workers, len(tasks)) <= 1:
        yield from (_do(bench, task) for task in tasks)
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), _take, (bench,)) as pool:
        yield from pool.map(_do_here, tasks)


_taken: list[Bench] = []  # of a worker process


def _take(bench: Bench) -> None:
    """Begin a worker process with its bench, which is sent once. Ctrl-C ends it without words of its own."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _taken[:] = [bench]


def _do_here(task: Any) -> Any:
    return _do(_taken[0], task)


def _do(bench: Bench, task: Any) -> Any:
    return bench.lines(task) if isinstance(task, int) else bench.run(task)
