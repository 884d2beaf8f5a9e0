# SPDX-License-Identifier: Apache-2.0
"""What the placeholders of a request stand for: the figures of an event, and texts made of them for people."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from .. import figures
from ..figures import Of
from ..types import DRIFT, QUESTION, SILENT, Event

FIELDS = (*figures.select(Of.EVENT), "time", "cause", "summary", "outcome", "priority")
TABLES = tuple(name for name, figure in figures.select(Of.EVENT).items() if figure.type in figures.TABLES)
_ALERT = {  # the texts of each kind of event
    "summary": "{label} on {asset}{gap}{cause}: score {score:g}, threshold {threshold:g}",
    "outcome": "the condition is over. Worst score {score:g}, severity {severity}",
}
_SILENT = {
    "summary": "{asset} is silent: {reason}",
    "outcome": "{asset} decides again",
}
_QUESTION = {
    "summary": "Inspect {asset}: {reason}",
    "outcome": "the question needs no answer any more: {reason}",
}
_DRIFT = {
    "summary": "drift of {asset}: {reason}",
    "outcome": "drift of {asset} is over: {reason}",
}
_TEXTS = {SILENT: _SILENT, QUESTION: _QUESTION, DRIFT: _DRIFT}
_BETWEEN = ";"  # the labels of one decision (`Decision.label`)
_PRIORITIES = {"high": 1, "medium": 2, "low": 3}  # as planners count: 1 first


def values(event: Event) -> dict[str, Any]:
    """Field -> value. Numbers have six digits: a work order is read by people."""
    known = figures.of_event(event)
    known |= {
        "time": iso_time(known["time_ns"]),
        "score": _short(known["score"]),
        "threshold": _short(known["threshold"]),
        "values": {target: _short(estimate) for target, estimate in known["values"].items()},
        "priority": _PRIORITIES[event.severity],
    }
    known["cause"] = _cause(known["channel"], known["values"], known["label"])
    texts, gap = _TEXTS.get(event.kind, _ALERT), " " if known["cause"] else ""
    known |= {name: text.format(gap=gap, **known) for name, text in texts.items()}
    known["summary"] += " (provisional: its baseline is not complete)" if known["provisional"] else ""
    return known


def step_key(event: Event) -> str:
    """What distinguishes the requests of one event: its state, severity and, where each is news, its labels.

    A target that has seen a key may drop the next request with it: one raise must not hide another.
    """
    labels = f":{event.decision.label}" if event.state == "raised" and event.decision.values else ""
    return f"{event.state}:{event.severity}{labels}"


def iso_time(time_ns: int) -> str:
    """A source time in ISO 8601, UTC, to the millisecond; one that no calendar has, as nanoseconds since 1970."""
    try:
        return datetime.fromtimestamp(time_ns / 1e9, timezone.utc).isoformat(timespec="milliseconds")
    except (OverflowError, ValueError, OSError):
        return f"{time_ns} ns"


def _cause(channel: str, estimates: dict[str, float], label: str) -> str:
    """In brackets: the channel that is furthest from usual, or the values of what is in alarm; of all, if none is."""
    if channel:
        return f"({channel})"
    alarms = [name for name in label.split(_BETWEEN) if name in estimates]
    return " ".join(f"({name} {_brief(estimates[name])})" for name in alarms or estimates)


def _brief(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1 else f"{value:g}"


def _short(value: float) -> float:
    return float(f"{value:.6g}")
