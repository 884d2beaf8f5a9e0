# SPDX-License-Identifier: Apache-2.0
"""What the figures of a comparison mean, in sentences for somebody who decides: does joining pay, what could an
attacker do, what does it cost, which rule to take and why. Pure.

Nothing is called a gain, or a loss, that lies within its error; and where the data are too few to tell, that is said.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from fedge_models.system.text import counted

from .estimate import FEW, SMALL, Estimate
from .rule_choice import DEFAULT, UNPROTECTED
from .study import DAY, Attacked, Study

METRICS = {
    "macro_f1": "macro-F1, from 0 to 1; 1 is perfect",
    "auroc": "AUROC; 1 tells every anomaly from normal, 0.5 is chance",
    "average_precision": "average precision, from 0 to 1; 1 is perfect",
    "rmse": "RMSE, the usual error in the target's unit; less is better",
}
NAMES = {"macro_f1": "macro-F1", "auroc": "AUROC", "average_precision": "average precision", "rmse": "RMSE"}
PEOPLE = {DEFAULT: "the default", UNPROTECTED: "FedAvg without trust", "fedavg": "FedAvg with trust"}
LISTED = 6  # names of sites in a sentence
ROUNDS_TO_0 = 0.0005  # below: it has no sign
LEAST_SHOWN = 0.001  # of an error: 0.000 would say that there is none


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
    rule, why = _recommended(study)
    sentences = [
        Sentence("Does joining pay?", f"{_pays(study)} {_who(study, sites)}"),
        Sentence("What could an attacker do?", _attack(study)),
        _rounds(study),
        *_costs(study),
        Sentence("Which rule to take?", why),
    ]
    return Verdict(tuple(sentences), rule, gain, lose, unclear, unknown)


def score(value: float) -> str:
    """A score as people read it."""
    return "unknown" if not np.isfinite(value) else f"{value:.3f}" if abs(value) < 10 else f"{value:.4g}"


def signed(found: Estimate) -> str:
    """A difference with its error."""
    if not np.isfinite(found.mean):
        return "unknown"
    mean = found.mean if abs(found.mean) >= ROUNDS_TO_0 else 0.0
    text = f"{mean:+.3f}" if abs(mean) < 10 else f"{mean:+.4g}"
    if not found.known:
        return f"{text}, error unknown"
    return f"{text} ± {_error(found)}"


def _error(found: Estimate) -> str:
    return f"{max(LEAST_SHOWN, found.error):.3f}" if found.error < 10 else f"{found.error:.3g}"


def percent(share: float) -> str:
    """A share as people read it."""
    return f"{100 * share:.0f} %"


def people(rule: str) -> str:
    """A rule's name in a sentence."""
    return PEOPLE.get(rule, rule.replace("-no-trust", " without trust").replace("_", " "))


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
    least = f"A gain of less than {_error(gain)} cannot be seen with these data."
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


def listed(names: list[str]) -> str:
    """Names in a sentence; of many the first."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


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


def size(count: float) -> str:
    """Bytes as people read them."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 10 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def _costs(study: Study) -> list[Sentence]:
    price = study.price()
    if price is None:
        return []
    question = f"What does {people(study.main)} cost here?"
    shown = f"{NAMES[study.metric]} {signed(price).lstrip('+')}"
    if not price.known:
        return [Sentence(question, f"{shown}, against FedAvg without trust where nobody attacks.")]
    if price.above(SMALL if not study.is_error else 0):
        return [Sentence(question, f"Where nobody attacks, {shown} against FedAvg without trust.")]
    if price.below(-SMALL if not study.is_error else 0):
        ahead = f"{NAMES[study.metric]} {signed(Estimate(-price.mean, price.error)).lstrip('+')}"
        return [
            Sentence(question, f"Nothing: where nobody attacks it is better than FedAvg without trust, by {ahead}.")
        ]
    return [Sentence(question, f"Nothing that can be seen against FedAvg without trust ({shown}).")]


def _recommended(study: Study) -> tuple[str | None, str]:
    """The rule to take, and why. The default is left only for what is clearly better."""
    rules = [r for r in study.rules if study.runs(r)]
    if not rules:
        return None, "None of the rules can be run with these sites."
    base = DEFAULT if DEFAULT in rules else rules[0]
    if all(study.gain(r).below() for r in rules):
        return None, "None: stay alone. Under every rule that was tried the sites do worse together, beyond the error."
    rivals = [r for r in rules if r != base and _beats(study, r, base)]
    if rivals:
        best = max(rivals, key=lambda r: study.difference(r, base).mean)
        return best, _because(study, best, base)
    joins = "" if study.gain(study.main).above() else "If you join: "
    return base, joins + _stays(study, base, rules)


def _beats(study: Study, rule: str, base: str) -> bool:
    """Clearly better where nobody attacks, and no attack leaves less under it than the gain."""
    found, mine, theirs = study.difference(rule, base), study.worst(rule), study.worst(base)
    if not found.above(0 if study.is_error else SMALL) or mine is None or theirs is None:
        return False
    return mine.gain.mean >= min(0.0, theirs.gain.mean) - (0 if study.is_error else SMALL)


def _because(study: Study, rule: str, base: str) -> str:
    mine, theirs = study.worst(rule), study.worst(base)
    assert mine is not None and theirs is not None
    return (
        f"{_upper(people(rule))}: where nobody attacks it is better than {people(base)} by "
        f"{signed(study.difference(rule, base)).lstrip('+')}, and the worst attack leaves {score(mine.left)} under it, "
        f"{score(theirs.left)} under {people(base)}, {score(mine.alone)} alone."
    )


def _stays(study: Study, base: str, rules: list[str]) -> str:
    others = [r for r in rules if r != base]
    text = f"{people(base)}." if not study.gain(study.main).above() else f"{_upper(people(base))}."
    if not others:
        return f"{text} No other rule was tried."
    better = [r for r in others if study.difference(r, base).above(0 if study.is_error else SMALL)]
    if not better:
        return (
            f"{text} No other rule that was tried is clearly better where nobody attacks{_and_attacked(study, base)}."
        )
    best = max(better, key=lambda r: study.difference(r, base).mean)
    weak, only = study.worst(best), "Take it only if no site can be hostile, or broken"
    ahead = (
        f"{_upper(people(best))} is better by {signed(study.difference(best, base)).lstrip('+')} where nobody attacks"
    )
    if weak is None:
        return f"{text} {ahead}. {only}; --compare shows what an attacker could do."
    return (
        f"{text} {ahead}, but an attack ({weak.attack}, {weak.hostile} of {len(study.sites)} sites) leaves only "
        f"{score(weak.left)} under it, against {score(weak.alone)} of each site alone. {only}."
    )


def _and_attacked(study: Study, base: str) -> str:
    worst = study.worst(base)
    if worst is None:
        return "; attacks were not tried"
    return f", and under attack it leaves {score(worst.left)}, against {score(worst.alone)} alone"


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
