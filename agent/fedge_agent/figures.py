# SPDX-License-Identifier: Apache-2.0
"""The figures of decisions and events, in one table that every output reads: name, type, unit, meaning.

A new figure is a field of `Decision` or `Event` and a row here. Outputs take names, types and values from this table;
each leaves out what it carries elsewhere (a topic that names the asset, a message that carries the time).
"""

from __future__ import annotations

import enum
from typing import Any, NamedTuple

from .types import Decision, Event


class Type(enum.Enum):
    """Type of a figure; a table has text as its keys."""

    NUMBER = "number"
    INTEGER = "integer"
    TEXT = "text"
    BOOLEAN = "boolean"
    NUMBERS = "table of numbers"
    INTERVALS = "table of intervals"  # each (low, high)
    TEXTS = "table of texts"


TABLES = (Type.NUMBERS, Type.INTERVALS, Type.TEXTS)


class Of(enum.Flag):
    """Where a figure appears."""

    DECISION = enum.auto()
    EVENT = enum.auto()
    ALERT = enum.auto()  # what a live view shows of the last event


class Figure(NamedTuple):
    """One row. A number without a unit is in the model's own, or has none."""

    name: str
    type: Type
    unit: str
    of: Of
    meaning: str


_BOTH = Of.DECISION | Of.EVENT
FIGURES = (
    Figure("key", Type.TEXT, "", Of.EVENT, "names the event from opened to cleared; never used again"),
    Figure("state", Type.TEXT, "", Of.EVENT, "opened, raised (the severity rose) or cleared"),
    Figure("asset", Type.TEXT, "", _BOTH, "the machine"),
    Figure("model", Type.TEXT, "", _BOTH, "the model that decided"),
    Figure("release", Type.INTEGER, "", _BOTH, "version of the model; 0: the file as delivered"),
    Figure("time_ns", Type.INTEGER, "ns", _BOTH, "end of the window, source time since 1970"),
    Figure("score", Type.NUMBER, "", _BOTH, "how unusual the window is; of an event the worst so far"),
    Figure("threshold", Type.NUMBER, "", _BOTH, "what the score is compared with; none while it is not known"),
    Figure(
        "label", Type.TEXT, "", _BOTH, "class; normal, anomaly or (no threshold yet) unknown; or the target in alarm"
    ),
    Figure("missing", Type.NUMBER, "", Of.DECISION, "fraction of the window without a valid value"),
    Figure("latency_s", Type.NUMBER, "s", Of.DECISION, "from the window's last reading to the decision"),
    Figure(
        "channel",
        Type.TEXT,
        "",
        _BOTH,
        "the channel that is furthest from usual; a derived one with those it is computed of",
    ),
    Figure("values", Type.NUMBERS, "", _BOTH, "estimate of each target, in the target's unit"),
    Figure("bounds", Type.INTERVALS, "", Of.DECISION, "interval of each estimate, at the configured confidence"),
    Figure("hours_left", Type.NUMBER, "h", _BOTH, "until a target reaches its alarm level"),
    Figure("hours_left_at_least", Type.NUMBER, "h", _BOTH, "the same, at the configured confidence"),
    Figure("context", Type.TEXTS, "", _BOTH, "what was made at the end of the window: job, product, part"),
    Figure("severity", Type.TEXT, "", Of.EVENT | Of.ALERT, "low, medium or high: the highest so far"),
    Figure("since_ns", Type.INTEGER, "ns", Of.EVENT, "end of the first window of this condition; 0: not known"),
    Figure("provisional", Type.BOOLEAN, "", _BOTH, "the threshold is from before the baseline was complete"),
    Figure("kind", Type.TEXT, "", Of.EVENT, "alert; silent: no decisions any more; drift; question: what was it then?"),
    Figure(
        "reason",
        Type.TEXT,
        "",
        Of.EVENT | Of.ALERT,
        "silent: why there is no decision; drift: what; question: its text",
    ),
    Figure(
        "moved",
        Type.NUMBER,
        "",
        Of.EVENT,
        "of a drift of inputs: how far `channel` is outside what was learnt, in its usual spreads (if its spread "
        "changed: the logarithm of how many times as wide)",
    ),
    Figure(
        "bounds_for",
        Type.TEXT,
        "",
        _BOTH,
        "regress: what bounds hold for: new unit (a run, day or machine that was not learnt from), or same unit",
    ),
    Figure("alert", Type.BOOLEAN, "", Of.ALERT, "true from opened until cleared"),
    Figure("silent", Type.BOOLEAN, "", Of.ALERT, "true while the machine is silent: it decided, and does so no more"),
    Figure("drift", Type.BOOLEAN, "", Of.ALERT, "true while the machine's inputs are outside what was learnt"),
    Figure("drift_reason", Type.TEXT, "", Of.ALERT, "which channel drifts, and how, in words"),
)


def select(of: Of) -> dict[str, Figure]:
    """Figures that appear in any of `of`, by name, in the order of the table."""
    return {figure.name: figure for figure in FIGURES if figure.of & of}


_OF_DECISIONS, _OF_EVENTS = tuple(select(Of.DECISION)), tuple(select(Of.EVENT))


def of_decision(decision: Decision) -> dict[str, Any]:
    """Figure -> value."""
    return {name: getattr(decision, name) for name in _OF_DECISIONS}


def of_event(event: Event) -> dict[str, Any]:
    """Figure -> value; what the event does not say itself is that of its decision."""
    own = {"key": event.key, "state": event.state, "severity": event.severity, "since_ns": event.since_ns}
    own |= {"score": event.worst, "kind": event.kind, "reason": event.reason, "moved": event.moved}
    return {name: own[name] if name in own else getattr(event.decision, name) for name in _OF_EVENTS}


def flat(figures: dict[str, Any]) -> dict[tuple[str, ...], Any]:
    """Tables taken apart: ("values", "wear") -> number, ("bounds", "wear", "low") -> number."""
    found: dict[tuple[str, ...], Any] = {}
    for name, value in figures.items():
        if not isinstance(value, dict):
            found[name,] = value
            continue
        for key, entry in value.items():
            if isinstance(entry, tuple):
                found |= {(name, key, end): v for end, v in zip(("low", "high"), entry, strict=True)}
            else:
                found[name, key] = entry
    return found
