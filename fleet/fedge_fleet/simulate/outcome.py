# SPDX-License-Identifier: Apache-2.0
"""The outcome of a simulation: a table for people, one JSON object, a page with plots."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import msgspec

from ..report import Block, Dot, DotChart, DotRow, Line, LineChart, Report, Table
from .config import Config
from .production import told
from .run import Outcome, Point

SHOWN = 12  # rows of the table, at most
MOST_ROWS = 30  # of a chart
RELEASE_ONLY = (
    "Scores are those of the release, before a gateway tunes it and adds its own model. --compare shows what serves, "
    "and what each site reaches alone."
)


def lines(outcome: Outcome) -> list[str]:
    """Format for people: how the score developed, and what happened to the updates."""
    rows = [["round", "hours", outcome.metric, "worst site", *(["backdoor"] if _backdoor(outcome) else [])]]
    rows += [_row(p, _backdoor(outcome)) for p in _some(outcome.history)]
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
    return [*lines, "", *summary(outcome)]


def summary(outcome: Outcome) -> list[str]:
    """Summarise in a few sentences."""
    config, counts = outcome.config, outcome.counts
    hostile = f"{len(outcome.hostile)} of them hostile ({config.attack['name']})" if outcome.hostile else "none hostile"
    lines = [
        f"{config.sites} sites of {config.set}, {hostile}; {outcome.rule}; {outcome.parameters} parameters",
        "updates: " + ", ".join(f"{counts.get(k, 0)} {k}" for k in ("admitted", "late", "lost", "refused")),
        f"bytes: {outcome.bytes_up / 2**20:.1f} MiB up from all, {outcome.bytes_down / 2**20:.1f} MiB down to each",
    ]
    if not outcome.scores:
        lines.append("worst site: unknown, for the test part of each honest site has a single class")
    if trusts(config):
        held, bad = set(outcome.quarantined), set(outcome.hostile)
        lines.append(f"quarantine: {len(held & bad)} of {len(bad)} hostile sites, {len(held - bad)} honest ones")
    lines.append(RELEASE_ONLY)
    return lines + [f"refused {count} times: {why}" for why, count in sorted(outcome.reasons.items())]


def as_json(outcome: Outcome) -> str:
    """Format as one line of JSON: the same bytes for the same configuration and data; unknown values are null."""
    table: dict[str, Any] = {
        "simulation": msgspec.to_builtins(outcome.config, enc_hook=str),
        "metric": outcome.metric,
        "parameters": outcome.parameters,
        "hostile": outcome.hostile,
        "history": [vars(p) for p in outcome.history],
        "scores": outcome.scores,
        "updates": outcome.counts,
        "refused": outcome.reasons,
        "quarantined": outcome.quarantined,
        "changes": outcome.changes,
        "bytes": {"up": outcome.bytes_up, "down": outcome.bytes_down},
        "weights": outcome.digest,
    }
    return json.dumps(_finite(table), allow_nan=False)


def page(outcome: Outcome) -> Report:
    """Build the page for a browser."""
    config, history = outcome.config, outcome.history
    over = [Line("mean of the honest sites", [(p.round, p.score) for p in history])]
    if outcome.scores:
        over.append(Line("worst honest site", [(p.round, p.worst) for p in history], dashed=True))
    if _backdoor(outcome):
        over.append(Line("backdoor works", [(p.round, p.backdoor) for p in history if math.isfinite(p.backdoor)]))
    settings = [[k, told(v)] for k, v in msgspec.to_builtins(config, enc_hook=str).items() if v not in (None, {}, [])]
    short = [[part.partition(": ")[0], part.partition(": ")[2]] for part in summary(outcome)]
    blocks: list[Block] = [
        LineChart(f"{outcome.metric} after each round", "round", outcome.metric, over, whole=True),
        _ranked(outcome),
        Table("In short", ["what", "figures"], short, words=True),
    ]
    if outcome.changes:
        changes = [list(c.split(": ", 1)) for c in outcome.changes]
        blocks.append(Table("Quarantine", ["when", "what"], changes, words=True))
    blocks.append(Table("Settings", ["key", "value"], settings, words=True))
    return Report(f"fedge: {config.sites} sites of {config.set}", blocks, under=RELEASE_ONLY)


def _ranked(outcome: Outcome) -> Block:
    """The honest sites at the end, the best first; a table where they are many."""
    known = {n: s for n, s in outcome.scores.items() if math.isfinite(s)}
    best = sorted(known.items(), key=lambda item: item[1], reverse=outcome.metric != "rmse")
    title = "Honest sites at the end, best first"
    if len(best) > MOST_ROWS:
        return Table(title, ["site", outcome.metric], [[n, _figure(s)] for n, s in best])
    return DotChart(title, outcome.metric, [DotRow(n, [Dot("the release", s)], _figure(s)) for n, s in best])


def trusts(config: Config) -> bool:
    """Whether trust has consequences, or only watches."""
    return config.trust is not None and config.trust.get("action") != "watch"


def _backdoor(outcome: Outcome) -> bool:
    return any(math.isfinite(p.backdoor) for p in outcome.history)


def _row(point: Point, backdoor: bool) -> list[str]:
    row = [str(point.round), f"{point.hours:.1f}", _figure(point.score), _figure(point.worst)]
    return [*row, f"{point.backdoor:.0%}"] if backdoor else row


def _figure(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "-"


def _some(history: Sequence[Point]) -> list[Point]:
    """Choose evenly, always with the first and the last."""
    step = max(1, -(-len(history) // SHOWN))
    chosen = list(history[:-1:step])
    return [*chosen, history[-1]]


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
