# SPDX-License-Identifier: Apache-2.0
"""What the gateway's configuration changes for one machine in how its samples are made, beside the card. Pure."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import msgspec
from fedge_models.graph.bearing import Bearing
from fedge_models.graph.card import Card

from ..config.schema import AssetConfig


class Own(NamedTuple):
    """What ``[asset.X]`` sets itself; None: as the card says."""

    rate_hz: float | None = None
    length: int | None = None
    bearing: Bearing | None = None
    shaft_rpm: bool = False  # the shaft's speed is measured


def own(config: AssetConfig) -> Own:
    """What an asset is configured with."""
    window = config.window
    return Own(window.rate_hz, window.length, config.bearing, config.shaft_rpm is not None)


def machine_recipe(card: Card, given: Own) -> bytes:
    """The digest of what a machine's samples are made of otherwise than the card says; nothing where all is the same.

    A bearing counts only where features are made of it.
    """
    window = (given.rate_hz or card.window.rate_hz, given.length or card.window.length)
    bearing = (given.bearing or card.bearing, given.shaft_rpm) if card.features else (card.bearing, False)
    if (window, bearing) == ((card.window.rate_hz, card.window.length), (card.bearing, False)):
        return b""
    return hashlib.sha256(msgspec.json.encode([window, bearing])).digest()
