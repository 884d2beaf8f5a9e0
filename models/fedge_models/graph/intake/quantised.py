# SPDX-License-Identifier: Apache-2.0
"""Turn a quantised graph into the float graph that it stands for, so that it trains.

Every quantised value is taken as the real value that it means: weights are dequantised, and what is rounded while the
graph runs (QuantizeLinear, QLinearConv, dynamic quantisation) is not rounded any more. Quantisers leave out Relu and
Clip where the range of the 8-bit values does the same, so the range stays, as Clip; at the graph's input and output,
where nothing can have been left out but a Relu, only a lowest value of zero stays, and none at the logits of a
classifier: they were above zero in the quantiser's samples.
Quantisation-aware training leaves weights in float32, with QuantizeLinear and DequantizeLinear behind each: they train
as they are, and the pair goes.
A graph stays as it is where no quantised weight is to be trained, and nothing quantised lies behind what is: a frozen
trunk runs in ONNX Runtime. But for dynamic quantisation, whose range is that of a whole batch, so that what one sample
gives depends on the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from ...errors import ModelError
from ...protos import FLOAT, tensor
from ..card import Card
from ..nodes import led
from ..notes import note
from .compare import copied
from .names import own_names
from .provenance import origins
from .pruning import prune
from .quantised_nodes import NODES, clip, is_quantised, weights_of
from .real_values import Work

if TYPE_CHECKING:
    import onnx

NAMED = 8  # tensors that the note lists


def dequantise(model: onnx.ModelProto, card: Card, where: str) -> bool:
    """Dequantise the graph in place, where weights of it are to be trained. Return whether it was.

    Raises ModelError for a form that is not understood.
    """
    if not any(n.op_type in NODES for n in model.graph.node):
        return False
    globs = [p.strip() for p in card.trainable.split(",")]
    if not (_trains(model, globs) or _trains_by_layer(model, card, globs, where)):
        return False
    note(model, _dequantised(model, card.task == "classify", where))
    return True


def _trains(model: onnx.ModelProto, globs: list[str]) -> bool:
    """Whether a pattern names a quantised weight, or a tensor that quantised values lie behind."""
    work = Work(model)
    if any(n.op_type == "DynamicQuantizeLinear" for n in model.graph.node):
        return True
    quantised = [work.name(n.input[i]) for n in model.graph.node for i in weights_of(n) if i < len(n.input)]
    if _matched(quantised, globs):
        return True
    floats = [t.name for t in model.graph.initializer if t.data_type == FLOAT and len(t.dims)]
    behind = led(model, _matched(floats, globs))
    return any(n.op_type in NODES and behind.intersection(n.input[:1]) for n in model.graph.node)


def _trains_by_layer(model: onnx.ModelProto, card: Card, globs: list[str], where: str) -> bool:
    """Whether a pattern that matches nothing yet is the name that a layer has for one of the dequantised weights."""
    left = [g for g in globs if g and not _matched([t.name for t in model.graph.initializer], [g])]
    if not left:
        return False
    tried = copied(model)
    _dequantised(tried, False, where)
    own_names(tried, card, origins(tried))
    return bool(_matched([t.name for t in tried.graph.initializer], left))


def _matched(names: Iterable[str], globs: list[str]) -> list[str]:
    return [n for n in names if n and any(fnmatchcase(n, g) for g in globs)]


def _dequantised(model: onnx.ModelProto, logits: bool, where: str) -> str:
    """Replace the nodes, in place. Return what is to be noted. logits: whether it gives those of labels."""
    work = Work(model, logits)
    _replace(work, where)
    prune(model.graph)
    rounded = [n for n in work.rounded if n in {t.name for t in model.graph.initializer}]
    more = f" and {len(rounded) - NAMED} more" if len(rounded) > NAMED else ""
    floats = f"{', '.join(rounded[:NAMED])}{more}, stored as float32 and rounded while it ran" if rounded else ""
    stored = f"{len(work.made)} tensors" if work.made or not rounded else ""
    return f"dequantised: {' and '.join(filter(None, (stored, floats)))}; values are no longer rounded while it runs"


def _replace(work: Work, where: str) -> None:
    """Replace every node of the graph."""
    for node in work.graph.node:
        if work.left_out.intersection(node.output):
            continue
        made = clip if is_quantised(work, node) else NODES.get(node.op_type)
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
