# SPDX-License-Identifier: Apache-2.0
"""What the numbers in stored samples stand for, and how they are rewritten for a model file with other labels.

A sample holds the number of its label. Another file of the same channels may have its labels in another order, others,
or another task; the number would then say something that nobody said. So the names are stored beside the samples, and
each sample gets the number that its label has in the new file. One whose label the file does not have is without a
label from then on; what people said stays in the table of labels.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
import numpy as np
from fedge_models.graph.card import Card

from .label_values import find_label
from .sample_table import stored_value, values_of

logger = logging.getLogger(__name__)

ONE, SEVERAL, MEASURED = "one", "several", "measured"  # one label holds; each may; values in the targets' units
ANOMALY = ("normal", "anomaly")
StoredValue = float | bytes | None


class LabelOrder(NamedTuple):
    """The labels or targets of a card, by number; normal: the number of the label that stands for no fault."""

    kind: str
    names: tuple[str, ...]
    normal: int = 0


def order_of(card: Card) -> LabelOrder:
    """What the numbers of samples for this card stand for."""
    if card.task == "multilabel":
        return LabelOrder(SEVERAL, card.labels)
    if card.task == "regress":
        return LabelOrder(MEASURED, tuple(f"{t.name} [{t.unit}]" for t in card.targets))
    if card.task == "anomaly":
        return LabelOrder(ONE, ANOMALY)
    return LabelOrder(ONE, card.labels, card.labels.index(card.normal) if card.normal else 0)


def begin(db: sqlite3.Connection, model: str, order: LabelOrder) -> int:
    """Have the samples of a model hold the numbers of this order from now on; how many lost their label by it."""
    known = db.execute("SELECT names FROM sample_labels WHERE model = ?", (model,)).fetchone()
    noted = msgspec.json.encode(order).decode()
    if known is not None and known[0] == noted:
        return 0
    before = order if known is None else decode(known[0])  # a version that noted none stored the samples
    db.execute("REPLACE INTO sample_labels VALUES (?, ?)", (model, noted))
    db.create_function("renumbered", 1, renumbering(before, order), deterministic=True)
    without = "SELECT count(*) FROM samples WHERE model = ? AND y IS NULL"
    was = db.execute(without, (model,)).fetchone()[0]
    db.execute("UPDATE samples SET y = renumbered(y) WHERE model = ? AND y IS NOT NULL", (model,))
    db.execute("UPDATE samples SET origin = 0, label = 0 WHERE model = ? AND y IS NULL AND origin != 0", (model,))
    lost = int(db.execute(without, (model,)).fetchone()[0] - was)
    if lost:
        logger.warning(
            "model %s: stored samples without a label from now on: %d. Theirs is none of the model file's: %s",
            model, lost, ", ".join(order.names) or "one target without a name",
        )  # fmt: skip
    return lost


def decode(noted: str) -> LabelOrder:
    """Read an order as it is stored."""
    return msgspec.json.decode(noted, type=LabelOrder)


def renumbering(before: LabelOrder, now: LabelOrder) -> Callable[[Any], StoredValue]:
    """Return what turns a stored value of one order into one of the other; None where there is none."""
    if before.kind == SEVERAL and now.names == ANOMALY:
        return lambda y: float(any(values_of(y))) if isinstance(y, bytes) else None
    if before.kind != now.kind:
        return lambda y: None
    if now.kind == ONE:
        numbers = _numbers(before, now)
        return lambda y: numbers[int(y)] if isinstance(y, (int, float)) and 0 <= y < len(numbers) else None
    if now.kind == MEASURED and not (before.names and now.names):  # a card may leave its one target without a name
        return lambda y: y if len(before.names) + len(now.names) <= 1 and not isinstance(y, bytes) else None
    places = [before.names.index(name) if name in before.names else None for name in now.names]
    return lambda y: _picked(y, len(before.names), places, now.kind)


def _numbers(before: LabelOrder, now: LabelOrder) -> list[int | None]:
    """The new number of each label. To an anomaly model, or from one, what is normal stays so by its meaning."""
    if now.names == ANOMALY:
        return [int(i != before.normal) for i in range(len(before.names))]
    if before.names == ANOMALY and "anomaly" not in now.names:
        return [now.normal, None]
    return [find_label(name, now.names) for name in before.names]


def _picked(y: Any, size: int, places: list[int | None], kind: str) -> StoredValue:
    """The values at these places of a stored value of `size`."""
    values = values_of(y) if isinstance(y, bytes) else (float(y),)
    if len(values) != size or None in places:
        return None
    found = np.asarray(values)[[p for p in places if p is not None]].tolist()
    return stored_value(tuple(found) if kind == SEVERAL or len(found) > 1 else found[0])
