# SPDX-License-Identifier: Apache-2.0
"""Read an ONNX file without trusting it: whole, self-contained, of a known opset, tensors as long as they claim.

Anything else is a ModelError that names the tensor, within memory bounded by the file's own size. The nodes are checked
in `nodes.py`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import protos
from ..errors import ModelError, first_line
from .served_errors import CORRECT
from .skeleton import large, skeleton

if TYPE_CHECKING:
    import onnx

MAX_MODEL_BYTES = 256 * 1024 * 1024
MIN_OPSET = 13  # from here on, axes and sizes are inputs


def parse(data: bytes, where: str, schemas: bool = True) -> onnx.ModelProto:
    """Parse and check an ONNX model; `schemas`: also every node against the standard's schema."""
    from google.protobuf.message import DecodeError

    if len(data) > MAX_MODEL_BYTES:
        raise ModelError(f"{where}: has {len(data)} bytes, expected at most {MAX_MODEL_BYTES}")
    model: onnx.ModelProto = protos.messages().ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as e:
        raise ModelError(f"{where}: not an ONNX file: {e}") from e
    inside = [t for n in model.graph.node for a in n.attribute for t in (a.t, *a.tensors)]
    for tensor in (*model.graph.initializer, *inside):
        _check_tensor(tensor, where)
    opset = max([o.version for o in model.opset_import if o.domain in ("", "ai.onnx")], default=0)
    if not MIN_OPSET <= opset <= protos.NEWEST_OPSET:
        expected = f"expected {MIN_OPSET} to {protos.NEWEST_OPSET}; export it with opset 17"
        raise ModelError(f"{where}: has opset {opset}, {expected}")
    if schemas:
        from onnx import checker

        try:
            checker.check_model(skeleton(model, large(model)))  # it is copied twice for that
        except (checker.ValidationError, ValueError) as e:
            raise ModelError(f"{where}: not a valid ONNX model: {first_line(e).rstrip('.')}. {CORRECT}") from e
    return model


def tensors(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """Return every constant of the graph by name: initializers, and the values of Constant nodes."""
    found = {t.name: t for t in model.graph.initializer}
    kinds = {
        protos.A_FLOAT: np.float32, protos.A_FLOATS: np.float32, protos.A_INT: np.int64, protos.A_INTS: np.int64,
    }  # fmt: skip
    for node in model.graph.node:
        if node.op_type != "Constant" or not node.output:
            continue
        for attribute in node.attribute:
            name = node.output[0]
            if attribute.type == protos.A_TENSOR:
                found[name] = attribute.t
            elif attribute.type in kinds:
                found[name] = protos.tensor(name, np.array(protos.attribute(attribute), kinds[attribute.type]))
    return found


def array(name: str, tensor: onnx.TensorProto, where: str, finite: bool) -> NDArray[Any]:
    """Return a tensor's values. Raises ModelError when there are fewer than claimed, or some are NaN.

    Where not all have to be `finite`, infinity is taken: an attention mask contains minus infinity. So is a tensor of
    nothing but NaN, as JAX writes it where a division has no result and another branch is chosen.
    """
    try:
        values = protos.values(tensor)
    except (ValueError, TypeError) as e:
        raise ModelError(f"{where}: tensor {name!r} does not hold what its shape claims: {e}") from e
    if values.dtype.kind != "f":
        return values
    right = np.isfinite(values) if finite else ~np.isnan(values)
    if not right.all() and (finite or right.any()):
        what = "a value that is not finite; if it is a mask and no weight, let --trainable leave it out"
        raise ModelError(f"{where}: tensor {name!r} has {what}")
    return values


def single(values: Any, constants: Any, kind: str, where: str) -> tuple[str, tuple[int, ...]]:
    """Return name and shape (without batch) of the graph's only input or output. Raises ModelError."""
    real = [v for v in values if v.name not in constants]
    if len(real) != 1:
        raise ModelError(f"{where}: has {len(real)} {kind}s ({', '.join(v.name for v in real)}), expected exactly one")
    dims = real[0].type.tensor_type.shape.dim
    shape = tuple(int(d.dim_value) for d in dims[1:])
    if not shape or 0 in shape:
        raise ModelError(f"{where}: {kind} {real[0].name!r} needs fixed dimensions after the batch, got {shape}")
    return real[0].name, shape


def _check_tensor(tensor: onnx.TensorProto, where: str) -> None:
    if tensor.data_location == protos.EXTERNAL:
        raise ModelError(f"{where}: tensor {tensor.name!r} is stored outside the file; save it with all data inside")
    claimed = math.prod(tensor.dims) if all(d >= 0 for d in tensor.dims) else -1
    if not 0 <= claimed <= MAX_MODEL_BYTES:
        raise ModelError(f"{where}: tensor {tensor.name!r} claims the shape {list(tensor.dims)}")
