# SPDX-License-Identifier: Apache-2.0
"""What a sample is made of and how, as a digest: samples of another recipe mean something else, whatever their size."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec

from .card import Card
from .channels import formula_of


def recipe(card: Card) -> bytes:
    """The digest of everything on a card that says how a sample comes of readings, before a site standardises it."""
    channels = [(c.name, c.input) for c in card.channels]
    taken = [(c.name, c.centre, c.scale) for c in card.input_channels]
    formulas = [(f.name, formula_of(card.derive[f.name])) for f in card.formulas]
    window = (card.window.rate_hz, card.window.length)
    made = [channels, taken, formulas, card.features, window, card.bearing, _prepared(card)]
    return hashlib.sha256(msgspec.json.encode(made)).digest()


def scale_recipe(card: Card, own: Iterable[bytes] = ()) -> bytes:
    """The digest of what a standardisation depends on besides the samples: how they are made, also by assets with a
    recipe of their own, and what the card says of scales."""
    conditions = [c.condition for c in card.input_channels]
    made = [recipe(card), sorted(filter(None, own)), conditions, card.scaling == "file", card.image]
    return hashlib.sha256(msgspec.json.encode(made)).digest()


def _prepared(card: Card) -> object:
    """How a picture becomes the bytes of a sample."""
    return card.image and (card.image.shape, card.image.crop, card.image.resize)
