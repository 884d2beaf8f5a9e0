# SPDX-License-Identifier: Apache-2.0
"""A comparison as a page for those who decide: answers first, then what they rest on."""

from __future__ import annotations

import math

from fedge_models.system.text import counted

from .. import report
from ..report import BaseLine, Block, Cell, Details, Dot, DotChart, DotRow, Line, LineChart, Note, Report, Table
from .production import NOT_SIMULATED
from .rule_choice import UNPROTECTED
from .study import Attacked, SiteFigures, Study
from .study_text import remarks
from .study_words import METRICS, NAMES, people, percent, score, signed
from .verdict import Verdict, judge

MOST_ROWS = 24  # sites of a chart; of more the outermost are shown
SPAN = 0.05  # that the axis of a score covers at least: less is no difference


def render(study: Study) -> str:
    """Return the page."""
    return report.render(page(study))


def page(study: Study) -> Report:
    """Build the page."""
    verdict = judge(study)
    blocks: list[Block] = [_sites(study), _attacks(study), *_under_attack(study), _rounds(study), _rules(study)]
    blocks += [Note("To be known", remarks(study)), _details(study)]
    return Report(
        _title(study, verdict),
        blocks,
        answers=[*verdict.sentences],
        under=f"{counted(len(study.sites), 'site')}, {counted(len(study.seeds), 'seed')}, {study.rounds} rounds. "
        f"Score: {METRICS[study.metric]}.",
    )


def _title(study: Study, verdict: Verdict) -> str:
    """The first answer, as short as a title is."""
    gain = study.gain(study.main)
    if not study.judged():
        return "These data cannot tell whether joining pays"
    if not gain.known:
        return "One seed cannot tell whether joining pays"
    if gain.above():
        return f"Joining pays: {signed(gain)} {NAMES[study.metric]} on average"
    if gain.below():
        return "Staying alone is better"
    return "These data do not show that joining pays"


def _sites(study: Study) -> Block:
    figures = [f for f in study.site_figures() if math.isfinite(f.gain.mean)]
    hidden = max(0, len(figures) - MOST_ROWS)
    if hidden:
        figures = [*figures[: MOST_ROWS // 2], *figures[-MOST_ROWS // 2 :]]
    more = f" {counted(hidden, 'site')} between these are left out here; all are in the table below." if hidden else ""
    return DotChart(
        "What each site gains",
        _axis(study),
        [_site_row(f, not study.is_error) for f in figures],
        caption="Bars go from staying alone to what serves with the federation; green and orange where that is beyond "
        "its error. The thin line is the error of the gain: in 19 of 20 such comparisons the gain would lie in it; one "
        "without an end goes on." + more,
        span=_span(study),
    )


def _site_row(f: SiteFigures, bounded: bool) -> DotRow:
    kind = "good" if f.gains else "bad" if f.loses else ""
    error = _within(f.together, f.gain.error, bounded) if f.gain.known else None
    dots = [
        Dot("alone", f.alone, "open", f"{f.name} alone: {score(f.alone)}"),
        Dot("with the federation", f.together, "full", f"{f.name} with the federation: {score(f.together)}"),
        Dot("all data in one place", f.pooled, "tick", f"a model of all data at {f.name}: {score(f.pooled)}"),
    ]
    return DotRow(f.name, dots, signed(f.gain), (f.alone, f.together), kind, error)  # type: ignore[arg-type]


def _within(value: float, error: float, bounded: bool) -> tuple[float, float]:
    """An interval, within what the score can be."""
    return max(0.0, value - error), min(1.0, value + error) if bounded else value + error


def _attacks(study: Study) -> Block:
    """What the worst attack leaves under each rule."""
    rows = []
    for rule in study.rules:
        worst = study.worst(rule) if study.runs(rule) else None
        if worst is None:
            continue
        others = [f for f in study.all_attacked(rule) if f != worst]
        kind = "good" if worst.gain.above() else "bad" if worst.gain.below() else ""
        dots = [
            *(Dot("other attacks", f.left, "tick", _hint(f)) for f in others),
            Dot("nobody attacks", worst.calm, "full", f"nobody attacks: {score(worst.calm)}"),
            Dot("alone", worst.alone, "open", f"the same sites alone: {score(worst.alone)}"),
            Dot("worst attack", worst.left, "cross", _hint(worst)),
        ]
        remark = f"{worst.attack}: {signed(worst.gain)}"
        rows.append(DotRow(people(rule), dots, remark, (worst.calm, worst.left), kind))  # type: ignore[arg-type]
    return DotChart(
        "What an attacker could do",
        _axis(study),
        rows,
        caption="What serves at the honest sites, under each rule. Hostile sites hold real keys and work together. At "
        "the right: the worst attack, and what it leaves over staying alone.",
        span=_span(study),
    )


def _hint(found: Attacked) -> str:
    return f"{found.attack}, {found.hostile} hostile: {score(found.left)}"


def _under_attack(study: Study) -> list[Block]:
    """Every attack under every rule, a table for each number of hostile sites."""
    rules = [r for r in study.rules if study.runs(r)]
    made: list[Block] = []
    for number in study.hostile:
        rows: list[list[str | Cell]] = []
        for attack in study.attacks:
            found = [study.attacked(r, attack, number) for r in rules]
            first = next((f for f in found if f is not None), None)
            if first is not None:
                rows.append([attack.replace("_", " "), score(first.alone), *map(_attacked_cell, found)])
        if rows:
            title = f"{number} of {len(study.sites)} sites hostile: what is left"
            caption = (
                f"{NAMES[study.metric]} of what serves at the honest sites. Green: better than alone, beyond the "
                "error; orange: worse. In brackets, how often a backdoor in the release hides a fault, and the share "
                "of hostile sites that trust has put in quarantine, where there are any."
            )
            made.append(Table(title, ["attack", "alone", *map(people, rules)], rows, caption))
    return made


def _attacked_cell(found: Attacked | None) -> Cell:
    if found is None:
        return Cell("-")
    marks = [f"backdoor {percent(found.backdoor)}"] if math.isfinite(found.backdoor) else []
    marks += [f"caught {percent(found.caught)}"] if found.caught > 0 else []
    kind = "good" if found.gain.above() else "bad" if found.gain.below() else "weak"
    return Cell(score(found.left) + (f" ({', '.join(marks)})" if marks else ""), kind)  # type: ignore[arg-type]


def _rounds(study: Study) -> Block:
    lines = [Line(f"release, {people(study.main)}", study.history(study.main))]
    if UNPROTECTED in study.rules and study.main != UNPROTECTED and study.runs(UNPROTECTED):
        lines.append(Line(f"release, {people(UNPROTECTED)}", study.history(UNPROTECTED), dashed=True))
    base = [
        BaseLine("each site alone", study.alone()),
        BaseLine("all data in one place", study.pooled()),
        BaseLine("what serves at the end", study.score(study.main)),
    ]
    return LineChart(
        "How the release learns",
        "rounds",
        f"{_axis(study)}, mean of the sites",
        lines,
        baselines=base,
        caption="The release by itself, before a gateway tunes it and adds its own model to it.",
        whole=True,
    )


def _rules(study: Study) -> Block:
    rows = []
    for rule in study.rules:
        if not study.runs(rule):
            rows.append([people(rule), study.describe[rule], "", "not run", "", ""])
            continue
        worst = study.worst(rule)
        left = f"{score(worst.left)} ({worst.attack}, {worst.hostile})" if worst is not None else "not tried"
        holds = str(study.holds.get(rule, ""))
        rows.append(
            [people(rule), study.describe[rule], holds, score(study.score(rule)), signed(study.gain(rule)), left]
        )
    header = ["rule", "what it is", "holds against", "nobody attacks", "gain over alone", "worst attack leaves"]
    return Table("Rules", header, rows, words=True)


def _details(study: Study) -> Block:
    sites = [
        [f.name, *map(score, (f.alone, f.together, f.release, f.pooled)), signed(f.gain), f"{f.train:,}", f"{f.test:,}",
         f"{study.left_out.get(f.name, 0):,}", study.units.get(f.name, "")]
        for f in study.site_figures()
    ]  # fmt: skip
    header = ["site", "alone", "serves", "release alone", "pooled", "gain", "to train", "to judge", "left out", "units"]
    return Details("All figures, and how they were made", [Table("Sites", header, sites), Note("How", _how(study))])


def _how(study: Study) -> list[str]:
    fresh = (
        "Each seed holds back a fifth of each site's units to judge by, and of the rest a fifth for the gateway's own "
        "judgement, and trains all models anew on what remains."
    )
    errors = (
        "Errors are 95 % intervals of the mean over the seeds (Student's t; with the correction of Nadeau and Bengio "
        "for training parts that overlap). With one seed there is none. No error of a score is less than 3 divided by "
        "the number of samples to judge by: less cannot be seen (rule of three). A site with fewer than 30 of them is "
        "never called clear. Of twenty sites that gain nothing one looks clear by chance. Attacks are run on the first "
        "three seeds."
    )
    return [
        fresh if study.fresh else "The data say what is for the test; the seeds differ in the training only.",
        errors,
        "Alone: the same network with as many epochs at one site. All data in one place: the same on the pool.",
        *(f"Not simulated: {text[:1].lower()}{text[1:]}" for text in NOT_SIMULATED),
    ]


def _axis(study: Study) -> str:
    return NAMES[study.metric] + (" (less is better)" if study.is_error else "")


def _span(study: Study) -> float:
    return 0.0 if study.is_error else SPAN
