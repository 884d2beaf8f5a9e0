# SPDX-License-Identifier: Apache-2.0
"""Check that an asset's channels, targets and windows fit a model."""

from __future__ import annotations

import math

from fedge_models.errors import ModelError
from fedge_models.graph.card import Card
from fedge_models.graph.channels import with_formulas

from ..config.schema import AssetConfig
from ..windows.features import input_count, needs_bearing
from .pace import pace

MOST_DECISIONS_HZ = 1000


def check_fit(name: str, config: AssetConfig, card: Card, input_shape: tuple[int, ...]) -> None:
    """Raise ModelError unless the asset's channels and window give the input that the graph expects."""
    wanted, given = [c.name for c in card.channels], sorted(config.channels)
    if made := [c for c in given if c in card.derive]:
        formula = with_formulas(card.derive, made[:1])[0]
        raise ModelError(f"asset {name}: the model derives {formula} itself; remove asset.{name}.channels.{made[0]}")
    missing = [c for c in wanted if c not in config.channels]
    if missing or len(wanted) != len(given):
        raise ModelError(f"asset {name}: the model expects the channels {wanted}, the configuration has {given}")
    _check_pace(name, config, card)
    _check_targets(name, config, card)
    _check_bearing(name, config, card)
    length = pace(config.window, card).length
    _check_formulas(name, card, length)
    got: tuple[int, ...] = (len(card.input_channels), length)
    if card.features:
        got = (input_count(card),)
    if card.image is not None:
        got = card.image.shape
        if ranged := [channel for channel, tag in config.channels.items() if tag.range is not None]:
            raise ModelError(f"asset {name}: channel {ranged[0]} is a picture, which has no range; remove it")
    if got != input_shape and not (got[1:] == (1,) and got[:1] == input_shape):  # a table's row: no dimension of time
        raise ModelError(f"asset {name}: the model expects inputs of shape {input_shape}, this asset gives {got}")


def _check_formulas(name: str, card: Card, length: int) -> None:
    """Check that the asset's windows are long enough for the formulas; those of the card are."""
    short = next((f for f in card.formulas if f.samples > length), None)
    if short is not None:
        raise ModelError(
            f"asset {name}: the model's derived channel {short.name} needs windows of {short.samples} samples or more; "
            f"asset.{name}.window.length gives {length}"
        )


def _check_pace(name: str, config: AssetConfig, card: Card) -> None:
    rate, _, hop, *_ = pace(config.window, card)
    if rate / hop > MOST_DECISIONS_HZ:
        raise ModelError(
            f"asset {name}: windows at {rate:g} Hz with a hop of {hop} are {rate / hop:,.0f} decisions a second; "
            f"at most {MOST_DECISIONS_HZ:,} are possible: raise asset.{name}.window.hop"
        )


def _check_targets(name: str, config: AssetConfig, card: Card) -> None:
    wanted = list(card.measured)
    if config.targets and sorted(config.targets) != sorted(wanted):
        raise ModelError(f"asset {name}: the model gives the targets {wanted}, the configuration {[*config.targets]}")
    if card.task == "regress" and config.label and config.label.source and len(wanted) > 1:
        raise ModelError(
            f"asset {name}: one label cannot stand for the targets {wanted}; give a tag for each as `targets`"
        )


def _check_bearing(name: str, config: AssetConfig, card: Card) -> None:
    """Check that features of a bearing's defects know the bearing, and that a window holds enough strikes."""
    wanted, bearing = needs_bearing(card.features), config.bearing or card.bearing
    if not wanted:
        return
    if bearing is None or (bearing.shaft_hz is None and config.shaft_rpm is None):
        missing = "bearing" if bearing is None else "bearing.shaft_hz or shaft_rpm"
        raise ModelError(f"asset {name}: the features {list(wanted)} need asset.{name}.{missing}")
    if config.shaft_rpm is not None or bearing.shaft_hz is None:
        return
    rate, length, *_ = pace(config.window, card)
    orders = {fault: order for fault, order in bearing.orders().items() if any(w.startswith(fault) for w in wanted)}
    fault, slowest = min(orders.items(), key=lambda item: item[1])
    if slowest * bearing.shaft_hz * length < 2 * rate:
        raise ModelError(
            f"asset {name}: {length} samples at {rate:g} Hz hold less than two strikes at the {fault} rate of "
            f"{slowest * bearing.shaft_hz:.3g} Hz; the window needs {math.ceil(2 * rate / slowest / bearing.shaft_hz)}"
        )
