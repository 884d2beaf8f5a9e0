# SPDX-License-Identifier: Apache-2.0
"""Copy a graph without its large tensors: what is tried again and again must not take the weights along each time.

They become inputs of the copy, and are fed as arrays. A large file would else be in memory several times.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from ..protos import FLOAT, messages, value_info, values

if TYPE_CHECKING:
    import onnx

Weights = dict[str, NDArray[Any]]
LARGE = 1 << 16  # bytes
RAW = 4  # bytes of a value


def large(model: onnx.ModelProto) -> set[str]:
    """The names of the large tensors of a graph."""
    return {t.name for t in model.graph.initializer if _is_large(t)}


def weights(model: onnx.ModelProto) -> Weights:
    """The large tensors of a graph as arrays."""
    return {t.name: values(t) for t in model.graph.initializer if _is_large(t)}


def skeleton(model: onnx.ModelProto, without: Container[str], outputs: Sequence[str] = ()) -> onnx.ModelProto:
    """A copy in which these tensors are inputs; `outputs`: others than the graph's own. It has no metadata."""
    made: onnx.ModelProto = messages().ModelProto(ir_version=max(model.ir_version, 4))
    made.opset_import.extend(model.opset_import)
    made.functions.extend(model.functions)
    graph, old = made.graph, model.graph
    graph.name = old.name or "graph"
    graph.node.extend(old.node)
    graph.input.extend(v for v in old.input if v.name not in without)
    graph.output.extend([messages().ValueInfoProto(name=n) for n in outputs] or old.output)
    graph.value_info.extend(() if outputs else old.value_info)
    for tensor in old.initializer:
        if tensor.name in without:
            graph.input.append(value_info(tensor.name, tuple(tensor.dims)))
        else:
            graph.initializer.append(tensor)
    return made


def _is_large(tensor: onnx.TensorProto) -> bool:
    size = RAW
    for dim in tensor.dims:
        size *= dim
    return tensor.data_type == FLOAT and size >= LARGE
