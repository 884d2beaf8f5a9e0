# SPDX-License-Identifier: Apache-2.0
"""What a label says: whether it can be stored, and which target value it gives a sample of a model. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from fedge_models.graph.card import NONE, SEPARATOR, Card
from fedge_models.system import times

from ..types import Label
from ..windows.context import MAX_CHARACTERS

RANKS = {"plc": 1, "mes": 2, "inspection": 3, "hand": 4}  # the highest wins; of one origin the label that came last
EXACT = 1 << 53  # below it, a float64 holds every whole number
# Class index; anomaly: 0 normal, 1 anomaly; regress: in the target's unit; None: unknown. A tuple: of several targets,
# or (multilabel) of 0 or 1 for each label.
TargetValue = float | tuple[float, ...] | None


def target_value(value: float | str, card: Card, names: Mapping[str, str]) -> TargetValue:
    """The target value that a label's value stands for; None when the model knows no such label.

    names: the asset's `label.map`. A number may also be a class index; for anomaly models 0 is normal and any other
    number is not. For multilabel models a number is an alarm word: bit 0 is the first label. A regress model with
    several targets takes its values from tags only.
    """
    if card.task == "multilabel":
        return label_set(value, card.labels, names)
    if card.task == "regress":
        number = _number(value)
        return number if len(card.targets) <= 1 else None
    text = as_text(value)
    name = names.get(text, text)
    labels = card.labels if card.task == "classify" else ("normal", "anomaly")
    if (named := find_label(name, labels)) is not None:
        return named
    number = _number(name)
    if number is None:
        return None
    if card.task == "anomaly":
        return int(number != 0)
    return int(number) if number.is_integer() and 0 <= number < len(labels) else None


def find_label(name: str, labels: Sequence[str]) -> int | None:
    """The index of a label by its name: as it is written, or in another letter case where that names one only."""
    if name in labels:
        return labels.index(name)
    alike = [i for i, label in enumerate(labels) if label.casefold() == name.casefold()]
    return alike[0] if len(alike) == 1 else None


def label_set(value: float | str, labels: Sequence[str], names: Mapping[str, str]) -> tuple[float, ...] | None:
    """Which labels hold, 0 or 1 for each; None when another name or bit is among them.

    value: names with ";" between them, "normal" for none of them, or an alarm word, whose lowest bit is the first
    label; names: as in `target_value`.
    """
    text = as_text(value)
    parts = [names.get(part, part) for part in _parts(names.get(text, text))]
    found = [part for name in parts for part in _parts(name)]
    named = [find_label(part, (*labels, NONE)) for part in found]
    if named == [len(labels)]:
        return (0.0,) * len(labels)
    if named and None not in named and len(labels) not in named:
        return tuple(float(i in named) for i in range(len(labels)))
    word = _word(found[0]) if len(found) == 1 else None
    if word is None or not 0 <= word < 1 << len(labels):
        return None
    return tuple(float(word >> bit & 1) for bit in range(len(labels)))


def as_text(value: float | str) -> str:
    """A label as `label.map` names it: a whole number with all its digits, as each may be a bit of an alarm word."""
    if isinstance(value, str):
        return value
    return f"{value:.0f}" if float(value).is_integer() else f"{value:g}"


def measured_values(values: tuple[float, ...], card: Card) -> TargetValue:
    """The target values that a tag for each gives; None when one is unknown. A label's tag says yes unless it is 0."""
    if not all(map(math.isfinite, values)):
        return None
    return tuple(float(v != 0) for v in values) if card.task == "multilabel" else values


def label_text(y: Sequence[float], labels: Sequence[str]) -> str:
    """Labels that hold, as `label_set` reads them."""
    return SEPARATOR.join(label for label, holds in zip(labels, y, strict=False) if holds) or NONE


def is_known(value: float | str, card: Card, names: Mapping[str, str]) -> bool:
    """Whether a model knows what a tag gave as a label; each of several targets has a tag that gives its number."""
    return isinstance(value, float) if len(card.targets) > 1 else target_value(value, card, names) is not None


def accepted_values(card: Card) -> str:
    """What `target_value` accepts, in the operator's words."""
    if card.task == "regress":
        return "a number" if len(card.targets) <= 1 else "nothing: a model with several targets learns from its tags"
    if card.task == "multilabel":
        return f"{NONE}, or one or more of {', '.join(card.labels)} with {SEPARATOR!r} between them"
    labels = card.labels if card.task == "classify" else ("normal", "anomaly")
    return f"one of {', '.join(labels)}, or what label.map turns into one"


def why_malformed(label: Label) -> str | None:
    """What is wrong with a label whatever the model, in words; None: nothing."""
    value, text = label.value, isinstance(label.value, str)
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    printed = f"expected 1 to {MAX_CHARACTERS} printed characters"
    start, end = times.shown(label.start_ns), times.shown(label.end_ns)
    problems = [
        (label.origin not in RANKS, f"origin {label.origin!r}: expected one of {', '.join(RANKS)}"),
        (not text and not number, f"value {value!r}: expected a label's name or a number"),
        (text and not _short(str(value)), f"value {str(value)[:40]!r}: {printed}"),
        (bool(label.part) and not _short(label.part), f"part {label.part[:40]!r}: {printed}"),
        (
            not 0 <= label.start_ns <= label.end_ns < 2**63,
            f"from {start} to {end}: ends before it begins, or before 1970",
        ),
    ]
    return next((what for wrong, what in problems if wrong), None)


def describe(label: Label) -> str:
    """A label in words."""
    span = f"{times.shown(label.start_ns)} to {times.shown(label.end_ns)} UTC"
    of = f"part {label.part!r}" if label.part else span
    return f"{label.origin} says {label.value!r} of {of}"


def _short(text: str) -> bool:
    return bool(text.strip()) and len(text) <= MAX_CHARACTERS and text.isprintable()


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(SEPARATOR)]


def _word(text: str) -> int | None:
    """The bits that a text stands for; None: it is no whole number, or one of which a float does not hold each bit."""
    number = _number(text)
    return int(number) if number is not None and number.is_integer() and abs(number) < EXACT else None


def _number(value: float | str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
