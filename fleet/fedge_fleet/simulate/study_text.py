# SPDX-License-Identifier: Apache-2.0
"""A comparison as text for people, and as one JSON object."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from fedge_models.system.text import printable

from .estimate import FEW, Estimate
from .study import OWN, Attacked, Study
from .study_words import NAMES, listed, people, score, signed
from .verdict import judge


def lines(study: Study) -> list[str]:
    """Format for people: the answers, then the figures of the sites and of the attacks."""
    verdict, metric = judge(study), NAMES[study.metric]
    found = [f"{s.question}\n  {s.answer}" for s in verdict.sentences]
    sites = [
        [f.name, score(f.alone), score(f.together), score(f.pooled), signed(f.gain), f"{f.train:,}", f"{f.test:,}"]
        for f in study.site_figures()
    ]
    found += ["", *_table([[f"{metric} at", "alone", "together", "pooled", "gain", "to train", "to judge"], *sites])]
    if attacks := _attacks(study):
        found += ["", *_table(attacks)]
    found += [f"note: {printable(note)}" for note in remarks(study)]
    return found


def remarks(study: Study) -> list[str]:
    """What must be known beside the figures: of the data, the settings, and what could not be run."""
    found = list(study.notes)
    if study.planted:
        found.append("no data have a labelled anomaly: models are judged by faults that are planted in normal samples")
    if not study.fresh and len(study.seeds) > 1:
        found.append(_same_test(study))
    if few := [n for n, count in study.lines[study.seeds[0]].test.items() if count < FEW]:
        found.append(f"fewer than {FEW} samples to judge by, so figures are rough: {listed(few)}")
    found += [f"{n}: judged with {k} of {len(study.seeds)} seeds" for n, k in study.judged_with().items() if k]
    found += [f"left out at {name}: {count:,} samples" for name, count in study.left_out.items() if count]
    if unknown := study.not_judged():
        found.append(f"attacks that no honest site is judged under, in any seed: {listed(unknown)}")
    found += [f"not run: {what}: {why}" for what, why in study.failed().items()]
    found += [f"{d.key} = {d.here} (a gateway's or aggregator's default: {d.default})" for d in study.differences]
    return found


def _same_test(study: Study) -> str:
    """What the errors do not tell where every seed judges by the same samples."""
    chance = "training" if study.name == OWN else "dealing the set to sites, and of training"
    return f"the data say what is for the test: the errors tell the chance of {chance}, not that of other data"


def as_json(study: Study) -> str:
    """Format as one line of JSON: the same bytes for the same settings and data; unknown values are null."""
    verdict = judge(study)
    up, down = study.bytes_a_round()
    table: dict[str, Any] = {
        "answers": {s.question: s.answer for s in verdict.sentences},
        "take": verdict.rule,
        "gain": verdict.gain,
        "lose": verdict.lose,
        "unclear": verdict.unclear,
        "unknown": verdict.unknown,
        "metric": study.metric,
        "seeds": study.seeds,
        "rounds": study.rounds,
        "rounds_needed": study.rounds_needed(),
        "parameters": study.parameters,
        "bytes_a_round": {"up": round(up), "down": round(down)},
        "model_bytes": study.model_bytes,
        "overall": {"alone": study.alone(), "together": study.score(study.main), "pooled": study.pooled()},
        "overall_gain": _estimate(study.gain(study.main)),
        "sites": {f.name: {**f._asdict(), "gain": _estimate(f.gain)} for f in study.site_figures()},
        "rules": {r: _rule(study, r) for r in study.rules if study.runs(r)},
        "held_back": dict(study.units),
        "history": study.history(study.main),
        "notes": remarks(study),
        "differs_from_default": [d._asdict() for d in study.differences],
    }
    return json.dumps(finite(table), allow_nan=False)


def finite(value: Any) -> Any:
    """The same value with null for what is not finite."""
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _rule(study: Study, rule: str) -> dict[str, Any]:
    attacked = [{**f._asdict(), "gain": _estimate(f.gain)} for f in study.all_attacked(rule)]
    return {
        "is": study.describe[rule],
        "holds_against": study.holds.get(rule),
        "score": study.score(rule),
        "gain": _estimate(study.gain(rule)),
        "attacked": attacked,
        "own_share": float(np.mean([study.calm(rule, s).own_share for s in study.seeds])),
    }


def _estimate(found: Estimate) -> dict[str, float]:
    return {"mean": found.mean, "error": found.error}


def _attacks(study: Study) -> list[list[str]]:
    """A row for each attack and number of hostile sites, a column for each rule."""
    rules = [r for r in study.rules if study.runs(r)]
    rows = []
    for number in study.hostile:
        for attack in study.attacks:
            found = [study.attacked(r, attack, number) for r in rules]
            if any(found):
                base = next(f for f in found if f is not None)
                rows.append([f"{attack}, {number} of {len(study.sites)}", score(base.alone), *map(_left, found)])
    return [["left under attack", "alone", *map(people, rules)], *rows] if rows else []


def _left(found: Attacked | None) -> str:
    return "-" if found is None else score(found.left)


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
