# SPDX-License-Identifier: Apache-2.0
"""Complete a model file as a user gives it: attach the card, choose trainable tensors, take weights in, one output.

Exporters put large weights into a file beside the model and know nothing of cards. The result is one self-contained
ONNX file of at most MAX_MODEL_BYTES with a checked card; data outside the model's own folder is refused. This file is
what `trainable.py` reads and what both ends hash.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from .. import protos
from ..errors import ModelError
from ..ops.operator import Array
from ..system import files, settings
from ..system.plain_file import read_plain
from .card import Card, read_card, write_card
from .exported import any_batch, for_serving, one_output
from .onnx_file import MAX_MODEL_BYTES

if TYPE_CHECKING:
    import onnx

PROBE_BYTES = 1 << 30
MAX_IR = 10  # every ONNX Runtime from 1.18 on loads it, and no operator here needs a newer one


def read_model(path: Path, card: Card | Path | None = None, trainable: str | None = None) -> bytes:
    """Read the file at `path`, with a card (or a TOML file that holds it) and globs of trainable tensors, where given.

    Raises ModelError when it is not a usable ONNX file, ConfigError for the card's file.
    """
    from google.protobuf.message import DecodeError

    data = read_capped(path)
    model: onnx.ModelProto = protos.messages().ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as e:
        raise ModelError(f"{path}: not an ONNX file: {e}") from e
    external = _take_in(model, path)
    given = read_card_file(card) if isinstance(card, Path) else card
    found = given or read_card(model, str(path))
    changed = any([any_batch(model), for_serving(model, str(path))])
    changed = (found.task == "classify" and one_output(model, len(found.labels))) or changed
    if card is None and trainable is None and not external and not changed and model.ir_version <= MAX_IR:
        return data
    model.ir_version = min(model.ir_version, MAX_IR)
    write_card(model, msgspec.structs.replace(found, trainable=trainable or found.trainable))
    return model.SerializeToString()


def with_weights(data: bytes, weights: Mapping[str, Array]) -> bytes:
    """Return the model file with other values of some initializers."""
    model: onnx.ModelProto = protos.messages().ModelProto.FromString(data)
    for tensor in model.graph.initializer:
        if tensor.name in weights:
            tensor.CopyFrom(protos.tensor(tensor.name, np.asarray(weights[tensor.name], np.float32)))
    return model.SerializeToString()


def read_card_file(path: Path) -> Card:
    """Read a card from TOML, with the keys of `card.Card`. Raises ConfigError naming file and key."""
    return settings.load(path, Card)


def read_capped(path: Path) -> bytes:
    """Read the file's bytes. Raises ModelError when it is larger than a model may be or cannot be read."""
    try:
        data = read_plain(path, MAX_MODEL_BYTES)
    except PermissionError as e:
        raise ModelError(files.explain(e, path)) from e
    except OSError as e:
        raise ModelError(f"{path}: cannot be read: {e.strerror}") from e
    if not data:
        raise ModelError(f"{path}: is empty; expected an ONNX file")
    return data


@contextmanager
def bounded_memory(more: int, where: str) -> Iterator[None]:
    """Limit the growth of this process to `more` bytes of address space: a small file may ask for terabytes.

    For the command lines only, as the limit holds for the whole process. Raises ModelError when it was not enough.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    try:
        yield
    except MemoryError as e:
        raise ModelError(f"{where}: needs more than {more >> 20} MiB for two samples; a gateway cannot train it") from e
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _take_in(model: onnx.ModelProto, path: Path) -> bool:
    """Read tensors stored in files beside the model into it. Return whether there were any. Raises ModelError."""
    outside = [t for t in model.graph.initializer if t.data_location == protos.EXTERNAL]
    total = 0
    for tensor in outside:
        where = {entry.key: entry.value for entry in tensor.external_data}
        data = _external(tensor.name, where, path)
        total += len(data)
        if total > MAX_MODEL_BYTES:
            raise ModelError(f"{path}: tensors outside the file have more than {MAX_MODEL_BYTES} bytes")
        tensor.raw_data = data
        tensor.ClearField("data_location")
        del tensor.external_data[:]
    return bool(outside)


def _external(name: str, where: dict[str, Any], path: Path) -> bytes:
    """Read the bytes of a tensor stored beside the model. Raises ModelError."""
    location = where.get("location", "")
    folder = path.resolve().parent
    file = (folder / location).resolve()
    if not location or file.parent != folder:
        raise ModelError(f"{path}: tensor {name!r} lies in {location!r}, outside the model's own folder; refused")
    try:
        offset, length = int(where.get("offset", 0)), int(where.get("length", MAX_MODEL_BYTES))
        if offset < 0 or not 0 <= length <= MAX_MODEL_BYTES:
            raise ValueError(f"offset {offset}, length {length}")
        with file.open("rb") as opened:
            opened.seek(offset)
            data = opened.read(length)
    except (OSError, ValueError) as e:
        raise ModelError(f"{path}: tensor {name!r}: {location!r} beside the model cannot be read: {e}") from e
    if "length" in where and len(data) != length:
        raise ModelError(f"{path}: tensor {name!r}: {location!r} holds {len(data)} of the {length} bytes it should")
    return data
