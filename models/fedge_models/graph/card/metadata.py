# SPDX-License-Identifier: Apache-2.0
"""The card as JSON in the ONNX file's own metadata under ``fedge.card``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from ...errors import ModelError
from .checks import check
from .spec import Card

if TYPE_CHECKING:
    import onnx

METADATA_KEY = "fedge.card"
MAX_CARD_BYTES = 64 * 1024
NEWER = {"local_start": "file"}
_UNKNOWN = re.compile(r"Object contains unknown field `(.+?)`")


def encode_card(card: Card) -> str:
    """Encode a card as the JSON text of the file's metadata.

    A key that is newer than gateways in the field may be is left out where it has its default: they refuse it.
    """
    table = msgspec.to_builtins(card)
    for key, default in NEWER.items():
        if table[key] == default:
            del table[key]
    return msgspec.json.encode(table).decode()


def decode_card(text: str, where: str = "model") -> Card:
    """Parse and check a card. Raises ModelError naming the field."""
    if len(text) > MAX_CARD_BYTES:
        raise ModelError(f"{where}: card has {len(text)} bytes, expected at most {MAX_CARD_BYTES}")
    try:
        card = msgspec.json.decode(text, type=Card)
    except msgspec.DecodeError as e:
        if unknown := _UNKNOWN.search(str(e)):
            raise ModelError(_newer(where, unknown[1])) from e
        raise ModelError(f"{where}: metadata {METADATA_KEY!r} is not a valid card: {e}") from e
    check(card, where)
    return card


def _newer(where: str, field: str) -> str:
    """What to do about a field that no card of this version has: whoever writes cards with it checks its name."""
    return (
        f"{where}: the model's card has the field {field!r}, which this version does not know: it was made by a newer "
        "version; upgrade this gateway, or the program here that reads it. If you wrote the metadata yourself, correct "
        "the field's name"
    )


def read_card(model: onnx.ModelProto, where: str = "model") -> Card:
    """Read the card of a loaded ONNX model. Raises ModelError when there is none."""
    for entry in model.metadata_props:
        if entry.key == METADATA_KEY:
            return decode_card(entry.value, where)
    raise ModelError(
        f"{where}: no model card; expected metadata key {METADATA_KEY!r}, or a TOML file with the card: --card on the "
        "command line, card in [model.X] of a gateway (see docs/reference/model-card.md)"
    )


def write_card(model: onnx.ModelProto, card: Card) -> None:
    """Write the card into the model's metadata, replacing any other."""
    check(card)
    others = [(e.key, e.value) for e in model.metadata_props if e.key != METADATA_KEY]
    del model.metadata_props[:]
    for key, value in [*others, (METADATA_KEY, encode_card(card))]:
        model.metadata_props.add(key=key, value=value)
