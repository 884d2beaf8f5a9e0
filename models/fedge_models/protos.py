# SPDX-License-Identifier: Apache-2.0
"""ONNX's protobuf messages without the rest of the onnx package, which is 9 MiB of a gateway's memory.

`messages` loads the generated module of the package (`onnx_ml_pb2`) alone; who imports the package itself later gets
the same classes. What a gateway needs around them is here: values of tensors and attributes, tensors from arrays.
Field numbers and storage: onnx.proto3 of the ONNX standard, TensorProto and AttributeProto.
"""

from __future__ import annotations

import importlib
import sys
import threading
from functools import cache
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx

FLOAT, INT64, BOOL, FLOAT16, DOUBLE = 1, 7, 9, 10, 11  # TensorProto.DataType
EXTERNAL = 1  # TensorProto.DataLocation
A_FLOAT, A_INT, A_TENSOR, A_FLOATS, A_INTS = 1, 2, 4, 6, 7  # AttributeProto.AttributeType
NEWEST_OPSET = 28  # that the standard had when the operators here were last compared with it

_MODULE = "onnx.onnx_ml_pb2"
_LOADING = threading.Lock()  # a thread of each federation reads its model
_STORED = {
    FLOAT: ("<f4", "float_data"), 2: ("u1", "int32_data"), 3: ("i1", "int32_data"), 4: ("<u2", "int32_data"),
    5: ("<i2", "int32_data"), 6: ("<i4", "int32_data"), INT64: ("<i8", "int64_data"), 9: ("?", "int32_data"),
    FLOAT16: ("<f2", "int32_data"), DOUBLE: ("<f8", "double_data"), 12: ("<u4", "uint64_data"),
    13: ("<u8", "uint64_data"),
}  # fmt: skip
_ATTRIBUTES = {
    A_FLOAT: "f", A_INT: "i", 3: "s", A_TENSOR: "t", 5: "g",
    A_FLOATS: "floats", A_INTS: "ints", 8: "strings", 9: "tensors", 10: "graphs",
}  # fmt: skip


@cache
def messages() -> Any:
    """The module with ModelProto and the other messages."""
    with _LOADING:
        package = find_spec("onnx")
        folders = package.submodule_search_locations if package is not None else None
        path = Path(folders[0], "onnx_ml_pb2.py") if folders else None
        if _MODULE in sys.modules or path is None or not path.exists():
            return importlib.import_module(_MODULE)
        spec = spec_from_file_location(_MODULE, path)
        assert spec is not None and spec.loader is not None
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.modules[_MODULE] = module  # not before it is whole: others look there without the lock
        return module


def values(tensor: onnx.TensorProto) -> NDArray[Any]:
    """A tensor's values, shaped. Raises ValueError or TypeError when they are not as many as its shape claims."""
    stored = _STORED.get(tensor.data_type)
    if stored is None:  # text, complex numbers, small floats: nothing that is trained here
        from onnx import numpy_helper

        return np.asarray(numpy_helper.to_array(tensor))
    dtype, field = stored
    if tensor.HasField("raw_data"):
        flat = np.frombuffer(tensor.raw_data, dtype)
    elif tensor.data_type == FLOAT16:  # its bits
        flat = np.array(getattr(tensor, field), np.uint16).view(dtype)
    else:
        flat = np.array(getattr(tensor, field), dtype)
    return flat.reshape(tuple(tensor.dims))


def tensor(name: str, array: NDArray[Any]) -> onnx.TensorProto:
    """A float32 or int64 array as a tensor."""
    kind, dtype = (FLOAT, "<f4") if array.dtype.kind == "f" else (INT64, "<i8")
    raw = np.ascontiguousarray(array, dtype).tobytes()
    made: onnx.TensorProto = messages().TensorProto(name=name, data_type=kind, dims=array.shape, raw_data=raw)
    return made


def attribute(given: onnx.AttributeProto) -> Any:
    """An attribute's value: a number, bytes, a tensor, a graph, or a list of such. Raises ValueError for another."""
    field = _ATTRIBUTES.get(given.type)
    if field is None:
        raise ValueError(f"attribute {given.name!r} is of type {given.type}, which is not supported")
    value = getattr(given, field)
    return value if given.type < A_FLOATS else list(value)


def value_info(name: str, dims: tuple[str | int, ...] | None) -> onnx.ValueInfoProto:
    """What a graph says of a float32 input or output; None: nothing of its shape."""
    made: onnx.ValueInfoProto = messages().ValueInfoProto(name=name)
    made.type.tensor_type.elem_type = FLOAT
    for dim in dims or ():
        made.type.tensor_type.shape.dim.add(**{"dim_param" if isinstance(dim, str) else "dim_value": dim})
    return made


def as_initializer(tensor: bytes) -> bytes:
    """A serialised tensor as what follows a serialised model: parsers merge the two into one model.

    Fields: ModelProto.graph is 7, GraphProto.initializer is 5, both of wire type 2.
    """
    inner = b"\x2a" + _varint(len(tensor)) + tensor
    return b"\x3a" + _varint(len(inner)) + inner


def _varint(number: int) -> bytes:
    made = bytearray()
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*made, number])
