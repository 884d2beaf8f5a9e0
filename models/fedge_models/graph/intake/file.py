# SPDX-License-Identifier: Apache-2.0
"""Read the bytes of a model file, and the weights that an exporter put into a file beside it.

At most MAX_MODEL_BYTES are read. Data outside the model's own folder is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ... import protos
from ...errors import ModelError
from ...system import files
from ...system.plain_file import open_plain, read_plain
from ..onnx_file import MAX_MODEL_BYTES

if TYPE_CHECKING:
    import onnx


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


def take_in(model: onnx.ModelProto, path: Path) -> bool:
    """Read tensors stored in files beside the model into it. Return whether there were any. Raises ModelError."""
    inside = [t for n in model.graph.node for a in n.attribute for t in (a.t, *a.tensors)]
    outside = [t for t in (*model.graph.initializer, *inside) if t.data_location == protos.EXTERNAL]
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
    if not location or folder not in file.parents:
        raise ModelError(f"{path}: tensor {name!r} lies in {location!r}, outside the model's own folder; refused")
    try:
        offset, length = int(where.get("offset", 0)), int(where.get("length", MAX_MODEL_BYTES))
        if offset < 0 or not 0 <= length <= MAX_MODEL_BYTES:
            raise ValueError(f"offset {offset}, length {length}")
        with open_plain(file) as opened:
            opened.seek(offset)
            data = opened.read(length)
    except FileNotFoundError as e:
        raise ModelError(
            f"{path}: tensor {name!r} lies in a file of its own, {location!r}, expected in {folder}, and it is not "
            "there. Copy it there from beside the model that was exported (keep its name), or export into one file, "
            "in PyTorch external_data=False"
        ) from e
    except (OSError, ValueError) as e:
        raise ModelError(f"{path}: tensor {name!r}: {location!r} beside the model cannot be read: {e}") from e
    if "length" in where and len(data) != length:
        raise ModelError(f"{path}: tensor {name!r}: {location!r} holds {len(data)} of the {length} bytes it should")
    return data
