# SPDX-License-Identifier: Apache-2.0
"""Find stored zeros that recurrent layers begin with, which most tools write and none of them trains.

PyTorch's older exporter gives only parameters and buffers the name of an attribute: such a state may be learnt. So may
one in a file that does not say what wrote it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from ...protos import values
from ..signature import ATTRIBUTE, PYTORCH
from .one_bias import LAID_OUT, RECURRENT, joined_of

if TYPE_CHECKING:
    import onnx

STATE = "the zeros that a recurrent layer begins with"
STATES = (5, 6)  # inputs of a recurrent layer
SPREAD = (*LAID_OUT, "Cast", "Expand", "Gather", "Slice", "Tile", "Transpose")  # over the samples, or cut for a layer


def first_states(model: onnx.ModelProto, stored: Collection[str]) -> Iterator[str]:
    """The names of such tensors, each read by nothing else."""
    graph = model.graph
    makers = {o: n for n in graph.node if n.op_type in SPREAD for o in n.output}
    begun = [(i, n) for node in graph.node if node.op_type in RECURRENT for i, n in enumerate(node.input)]
    made = {part for i, n in begun if i in STATES and n for part in joined_of(n, makers)}
    others = {
        n
        for node in graph.node
        for i, n in enumerate(node.input)
        if made.isdisjoint(node.output) and (node.op_type not in RECURRENT or i not in STATES)
    }
    for tensor in graph.initializer:
        name = tensor.name
        learnt = model.producer_name in (PYTORCH, "") and ATTRIBUTE.match(name) is not None
        if name in made and name in stored and name not in others and not learnt and not values(tensor).any():
            yield name
