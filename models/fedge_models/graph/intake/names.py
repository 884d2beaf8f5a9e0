# SPDX-License-Identifier: Apache-2.0
"""Give a tensor whose name an exporter made up (`onnx::MatMul_34`, `val_12`) the name that its layer has for it.

Exporters store transposed, joined or normalised weights under names of their own, so that a pattern such as `head.*`
would train the bias of a layer and not its weight. What PyTorch wrote about the origin tells the name, else the bias
that is added behind, else the module that a node belongs to. Where nothing does, the tensor keeps its name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from glob import escape
from typing import TYPE_CHECKING

import msgspec

from ...protos import DOUBLE, FLOAT, FLOAT16
from ..card import Card
from ..notes import note
from .earlier_names import add_names, earlier_names
from .epsilons import epsilons
from .free_names import FreeNames
from .layers import Layers, is_generated
from .provenance import Origins, joint_name

if TYPE_CHECKING:
    import onnx

NAMED = 8  # that the note lists
AS_WRITTEN = ("constants", "local", "shared", "trainable")  # of the card: they may hold names as the file had them


def own_names(model: onnx.ModelProto, card: Card, origin: Origins) -> tuple[Card, bool]:
    """Rename tensors in place. Return the card, with the new names where it has old ones, and whether any was."""
    found: dict[str, str] = {}
    turned = False
    while names := _found(model, origin, (*card.constants, *found.values())):  # a bias that has its name names a weight
        turned |= any(n in names for node in model.graph.node if node.op_type == "MatMul" for n in node.input)
        _rename(model.graph, names)
        found |= names
    if not found:
        return card, False
    listed = ", ".join(f"{new} (was {old})" for old, new in [*found.items()][:NAMED])
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    transposed = "; a weight of a MatMul is the transpose of PyTorch's" if turned else ""
    note(model, f"named by their layers: {listed}{more}{transposed}")
    add_names(model, found)
    return _translated(model, card, found), True


def with_new_names(model: onnx.ModelProto, card: Card) -> Card:
    """A card that may have been written for the exporter's file, with the names of this one, which was taken in."""
    return _translated(model, card, earlier_names(model))


def _translated(model: onnx.ModelProto, card: Card, names: Mapping[str, str]) -> Card:
    """The card, with the new names where it has old ones."""
    if not names:
        return card
    new = {field: _renamed(getattr(card, field), names) for field in AS_WRITTEN}
    new["local"] = _with_matched(card.local, names, [t.name for t in model.graph.initializer])
    return msgspec.structs.replace(card, **new)


def _found(model: onnx.ModelProto, origin: Origins, constants: Collection[str]) -> dict[str, str]:
    """New names by old ones; constants: what the card calls so keeps its name."""
    graph = model.graph
    tensors = {t.name: t for t in graph.initializer if t.data_type in (FLOAT, FLOAT16, DOUBLE) and len(t.dims)}
    unnamed = {n: t for n, t in tensors.items() if _is_unnamed(n, origin)}
    for name in (*constants, *epsilons(graph)) if unnamed else ():  # an epsilon is added as a bias is
        unnamed.pop(name, None)
    if not unnamed:
        return {}
    layers, found = Layers(graph.node), {}
    taken = {n for node in graph.node for n in (*node.input, *node.output)} | {*(t.name for t in graph.initializer)}
    free = FreeNames(taken | {v.name for v in (*graph.input, *graph.output)})
    same: dict[str, str] = {}  # what an Identity, or a quantiser's Reshape, calls a tensor
    for node in graph.node:
        if node.op_type == "Identity" or _lays_bias_out(node, unnamed):
            same[node.output[0]] = same.get(node.input[0], node.input[0])
        for position, read in enumerate(node.input):
            name = same.get(read, read)
            if name not in unnamed or name in found:
                continue
            if new := _name(layers, node, position, name, unnamed, origin):
                found[name] = free.first(new)
    return found


def _lays_bias_out(node: onnx.NodeProto, unnamed: Mapping[str, onnx.TensorProto]) -> bool:
    """Whether a node gives a row other dimensions, as ONNX Runtime's quantiser does with the bias of a Conv."""
    return node.op_type == "Reshape" and node.input[0] in unnamed and len(unnamed[node.input[0]].dims) == 1


def _name(
    layers: Layers,
    node: onnx.NodeProto,
    position: int,
    name: str,
    unnamed: Mapping[str, onnx.TensorProto],
    origin: Origins,
) -> str:
    """What a tensor is called by its origin, else by a node that reads it; empty where neither tells."""
    made_of = origin.parameters(name)
    new = joint_name(made_of) if made_of else ""
    if not new:
        is_table = sum(d > 1 for d in unnamed[name].dims) > 1 and node.op_type in ("Add", "Mul")
        new = "" if is_table or origin.constant(name) else layers.name(node, position, unnamed)
    operation = origin.operation(name)  # exp of a parameter is not the parameter
    return f"{new}.{operation}" if operation and new in origin.kinds else new


def _is_unnamed(name: str, origin: Origins) -> bool:
    if name in origin.kinds or not (made_of := origin.parameters(name)):
        return name not in origin.kinds and is_generated(name)
    joint = joint_name(made_of)  # it may have its name from here already: joint, joint.2, joint.exp
    return name != joint and not name.startswith(f"{joint}.") if joint else "." not in name


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    for tensor in graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    for node in graph.node:
        for position, name in enumerate(node.input):
            if name in names:
                node.input[position] = names[name]
    for value in (*graph.input, *graph.value_info):
        value.name = names.get(value.name, value.name)


def _renamed(value: str | tuple[str, ...], names: Mapping[str, str]) -> str | tuple[str, ...]:
    """Globs or names, with the new name for an old one."""
    if isinstance(value, tuple):
        return tuple(names.get(v, v) for v in value)
    return ",".join(names.get(part.strip(), part) for part in value.split(",")) if value else value


def _with_matched(local: str, names: Mapping[str, str], there: Sequence[str]) -> str:
    """The patterns of what stays at a site, and the new name of each tensor that one matched by its old name.

    Without it, a pattern that goes on matching others would let that tensor be sent. there: names after renaming.
    """
    made: list[str] = []
    for part in (p.strip() for p in local.split(",") if p.strip()):
        if part in names:
            made.append(names[part])
            continue
        matched = [new for old, new in names.items() if fnmatchcase(old, part) and not fnmatchcase(new, part)]
        kept = [part] if not matched or any(fnmatchcase(name, part) for name in there) else []
        made += [*kept, *(escape(new).replace(",", "?") for new in matched)]
    return ",".join(dict.fromkeys(made)) or local
