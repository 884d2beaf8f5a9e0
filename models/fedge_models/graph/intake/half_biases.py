# SPDX-License-Identifier: Apache-2.0
"""Leave the second bias of a recurrent layer at zero where the network has one only, as in Keras and JAX.

ONNX has two, one for the input and one for the state. Exporters fill the second with zeros, and the two are added. If
both were trained, the one bias would learn twice as fast. In PyTorch there are two, and both learn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...protos import FLOAT, tensor, values
from ..card import Card
from ..signature import PYTORCH, kinds
from .provenance import CONSTANT

if TYPE_CHECKING:
    import onnx

RECURRENT, BIAS = ("GRU", "LSTM", "RNN"), 3
KERAS = "tf2onnx"
ONE = "the second bias of a layer that has one: the exporter filled it with zeros"


def fix_second_bias(model: onnx.ModelProto, card: Card, where: str) -> bool:
    """Make the second half of each such bias a constant, in place. Return whether there was any."""
    if model.producer_name == PYTORCH or kinds(model):
        return False
    from_card = {*card.constants, *card.shared}
    layers = [n for n in model.graph.node if n.op_type in RECURRENT and len(n.input) > BIAS and n.input[BIAS]]
    read = {n.input[BIAS] for n in layers}
    stored = {t.name: t for t in model.graph.initializer if t.name in read and t.data_type == FLOAT}
    found = [n for n in layers if n.input[BIAS] in stored and n.input[BIAS] not in from_card]
    found = [
        n for n in found if _is_half(stored[n.input[BIAS]], _has_one(model, n)) and _reads(model, n.input[BIAS]) == 1
    ]
    for node in found:
        _split(model, node, stored[node.input[BIAS]])
    return bool(found)


def _has_one(model: onnx.ModelProto, node: onnx.NodeProto) -> bool:
    """Whether a layer of Keras has one bias only: all but a GRU that resets after the product."""
    after = any(a.name == "linear_before_reset" and a.i for a in node.attribute)
    return model.producer_name == KERAS and not after


def _is_half(bias: onnx.TensorProto, fresh: bool) -> bool:
    """Whether the second half is zero for each direction, and the first one is not; it may be in a `fresh` layer."""
    if len(bias.dims) != 2 or bias.dims[1] % 2:
        return False
    first, second = np.split(values(bias), 2, axis=1)
    return not second.any() and (fresh or bool(first.any()))


def _reads(model: onnx.ModelProto, name: str) -> int:
    return sum(n == name for node in model.graph.node for n in node.input)


def _split(model: onnx.ModelProto, node: onnx.NodeProto, bias: onnx.TensorProto) -> None:
    """Let a node put the two halves together; the first one keeps the name."""
    from onnx import helper

    graph, name = model.graph, bias.name
    first, second = np.split(values(bias), 2, axis=1)
    both, zero = f"{name}.both", f"{name}.zero"
    bias.CopyFrom(tensor(name, first))
    graph.initializer.append(tensor(zero, second))
    graph.initializer[-1].doc_string = CONSTANT + ONE
    node.input[BIAS] = both
    made = helper.make_node("Concat", [name, zero], [both], name=f"fedge.{both}", axis=1)
    graph.node.insert([*graph.node].index(node), made)
