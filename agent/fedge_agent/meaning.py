"""What the value of a label means to a model: a class index, 0 (normal) or 1, or the target's value. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping

from fedge_models.card import Card

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


def _number(value: float | str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
