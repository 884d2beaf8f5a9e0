# SPDX-License-Identifier: Apache-2.0
"""Turn a quantised graph into the float graph that it stands for, so that it trains.

Every quantised value is taken as the real value that it means: weights are dequantised, and what is rounded while the
graph runs (QuantizeLinear, QLinearConv, dynamic quantisation) is not rounded any more. Quantisers leave out Relu and
Clip where the range of the 8-bit values does the same, so the range stays, as Clip; at the graph's input and output,
where nothing can have been left out but a Relu, only a bound at zero stays.
A graph none of whose quantised weights is to be trained stays as it is: a frozen trunk runs in ONNX Runtime. But for
dynamic quantisation, whose range is that of a whole batch, so that what one sample gives depends on the others.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from ...errors import ModelError
from ...protos import tensor
from ..card import Card
from ..notes import note
from .compare import copied
from .pruning import prune
from .quantised_nodes import NODES, weights_of
from .real_values import Work

if TYPE_CHECKING:
    import onnx


def dequantise(model: onnx.ModelProto, card: Card, where: str) -> bool:
    """Dequantise the graph in place, where weights of it are to be trained. Return whether it was.

    Raises ModelError for a form that is not understood.
    """
    work = Work(model)
    names = [work.name(n.input[i]) for n in model.graph.node for i in weights_of(n)]
    globs = [p.strip() for p in card.trainable.split(",")]
    dynamic = any(n.op_type == "DynamicQuantizeLinear" for n in model.graph.node)
    if not dynamic and not any(fnmatchcase(name, g) for name in names if name for g in globs):
        return False
    _replace(work, where)
    prune(model.graph)
    note(model, f"dequantised: {len(work.made)} tensors; values are no longer rounded while it runs")
    return True


def _replace(work: Work, where: str) -> None:
    """Replace every node of the graph."""
    for node in work.graph.node:
        if work.left_out.intersection(node.output):
            continue
        made = NODES.get(node.op_type)
        try:
            if made is not None:
                made(work, node)
            else:
                work.add(node.op_type, *node.input, to=node.output, like=node)
        except (KeyError, ValueError, IndexError, TypeError) as e:
            at = f"{where}: node {node.name or node.op_type!r} ({node.op_type})"
            raise ModelError(f"{at}: a quantised form that is not understood ({e}); take the float file") from e
    del work.graph.node[:], work.graph.value_info[:]
    work.graph.node.extend(work.nodes)
    kept = [copied(t) for t in work.graph.initializer if t.name not in work.made]
    del work.graph.initializer[:]
    work.graph.initializer.extend(kept)
    work.graph.initializer.extend(tensor(n, v) for n, v in work.made.items())
