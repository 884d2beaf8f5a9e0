# SPDX-License-Identifier: Apache-2.0
"""Read a model file as a user gives it: attach the card, choose trainable tensors, take weights in, run the passes.

Exporters put large weights into a file beside the model and know nothing of cards. The result is one self-contained
ONNX file with a checked card. This file is what `trainable.py` reads and what both ends hash.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from ... import protos
from ...errors import ModelError
from ...ops.operator import Array
from ...system import settings
from ..card import METADATA_KEY, Card, read_card, write_card
from ..card.checks import check
from ..card.differences import differences
from ..notes import note, notes
from . import passes
from .constants import constants
from .file import read_capped, take_in
from .formats import check_format
from .names import with_new_names
from .own_scaling import own_scaling
from .patterns import note_patterns

if TYPE_CHECKING:
    import onnx

MAX_IR = 10  # every ONNX Runtime from 1.18 on loads it, and no operator here needs a newer one


def read_model(path: Path, card: Card | Path | None = None, trainable: str | None = None) -> bytes:
    """Read the file at `path`, with a card (or a TOML file that holds it) and globs of trainable tensors, where given.

    Raises ModelError when it is not a usable ONNX file, ConfigError for the card's file.
    """
    data = read_capped(path)
    model, digest = _parsed(data, path), blake2b(data).digest()
    del data  # as large as the model
    external = take_in(model, path)
    given = read_card_file(card) if isinstance(card, Path) else card
    found = given or read_card(model, str(path))
    if given is not None:
        given = with_new_names(model, given)
        _note_replaced(model, given)
        found = _with_constants(model, given)
    found = msgspec.structs.replace(found, trainable=trainable or found.trainable)
    changed, found = passes.run(model, found, str(path))
    before = notes(model)
    fixed = constants(model, found, str(path))
    scaled = own_scaling(model, found, fixed)
    changed = changed or tuple(fixed) != found.constants or scaled != found or notes(model) != before
    found = msgspec.structs.replace(scaled, constants=tuple(fixed), inputs=(), output="")
    changed = note_patterns(model, found) or changed
    if card is None and trainable is None and not external and not changed and model.ir_version <= MAX_IR:
        return _unchanged(path, digest)
    model.ir_version = min(model.ir_version, MAX_IR)
    write_card(model, found)
    return model.SerializeToString()


def _note_replaced(model: onnx.ModelProto, card: Card) -> None:
    """Note in what another card differs from the one that the file has: it was made, and trained, with that one."""
    if not any(entry.key == METADATA_KEY for entry in model.metadata_props):
        return
    try:
        text = differences(read_card(model), card)
    except ModelError:
        text = "its own is no valid one"
    if text:
        note(model, f"card: the file has a card of its own, and another is used instead: {text}")


def _with_constants(model: onnx.ModelProto, card: Card) -> Card:
    """The card, with what the file's own one says of tensors that are no parameters: what told it may be gone."""
    if not any(entry.key == METADATA_KEY for entry in model.metadata_props):
        return card
    try:
        known = read_card(model).constants
    except ModelError:
        return card
    stored = {t.name for t in model.graph.initializer}
    more = [n for n in known if n in stored and n not in card.constants]
    return msgspec.structs.replace(card, constants=(*card.constants, *more))


def _unchanged(path: Path, digest: bytes) -> bytes:
    """Read the file again. Raises ModelError when it has become another one."""
    data = read_capped(path)
    if blake2b(data).digest() != digest:
        raise ModelError(f"{path}: was changed while it was read; try again")
    return data


def read_stored_card(path: Path) -> Card:
    """Read the card that a model file holds, and nothing else of it. Raises ModelError."""
    return read_card(_parsed(read_capped(path), path), str(path))


def stored_notes(path: Path) -> tuple[str, ...]:
    """What was noted in a file when it was taken in before. Raises ModelError."""
    return tuple(notes(_parsed(read_capped(path), path)))


def _parsed(data: bytes, path: Path) -> onnx.ModelProto:
    from google.protobuf.message import DecodeError

    check_format(data, str(path))
    model: onnx.ModelProto = protos.messages().ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as e:
        raise ModelError(
            f"{path}: not an ONNX file, or one that was cut off or damaged ({len(data)} bytes); copy it again"
        ) from e
    return model


def with_weights(data: bytes, weights: Mapping[str, Array]) -> bytes:
    """Return the model file with other values of some initializers. Raises ModelError for one that it does not have."""
    model: onnx.ModelProto = protos.messages().ModelProto.FromString(data)
    missing = set(weights)
    for tensor in model.graph.initializer:
        if tensor.name in weights:
            tensor.CopyFrom(protos.tensor(tensor.name, np.asarray(weights[tensor.name], np.float32)))
            missing.discard(tensor.name)
    if missing:
        raise ModelError(f"the file has no tensor {min(missing)!r}, whose values are to be written into it")
    return model.SerializeToString()


def read_card_file(path: Path) -> Card:
    """Read a card from TOML, with the keys of `card.Card`. Raises ConfigError or ModelError naming file and key."""
    table = settings.read(path)
    for key in ("local", "trainable"):  # text on the card, so that versions before this one read it
        if isinstance(given := table.get(key), list) and given and all(isinstance(glob, str) for glob in given):
            table[key] = ",".join(given)
    card = settings.convert(table, Card, str(path))
    check(card, str(path))
    return card
