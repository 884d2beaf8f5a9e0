# SPDX-License-Identifier: Apache-2.0
"""Choose a small untrained model for a card, so that nobody needs to know ONNX to begin."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from ..errors import ModelError
from . import zoo
from .card import Card
from .texture import LEAST_SIDE, texture2d
from .untrained import mark_untrained

if TYPE_CHECKING:
    import onnx

Kind = Literal["auto", "dense", "table", "convolutional"]
WIDEST = 64  # units of an autoencoder's first hidden layer
SHORTEST_CONVOLVED = 24  # samples of a raw window; shorter ones get dense layers


def make_starter(card: Card, inputs: int | None = None, seed: int = 0, kind: Kind = "auto") -> onnx.ModelProto:
    """Make a small untrained model for a card, marked as untrained.

    inputs: length of the feature vector, where the card names features. kind "auto": with features the model is dense
    (an autoencoder for anomaly); on raw windows it is convolutional, and an anomaly model of raw windows is a dense
    autoencoder; for a table, whose windows are one sample, it is a net over trained ramps (`zoo.table`); for pictures
    it is dense over fixed filters (`texture2d`), or trained convolutions ("convolutional").
    Raises ModelError when the card cannot have such a model.
    """
    if card.features and inputs is None:
        raise ModelError("card: names features; say how many values they give (inputs)")
    _check_kind(card, kind)
    return mark_untrained(_made(card, inputs, seed, kind))


def _made(card: Card, inputs: int | None, seed: int, kind: Kind) -> onnx.ModelProto:
    if card.image is not None:
        return _picture_model(card, seed, kind)
    shape = [inputs] if card.features and inputs else [len(card.input_channels), card.window.length]
    if card.task == "anomaly":
        return _autoencoder(card, shape, seed)
    chosen = _kind(card) if kind == "auto" else kind
    if chosen == "convolutional":
        return zoo.cnn1d(card, seed=seed)
    make = zoo.table if chosen == "table" else zoo.mlp
    return make(card, shape if len(shape) > 1 else shape[0], seed=seed)


def _check_kind(card: Card, kind: Kind) -> None:
    """Raise ModelError for a kind that the card's inputs or task cannot have."""
    if kind == "auto" or (kind == "convolutional" and card.image is not None and card.task != "anomaly"):
        return
    if card.image is not None or card.task == "anomaly":
        what = "a picture" if card.image is not None else "task anomaly"
        raise ModelError(
            f"card: kind {kind!r} is for channels and a task with labels or targets, and this is {what}; use auto"
        )
    if kind == "convolutional" and (card.features or card.window.length < SHORTEST_CONVOLVED):
        raise ModelError(
            f"card: kind {kind!r} is for pictures, and raw windows of at least {SHORTEST_CONVOLVED} samples; use auto"
        )


def _kind(card: Card) -> str:
    """The kind that measured best for such inputs."""
    if card.window.length == 1:
        return "table"
    return "convolutional" if not card.features and card.window.length >= SHORTEST_CONVOLVED else "dense"


def _picture_model(card: Card, seed: int, kind: Kind) -> onnx.ModelProto:
    assert card.image is not None
    if card.task == "anomaly":
        raise ModelError("card: there is no starter model for anomaly on pictures; use classify, or bring a model")
    sides = min(card.image.height, card.image.width)
    if kind == "auto" and sides >= LEAST_SIDE:
        return texture2d(card, card.image.shape, seed=seed)
    filters = (8, 16, 32)[: max(1, min(3, sides.bit_length() - 2))]
    return zoo.cnn2d(card, card.image.shape, filters, seed)


def _autoencoder(card: Card, shape: list[int], seed: int) -> onnx.ModelProto:
    size = math.prod(shape)
    hidden = (min(WIDEST, max(2, size // 2)), min(8, max(1, size // 4)))
    return zoo.autoencoder(card, shape if len(shape) > 1 else shape[0], hidden, seed)
