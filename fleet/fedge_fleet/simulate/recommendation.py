# SPDX-License-Identifier: Apache-2.0
"""Which rule to take, and why: the default, unless another is clearly better and holds under attack. Pure."""

from __future__ import annotations

from .estimate import SMALL
from .rule_choice import DEFAULT
from .study import Study
from .study_words import people, score, signed


def recommended(study: Study) -> tuple[str | None, str]:
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
