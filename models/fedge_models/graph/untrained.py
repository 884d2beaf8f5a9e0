# SPDX-License-Identifier: Apache-2.0
"""The mark of a starter model that was never trained: a digest of its weights in the file's metadata.

Whoever changes a weight, by any tool, makes the mark wrong, and the file counts as trained. So does a file without one.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

from .. import protos

if TYPE_CHECKING:
    import onnx

UNTRAINED_KEY = "fedge.untrained"


def mark_untrained(model: onnx.ModelProto) -> onnx.ModelProto:
    """Mark a model whose weights were only drawn; the model itself."""
    model.metadata_props.add(key=UNTRAINED_KEY, value=_digest(model))
    return model


def is_untrained(model: onnx.ModelProto) -> bool:
    """Whether the weights are still those that the mark was made for."""
    marks = [entry.value for entry in model.metadata_props if entry.key == UNTRAINED_KEY]
    return bool(marks) and marks[0] == _digest(model)


def _digest(model: onnx.ModelProto) -> str:
    """A digest of all float tensors by their names, however they are stored."""
    found = blake2b(digest_size=16)
    for tensor in sorted(model.graph.initializer, key=lambda t: t.name):
        if tensor.data_type == protos.FLOAT:
            found.update(tensor.name.encode() + b"\0" + protos.values(tensor).astype("<f4").tobytes())
    return found.hexdigest()
