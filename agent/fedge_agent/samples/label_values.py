"""What a label says: whether it can be kept, and what its value means to a model. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping

from fedge_models.graph.card import Card
from fedge_models.system import times

from ..types import Label
from ..windows.context import MAX_CHARACTERS

RANKS = {"plc": 1, "mes": 2, "inspection": 3, "hand": 4}  # whom a sample believes; of one origin the label put last
Taught = float | None  # class index; anomaly: 0 normal, 1 anomaly; regress: in the target's unit; None: unknown


def meaning(value: float | str, card: Card, names: Mapping[str, str]) -> Taught:
    """A label's value as what a sample is taught with; None where the model knows no such label.

    names: the asset's `label.map`. A number may also be a class index; for anomaly models 0 is normal and any other
    number is not. A regress model with several targets is taught by its tags only.
    """
    if card.task == "regress":
        number = _number(value)
        return number if len(card.targets) <= 1 else None
    text = f"{value:g}" if isinstance(value, float) else value
    name = names.get(text, text)
    labels = card.labels if card.task == "classify" else ("normal", "anomaly")
    if name in labels:
        return labels.index(name)
    number = _number(name)
    if number is None:
        return None
    if card.task == "anomaly":
        return int(number != 0)
    return int(number) if number.is_integer() and 0 <= number < len(labels) else None


def expected(card: Card) -> str:
    """What `meaning` takes, in words for the operator."""
    if card.task == "regress":
        return "a number" if len(card.targets) <= 1 else "nothing: a model with several targets is taught by its tags"
    labels = card.labels if card.task == "classify" else ("normal", "anomaly")
    return f"one of {', '.join(labels)}, or what label.map turns into one"


def malformed(label: Label) -> str | None:
    """What is wrong with a label in itself, in words; None: nothing."""
    value, text = label.value, isinstance(label.value, str)
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    printed = f"expected 1 to {MAX_CHARACTERS} printed characters"
    problems = [
        (label.origin not in RANKS, f"origin {label.origin!r}: expected one of {', '.join(RANKS)}"),
        (not text and not number, f"value {value!r}: expected a label's name or a number"),
        (text and not _short(str(value)), f"value {str(value)[:40]!r}: {printed}"),
        (bool(label.part) and not _short(label.part), f"part {label.part[:40]!r}: {printed}"),
        (
            not 0 <= label.start_ns <= label.end_ns < 2**63,
            f"from {times.shown(label.start_ns)} to {times.shown(label.end_ns)}: ends before it begins, or before 1970",
        ),
    ]
    return next((what for wrong, what in problems if wrong), None)


def told(label: Label) -> str:
    """A label in words."""
    of = f"part {label.part!r}" if label.part else f"{times.shown(label.start_ns)} to {times.shown(label.end_ns)} UTC"
    return f"{label.origin} says {label.value!r} of {of}"


def _short(text: str) -> bool:
    return bool(text.strip()) and len(text) <= MAX_CHARACTERS and text.isprintable()


def _number(value: float | str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
