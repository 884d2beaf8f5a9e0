# SPDX-License-Identifier: Apache-2.0
"""What statistics of a model are of: the measured channels of its card, and last its score as a part of its limit."""

from __future__ import annotations

from typing import NamedTuple

from ..graph.card import Card

SCORE, OF_LIMIT = "score", "of its limit"


class Column(NamedTuple):
    """One of them."""

    name: str
    unit: str


def columns(card: Card) -> tuple[Column, ...]:
    """The columns of statistics, in the order in which they are on the wire."""
    return (*(Column(c.name, c.unit) for c in card.channels), Column(SCORE, OF_LIMIT))
