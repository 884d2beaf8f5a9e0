# SPDX-License-Identifier: Apache-2.0
"""Labels in the configuration that no model knows: what they stand for would never be learnt. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedge_models.graph.card import Card

from ..config.schema import AssetConfig
from ..samples.label_values import accepted_values, target_value
from ..types import Table

Known = Mapping[str, tuple[AssetConfig, Card]]  # asset -> it, and its model's card if that is there


def unknown(outputs: Mapping[str, Table], known: Known) -> list[str]:
    """What `label.map` and `closing` name and the models lack, in words."""
    made = []
    for name, (asset, card) in known.items():
        for value in (asset.label.map if asset.label else {}).values():
            if target_value(value, card, {}) is None:
                made.append(_words(f"asset {name}: label.map", value, card))
    for name, table in outputs.items():
        made += [_words(f"output {name}: closing", value, card) for value, card in _closing(table, known)]
    return made


def _closing(table: Table, known: Known) -> list[tuple[Any, Card]]:
    """The labels of closing codes that no asset's model knows, with the card of one."""
    closing = table.get("closing") or {}
    names = closing.values() if isinstance(closing, dict) else ()
    cards = [(card, asset.label.map if asset.label else {}) for asset, card in known.values()]
    return [(n, cards[0][0]) for n in names if cards and all(target_value(n, c, m) is None for c, m in cards)]


def _words(where: str, value: Any, card: Card) -> str:
    return f"{where}: the model has no label {value!r}: expected {accepted_values(card)}"
