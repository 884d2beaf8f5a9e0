# SPDX-License-Identifier: Apache-2.0
"""What the figures of a comparison mean, in sentences for somebody who decides: does joining pay, what could an
attacker do, what does it cost, which rule to take and why. Pure.

Nothing is called a gain, or a loss, that lies within its error; and where the data are too few to tell, that is said.
Leaves the choice of the rule to `recommendation`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from fedge_aggregator.rounds.rules.rule import FEWEST
from fedge_models.system.text import counted

from .estimate import FEW, SMALL, Estimate
from .recommendation import recommended
from .rule_choice import DEFAULT
from .study import DAY, Attacked, Study
from .study_words import NAMES, error, listed, people, percent, score, signed, size


class Sentence(NamedTuple):
    """A question of the reader, and its answer."""

    question: str
    answer: str


@dataclass(frozen=True)
class Verdict:
    """The answers, and the rule to take; None: stay alone, or nobody can tell."""

    sentences: tuple[Sentence, ...]
    rule: str | None
    gain: list[str]  # sites that clearly gain
    lose: list[str]
    unclear: list[str]  # within the error
    unknown: list[str]  # that cannot be judged


def judge(study: Study) -> Verdict:
    """Answer the reader's questions."""
    figures = study.site_figures()
    gain = [f.name for f in figures if f.gains]
    lose = [f.name for f in figures if f.loses]
    unknown = [f.name for f in figures if not np.isfinite(f.gain.mean)]
    unclear = [f.name for f in figures if f.name not in (*gain, *lose, *unknown)]
    sites = Verdict((), None, gain, lose, unclear, unknown)
    if not study.judged():
        nothing = Sentence(
            "Does joining pay?",
            "These data cannot tell: at no site does the part to judge by show two classes. Label more, or give data "
            "of a longer time.",
        )
        return Verdict((nothing, _rounds(study)), None, gain, lose, unclear, unknown)
    rule, why = recommended(study)
    sentences = [
        Sentence("Does joining pay?", f"{_pays(study)} {_who(study, sites)}"),
        Sentence("What could an attacker do?", _attack(study)),
        _rounds(study),
        *_costs(study),
        Sentence("Which rule to take?", why),
    ]
    return Verdict(tuple(sentences), rule, gain, lose, unclear, unknown)


def _pays(study: Study) -> str:
    gain, main, alone = study.gain(study.main), study.score(study.main), study.alone()
    name = NAMES[study.metric]
    pair = f"{name} {score(main)} together, {score(alone)} with each site alone ({signed(gain)})"
    rough = _without_small(study)
    if not gain.known:
        return f"One seed gives {pair}: whether that is chance is not known; run it with --seeds 5.{rough}"
    if gain.above():
        small = " The gain is small." if gain.mean < SMALL and not study.is_error else ""
        return f"Joining pays here: {pair}.{small}{rough}"
    if gain.below():
        return f"Joining costs here: {pair}.{rough}"
    least = f"A gain of less than {error(gain)} cannot be seen with these data."
    return f"These data do not show that joining pays: {pair}. {least}{rough}"


def _without_small(study: Study) -> str:
    """Say what the gain is without sites that have too few samples to judge by, where there are such."""
    tests = study.lines[study.seeds[0]].test
    judged = [n for n in study.sites if np.isfinite(study.gain_at(study.main, [n]).mean)]
    small = [n for n in judged if tests[n] < FEW]
    others = [n for n in judged if n not in small]
    if small and not others:
        return f" Every site is judged by fewer than {FEW} samples, so these figures are rough."
    found = study.gain_at(study.main, others)
    if not small or not np.isfinite(found.mean):
        return ""
    return f" Without {listed(small)}, judged by fewer than {FEW} samples, it is {signed(found)}."


def _who(study: Study, sites: Verdict) -> str:
    if not study.gain(study.main).known:
        return ""
    parts = [_some(sites.gain, "gains", "gain") + " clearly" if sites.gain else "No site gains clearly"]
    parts.append(_some(sites.lose, "loses", "lose") + " clearly" if sites.lose else "none loses clearly")
    if sites.unclear and (sites.gain or sites.lose):
        parts.append(f"at {len(sites.unclear)} the difference is within its error, or judged by too few samples")
    if sites.unknown:
        parts.append(f"{listed(sites.unknown)} cannot be judged")
    return "; ".join(parts) + "."


def _some(names: list[str], one: str, many: str) -> str:
    return f"{counted(len(names), 'site')} ({listed(names)}) {one if len(names) == 1 else many}"


def _attack(study: Study) -> str:
    worst = study.worst(study.main)
    if worst is None:
        if len(study.sites) < 3:
            return "Not tried: with two sites nobody can tell which of the two is hostile."
        if study.not_judged():
            return "These data cannot tell: every site that can be judged was among the hostile ones; try more --seeds."
        return "Not tried here: add --compare."
    tried = len({f.attack for f in study.all_attacked(study.main)})
    many = f"{worst.hostile} of {len(study.sites)} sites hostile, the worst of {counted(tried, 'attack')}"
    calm = f"{score(worst.calm)} where nobody attacks, and {score(worst.alone)} alone"
    left = f"({worst.attack}) leaves the others {score(worst.left)} under {people(study.main)}"
    texts = [f"With {many} {left}; it is {calm}. {_floor(worst)}{_promised(study, worst)}"]
    doors = [f for f in study.all_attacked(study.main) if np.isfinite(f.backdoor)]
    if doors:
        door = max(doors, key=lambda f: f.backdoor)
        texts.append(
            f"By itself the release lets a backdoor hide {percent(door.backdoor)} of the faults with its trigger."
        )
    return " ".join(texts)


def _promised(study: Study, worst: Attacked) -> str:
    """What the rule by itself holds against, where that is less than what was tried."""
    holds = study.holds.get(study.main, worst.hostile)
    if holds >= worst.hostile:
        return ""
    many = f"{holds} hostile" if holds else "no hostile site"
    own = any(study.calm(study.main, seed).own_share for seed in study.seeds)
    bound = "what bounds the harm is each site's own model" if own else "no own model bounds the harm"
    return f" Among {len(study.sites)} sites the rule by itself holds against {many}; {bound}."


def _floor(worst: Attacked) -> str:
    if worst.gain.below(-SMALL):
        return f"That is worse than staying alone ({signed(worst.gain)})."
    if worst.gain.above():
        return f"That is still better than staying alone ({signed(worst.gain)})."
    return f"From staying alone that cannot be told apart ({signed(worst.gain)})."


def _rounds(study: Study) -> Sentence:
    up, down = study.bytes_a_round()
    needed = study.rounds_needed()
    when = (
        f"After {counted(needed, 'round')} of {study.rounds} the release had 95 % of what the rounds gain."
        if needed is not None
        else f"In {counted(study.rounds, 'round')} the release did not become better than the model file is."
    )
    if needed is not None and needed >= study.rounds - 1:
        when += " It may still have been learning: try more --rounds."
    day = DAY * (up + down)
    return Sentence(
        "How many rounds and bytes?",
        f"{when} In a round each site sends {size(up)} and gets {size(down)}: {size(day)} a day for each site with a "
        f"round an hour. The model's file, {size(study.model_bytes)}, goes to each site once.",
    )


def _costs(study: Study) -> list[Sentence]:
    price = study.price()
    if price is None:
        return []
    few = _averages(study)
    return [Sentence(f"What does {people(study.main)} cost here?", f"{_price(study, price)}{few}")]


def _averages(study: Study) -> str:
    """Say that the default averages among so few sites; empty where it does not."""
    if study.main != DEFAULT or len(study.sites) >= FEWEST:
        return ""
    return (
        f" Among {len(study.sites)} sites, fewer than {FEWEST}, the default is an average too (by the square root of "
        "the sample counts, and with trust): this is not the price of a robust rule."
    )


def _price(study: Study, price: Estimate) -> str:
    """What the run's own rule gives up against FedAvg without trust, in words."""
    shown = f"{NAMES[study.metric]} {signed(price).lstrip('+')}"
    if not price.known:
        return f"{shown}, against FedAvg without trust where nobody attacks."
    if price.above(SMALL if not study.is_error else 0):
        return f"Where nobody attacks, {shown} against FedAvg without trust."
    if price.below(-SMALL if not study.is_error else 0):
        ahead = f"{NAMES[study.metric]} {signed(Estimate(-price.mean, price.error)).lstrip('+')}"
        return f"Nothing: where nobody attacks it is better than FedAvg without trust, by {ahead}."
    return f"Nothing that can be seen against FedAvg without trust ({shown})."
