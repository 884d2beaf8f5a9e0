# SPDX-License-Identifier: Apache-2.0
"""What a sample is made of and how, as a digest: samples of another recipe mean something else, whatever their size."""

from __future__ import annotations

import hashlib

import msgspec

from .card import Card
from .channels import formula_of


def recipe(card: Card) -> bytes:
    """The digest of everything on a card that says how a sample comes of readings."""
    channels = [(c.name, c.centre, c.scale, c.input) for c in card.channels]
    derived = [(c.name, c.centre, c.scale) for c in card.input_channels]
    formulas = [(f.name, formula_of(card.derive[f.name])) for f in card.formulas]
    window = (card.window.rate_hz, card.window.length)
    made = [channels, derived, formulas, card.features, window, card.bearing, card.image]
    return hashlib.sha256(msgspec.json.encode(made)).digest()
