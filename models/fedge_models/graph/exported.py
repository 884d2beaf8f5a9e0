# SPDX-License-Identifier: Apache-2.0
"""Remove what exporters add around a network: training modes, label outputs, maps of names, sigmoids for two classes.

A network exported in training mode would still drop values and normalise by the batch where it is served.

skl2onnx adds the label to the probabilities (as a tensor, or as a map from names); tf2onnx and others give one sigmoid
for two classes. Training needs one output with a value for each class, with at most a Softmax at the end. The resulting
graph computes the same probabilities.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import ModelError
from ..protos import FLOAT, tensor, value_info
from .onnx_file import tensors

if TYPE_CHECKING:
    import onnx


def one_output(model: onnx.ModelProto, classes: int) -> bool:
    """Reduce a classifier of so many classes to one float output, in place. Return whether anything changed."""
    graph = model.graph
    found = _scores(graph)
    if found is None:
        return False
    name, width = found
    makers = {o: n for n in graph.node for o in n.output}
    while (maker := makers.get(name)) is not None and maker.op_type in ("Identity", "Cast"):
        name = maker.input[0]
    inner = _sigmoid(name, makers)
    if inner is not None and classes == 2:
        name = _two_classes(graph, inner)
    elif len(graph.output) == 1 and width != 0:
        return False
    _set_output(graph, name, classes)
    _prune(graph)
    return True


def for_serving(model: onnx.ModelProto, where: str) -> bool:
    """Switch BatchNormalization and Dropout to inference, in place. Return whether any was in training mode.

    Raises ModelError when statistics of the batch are used elsewhere.
    """
    read = {n for node in model.graph.node for n in node.input} | {o.name for o in model.graph.output}
    constants, changed = tensors(model), False
    for node in model.graph.node:
        mode = next((a for a in node.attribute if a.name == "training_mode" and a.i), None)
        if node.op_type == "BatchNormalization" and mode is not None:
            if used := read.intersection(node.output[1:]):
                raise ModelError(f"{where}: node {node.name!r} (BatchNormalization): {used.pop()!r} is used elsewhere")
            mode.i, changed = 0, True
            del node.output[1:]
        if node.op_type == "Dropout" and len(node.input) > 2 and node.input[2] in constants:
            changed = True
            del node.input[2:]
    return changed


def any_batch(model: onnx.ModelProto) -> bool:
    """Make the first dimension of inputs and outputs variable, in place. Return whether one was fixed.

    Exporters fix it to the batch of their example. A graph that needs it fixed fails when another batch is tried.
    """
    stored = {t.name for t in model.graph.initializer}
    values = [v for v in (*model.graph.input, *model.graph.output) if v.name not in stored]
    fixed = [v for v in values if len(d := v.type.tensor_type.shape.dim) and d[0].dim_value]
    for value in fixed:
        value.type.tensor_type.shape.dim[0].dim_param = "n"
    if fixed:  # shapes of inner values, inferred for the fixed batch
        del model.graph.value_info[:]
    return bool(fixed)


def _scores(graph: onnx.GraphProto) -> tuple[str, int] | None:
    """Return (name, declared width) of the output with scores; None when several could be it."""
    floats = [o for o in graph.output if o.type.tensor_type.elem_type == FLOAT]
    if len(floats) == 1:
        dims = floats[0].type.tensor_type.shape.dim
        return floats[0].name, dims[-1].dim_value if len(dims) else 0
    maps = [n for n in graph.node if n.op_type == "ZipMap"]
    return (maps[0].input[0], 0) if not floats and len(maps) == 1 else None


def _sigmoid(name: str, makers: dict[str, onnx.NodeProto]) -> str | None:
    """Return z when `name` is sigmoid(z), or the two columns 1 - sigmoid(z) and sigmoid(z); else None."""
    maker = makers.get(name)
    if maker is not None and maker.op_type == "Concat" and len(maker.input) == 2:
        left, right = (makers.get(i) for i in maker.input)
        if left is not None and left.op_type == "Sub" and left.input[1] == maker.input[1]:
            maker = right
    return maker.input[0] if maker is not None and maker.op_type == "Sigmoid" else None


def _two_classes(graph: onnx.GraphProto, z: str) -> str:
    """Add a Softmax of the columns 0 and z, which gives the same two probabilities; return its name."""
    from onnx import helper

    graph.initializer.append(tensor("fedge.zero", np.array(0, np.float32)))
    graph.node.extend(
        [
            helper.make_node("Mul", [z, "fedge.zero"], ["fedge.none"]),
            helper.make_node("Concat", ["fedge.none", z], ["fedge.logits"], axis=1),
            helper.make_node("Softmax", ["fedge.logits"], ["fedge.probabilities"], axis=1),
        ]
    )
    return "fedge.probabilities"


def _set_output(graph: onnx.GraphProto, name: str, classes: int) -> None:
    del graph.output[:]
    graph.output.append(value_info(name, ("n", classes)))


def _prune(graph: onnx.GraphProto) -> None:
    """Remove nodes and tensors that no output depends on."""
    wanted, needed = {o.name for o in graph.output}, []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            needed.append(node)
    tensors = [t for t in graph.initializer if t.name in wanted]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(needed))
    graph.initializer.extend(tensors)
