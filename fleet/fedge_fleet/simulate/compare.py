# SPDX-License-Identifier: Apache-2.0
"""Compare rules under attacks with each site alone and all data in one place: choose what is run, run it, collect it.

Without `compare` the run's own rule and FedAvg without trust are run where nobody attacks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from fedge_aggregator.config.averaging import build_averaging
from fedge_aggregator.rounds.average import Averaging
from fedge_models.errors import ConfigError

from . import production, rule_choice
from .attacks.registry import ATTACKS
from .bench import HONEST, Bench, Job, work
from .config import Config
from .data_source import OwnData, RecordedSet
from .rule_choice import Choice
from .study import OWN, Study, hostile_numbers

# Wrong labels, a turned sign, two that know what is honest and hide in it, and a backdoor.
USUAL_ATTACKS = ("label_flip", "sign_flip", "min_max", "adaptive", "backdoor")
ATTACKED_SEEDS = 3  # attacks are run on the first seeds only: they are most of the work


@dataclass(frozen=True)
class Described:
    """What must be said of the data beside the figures."""

    notes: tuple[str, ...] = ()
    units: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)


def compare(
    config: Config,
    where: str,
    source: OwnData | RecordedSet,
    described: Described,
    workers: int = 1,
    look: Callable[[int, int], None] = lambda done, of: None,
) -> Study:
    """Run everything and collect it; `look` gets how much is done, of how much.

    Raises ConfigError for settings that do not fit, or when the run's own rule cannot be run with these sites.
    """
    fleet = source.fleet(config.seed)
    plan, names = fleet.problem.plan, tuple(fleet.sites)
    choices = rule_choice.choices(config, where)
    attacks = _attacks(config, where, fleet.problem.card.task) if config.compare and len(names) > 2 else []
    numbers = hostile_numbers(config.shares, len(names)) if attacks else ()
    seeds = tuple(range(config.seed, config.seed + config.seeds))
    bench = Bench(source, config, where, production.training(config, where, plan))
    own = _own_attack(config, len(names))
    tried = {(HONEST, 0): None} | {(a, n): None for n in numbers for a in attacks} | {own: None}
    jobs = [
        Job(choice, attack, number, seed)
        for seed in seeds
        for choice in choices
        for attack, number in tried
        if attack == HONEST or (attack, number) == own or seed < config.seed + ATTACKED_SEEDS
    ]
    lines, found = work(bench, jobs, seeds, workers, look)
    for attack, number in ((HONEST, 0), own):
        if why := found[choices[0].name, attack, number, seeds[0]].failed:
            raise ConfigError(why)
    return Study(
        name=config.set if isinstance(source, RecordedSet) else OWN,
        card=fleet.problem.card,
        metric=fleet.problem.metric,
        sites=names,
        seeds=seeds,
        rules=tuple(choice.name for choice in choices),
        attacks=tuple(dict.fromkeys([*attacks, *([own[0]] if own[1] else [])])),
        hostile=tuple(sorted({*numbers, *([own[1]] if own[1] else [])})),
        lines=lines,
        found=found,
        rounds=plan.rounds,
        parameters=len(fleet.start),
        model_bytes=len(fleet.problem.model(config.seed)),
        fresh=not source.marked,
        planted=source.plants,
        units=described.units,
        left_out=described.left_out,
        notes=described.notes,
        differences=tuple(production.differences(config, where, plan)),
        describe={choice.name: _describe(choice, config, where) for choice in choices},
        holds={choice.name: _averaging(choice, config, where).pipeline.holds(len(names)) for choice in choices},
        own_attack=own,
    )


def _own_attack(config: Config, sites: int) -> tuple[str, int]:
    """The attack of the settings, and how many sites make it."""
    number = round(config.hostile * sites)
    return (str(config.attack["name"]), number) if number else (HONEST, 0)


def _attacks(config: Config, where: str, task: str) -> list[str]:
    """The attacks that can be made on models of a task."""
    names = rule_choice.attacks(config, where, sorted(ATTACKS), USUAL_ATTACKS)
    backdoor = "backdoor" in names and task in ("regress", "multilabel") and "backdoor" not in config.attacks
    return [name for name in names if not (backdoor and name == "backdoor")]


def _describe(choice: Choice, config: Config, where: str) -> str:
    """A rule with its mixing and trust in words, such as `trimmed_mean after nearest_neighbour_mixing, trust`."""
    how = _averaging(choice, config, where)
    return f"{how.name}, {'trust only watches' if how.trust.action == 'watch' else f'trust: {how.trust.action}'}"


def _averaging(choice: Choice, config: Config, where: str) -> Averaging:
    """How an aggregator averages with this rule. Raises ConfigError."""
    applied = choice.applied(config)
    return build_averaging(production.federation(applied, production.plan(applied, where), where), where)
