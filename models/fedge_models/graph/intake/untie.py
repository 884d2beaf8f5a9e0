# SPDX-License-Identifier: Apache-2.0
"""Give each reader of a tensor a copy of its own: exporters merge tensors that were equal when they wrote the file.

In a fresh network zero biases, scales of one, BatchNormalization's mean and variance, and copied layers are equal. One
that stays merged is trained as one: statistics move inside a bias, layers are locked together. What is shared on
purpose (an embedding that is used twice, a siamese network) the card lists under `shared`: the readers of one parameter
stay together, and only these (`parameters`). A layer that is used many times is a loop over time (`loops`), and stays
shared, as does what a weight is computed from (weight normalisation).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from fnmatch import fnmatchcase
from math import prod
from typing import TYPE_CHECKING

from ...protos import FLOAT
from ..card import Card
from ..notes import note
from ..onnx_file import MAX_MODEL_BYTES
from ..signature import PARAMETER, kinds
from .first_steps import is_tie
from .free_names import FreeNames
from .layers import RECURRENT, ROLES, is_generated, module
from .loops import Loops, Reader
from .norm_layout import own_layout
from .parameters import Parameter, Parameters
from .provenance import is_marked
from .untie_notes import ONE_LAYER, PARTS, STATISTICS, check_listed, refuse_copies, say, say_idle, who, why
from .vectors import columns_of

if TYPE_CHECKING:
    import onnx

OF_BATCH_NORM = ROLES["BatchNormalization"]  # names of its inputs
TAKING = ("Gather", "Slice")
STAYING = (
    "batch_norm: statistics that the file lays out for every sample (an InstanceNorm that tracks them) are not updated"
)
RAW = 4  # bytes of a value


def untie(model: onnx.ModelProto, card: Card, where: str) -> bool:
    """Give every reader of a float tensor a copy, in place. Return whether anything changed.

    Raises ModelError when the card lists a tensor under `shared` that is not there, and for more copies than a model
    may hold.
    """
    graph = model.graph
    stored = {t.name: t for t in graph.initializer}
    fixed_names = {*card.constants, *(n for n, t in stored.items() if is_marked(t))}
    parted = {
        n for n, t in stored.items() if t.data_type == FLOAT and len(t.dims) and prod(t.dims) and n not in fixed_names
    }
    merged = _without_identities(graph, parted)
    laid_out = own_layout(graph, {*stored, *merged})
    columns, through = columns_of(graph), []
    readers: dict[str, list[Reader]] = {}
    for node in graph.node:
        for position, name in enumerate(node.input):
            column = columns.get(name)
            read = name if column is None else column.input[0]
            source = merged.get(read, read)
            if source in parted and node.output[0] not in columns and not is_tie(node):
                readers.setdefault(source, []).append(Reader(node, position, read, laid_out.get(node.output[0], -1)))
                through += [] if column is None else [(node, position, column)]
    names = FreeNames({*stored, *(n for node in graph.node for n in (*node.input, *node.output))} - {*merged})
    changed = bool(laid_out) and card.batch_norm == "updated" and note(model, STAYING)
    changed, fixed, loops = changed or bool(merged), _without_input(graph), Loops(graph.node, stored, readers)
    parameters = Parameters(model, stored, readers, card.shared, fixed)
    are = {source: parameters.of(source, found) for source, found in readers.items() if len(found) > 1}
    called = {n for each in are.values() for p in each for n in p.names}
    check_listed(model, card, {*stored, *merged, *called}, [*are], where)
    room = MAX_MODEL_BYTES - sum(RAW * prod(t.dims) for t in graph.initializer)
    keys = {source: [loops.key(source, r) for r in found] for source, found in readers.items()}
    for source, found in readers.items():
        if len(found) > 1 and (parameters.is_varied(source) or _is_told(model, source, stored)):
            _join_unlike(found, fixed, keys[source])
        _join_parts(found, fixed, keys[source])
    for source, found in readers.items():
        known = are.get(source, [])
        together = [p for p in known if _is_listed(source, p, found, card)]
        home = {i for p in known if p.name == source for i in p.readers}
        rest, *parts = _parted(source, found, together, home, fixed, keys[source])
        room -= len(parts) * RAW * prod(stored[source].dims)
        if room < 0:
            refuse_copies(source, found, where)
        of = {i: p.name for p in known if p.certain or p in together for i in p.readers}
        first = found[rest[0]].node
        made = [_copy(graph, stored[source], [found[i] for i in p], names, first, of.get(p[0], "")) for p in parts]
        for i in rest:
            found[i].node.input[found[i].position] = source
        if made:
            say(model, source, found, made, [p for p in known if p not in together], bool(together))
        for name, part in zip([source, *made], [rest, *parts], strict=True):
            several = [found[i] for i in part]
            if len(part) > 1 and not all(r.is_size or fixed.issuperset(r.node.input) for r in several):
                listed = next((p for p in together if p.readers == part), None)
                because = why({keys[source][i] for i in part}, listed, several)
                text = f"shared: {name} is read by {who(several)} and stays one tensor{because}"
                changed = note(model, text) or changed
        changed = changed or bool(made)
    for node, position, column in through:
        column.input[0], node.input[position] = node.input[position], column.output[0]
    several_read = {n for each in are.values() for p in each if len(p.readers) > 1 for n in p.names}
    return say_idle(model, card, several_read) or changed


def _is_told(model: onnx.ModelProto, source: str, stored: Collection[str]) -> bool:
    """Whether PyTorch says that a tensor is a parameter, and that its module has none that may have become part of it.

    For one that is filled with one value, as many are before anything was trained.
    """
    told, owner = kinds(model), source.rpartition(".")[0]
    beside = [n for n, kind in told.items() if kind == PARAMETER and n.rpartition(".")[0] == owner]
    return source in beside and all(n in stored for n in beside)


def _join_unlike(found: list[Reader], fixed: set[str], keys: list[str]) -> None:
    """Give readers one key, in place, that are unlike operators of one module: these read one parameter."""
    groups: dict[str, list[int]] = {}
    for i, reader in enumerate(found):
        known = reader.node.metadata_props or reader.node.name.startswith("/")  # as PyTorch's exporters write
        if known and not keys[i] and not reader.of_batch_norm and not fixed.issuperset(reader.node.input):
            groups.setdefault(module(reader.node), []).append(i)
    for name, group in groups.items():
        if len({found[i].node.op_type for i in group}) > 1:
            for i in group:
                keys[i] = f"{ONE_LAYER}{name}"


def _join_parts(found: list[Reader], fixed: set[str], keys: list[str]) -> None:
    """Give readers one key, in place, that take different parts: an attention's `in_proj_weight` for a query alone."""
    groups: dict[str, list[int]] = {}
    for i, reader in enumerate(found):
        taking = reader.node.op_type in TAKING and reader.position == 0 and not fixed.issuperset(reader.node.input)
        if taking and not keys[i] and module(reader.node):
            groups.setdefault(module(reader.node), []).append(i)
    for name, group in groups.items():
        if len({found[i].others for i in group}) == len(group) > 1:
            for i in group:
                keys[i] = f"{PARTS}{name}"


def _without_identities(graph: onnx.GraphProto, floats: set[str]) -> dict[str, str]:
    """Remove each Identity of a float tensor; return the tensor's name by the names that they gave it."""
    merged: dict[str, str] = {}
    outputs, rest = {o.name for o in graph.output}, []
    for node in graph.node:
        source = merged.get(node.input[0], node.input[0]) if node.op_type == "Identity" and node.input else ""
        if source in floats and node.output[0] not in outputs:
            merged[node.output[0]] = source
        else:
            rest.append(node)
    if merged:
        kept = [_same(n) for n in rest]
        del graph.node[:]
        graph.node.extend(kept)
    return merged


def _same(node: onnx.NodeProto) -> onnx.NodeProto:
    made = type(node)()
    made.CopyFrom(node)
    return made


def _without_input(graph: onnx.GraphProto) -> set[str]:
    """Names of what is computed from stored tensors only."""
    known = {"", *(t.name for t in graph.initializer)}
    for node in graph.node:
        if known.issuperset(node.input):
            known.update(node.output)
    return known


def _is_listed(source: str, parameter: Parameter, found: list[Reader], card: Card) -> bool:
    """Whether the card lists a parameter of a tensor; the statistics of a BatchNormalization follow its scale."""
    of = [found[i] for i in parameter.readers]
    names = {*(parameter.names or (source,)), *(r.name for r in of if r.name != source)}
    if any(r.name == source and parameter.name in ("", source) for r in of):
        names.add(source)
    for reader in of:
        if reader.of_batch_norm:
            owner = parameter.name.rpartition(".")[0] if module(reader.node) else ""
            beside = {f"{owner}.{role}" for role in OF_BATCH_NORM.values()} if owner else {*reader.node.input[1:]}
            names |= beside
    return any(fnmatchcase(n, glob) for glob in card.shared for n in names)


def _parted(
    source: str, found: list[Reader], together: list[Parameter], home: set[int], fixed: set[str], keys: list[str]
) -> list[list[int]]:
    """Part the readers, by their numbers: who goes on with the tensor itself, then who gets a copy together.

    together: parameters that the card lists. home: readers whose parameter has the tensor's name. keys: the loop that
    each is a step of.
    """
    listed = {i for p in together for i in p.readers}
    others = [i for i in range(len(found)) if i not in listed]
    rest = _by_use(source, [found[i] for i in others], fixed, [keys[i] for i in others]) if others else []
    if not together:
        return rest
    parts = [*(p.readers for p in together), *([others[i] for i in part] for part in rest)]
    plain = [part for part in parts if not any(found[i].of_batch_norm for i in part)]
    first = next((part for part in parts if home.intersection(part)), (plain or parts)[0])
    return [first, *(part for part in parts if part is not first)]


def _by_use(source: str, found: list[Reader], fixed: set[str], keys: list[str]) -> list[list[int]]:
    """Part readers of what the card does not list."""
    everyone = range(len(found))
    if all(r.is_size for r in found):
        return [[*everyone]]
    named = [i for i in everyone if found[i].name == source] or [*everyone]
    first = next((i for i in named if found[i].norm_input not in STATISTICS), named[0])
    own = [i for i in named if not found[i].of_batch_norm and fixed.issuperset(found[i].node.input)]
    kept = own or [first]  # a weight's own arithmetic
    stay = {keys[i] for i in kept} - {""}
    parts: dict[str, list[int]] = {"kept": []}
    for i in everyone:
        key = "kept" if i in kept or keys[i] in stay else keys[i] or f"alone {i}"
        parts.setdefault(key, []).append(i)
    return [*parts.values()]


def _copy(
    graph: onnx.GraphProto,
    tensor: onnx.TensorProto,
    part: list[Reader],
    names: FreeNames,
    first: onnx.NodeProto,
    own: str,
) -> str:
    """Add a copy of the tensor for some readers; return its name.

    first: a node that reads the tensor itself. own: what the parameter is called, where something tells.
    """
    name = names.first(*filter(None, [own]), *_names(tensor.name, part[0], first), tensor.name)
    graph.initializer.add().CopyFrom(tensor)
    graph.initializer[-1].name = name
    for reader in part:
        reader.node.input[reader.position] = name
    return name


def _names(source: str, reader: Reader, first: onnx.NodeProto) -> Iterator[str]:
    """Names for a copy, best first: the exporter's own, that of its place in the module."""
    if reader.name != source and not is_generated(reader.name):
        yield reader.name
    stem, _, last = source.rpartition(".")
    scope = module(reader.node)
    if (role := RECURRENT.get(reader.position)) and reader.node.op_type in ("GRU", "LSTM", "RNN"):
        kernel = reader.node.input[1]  # g.weight_ih_l1 tells which layer it is
        yield from [kernel.replace(RECURRENT[1], role)] * (f".{RECURRENT[1]}" in kernel)
    if reader.norm_input in OF_BATCH_NORM:
        own = OF_BATCH_NORM[reader.norm_input]
        others = [n for i, n in enumerate(reader.node.input) if n.endswith(f".{OF_BATCH_NORM.get(i)}")]
        where = scope or next((n.rpartition(".")[0] for n in others), stem or source)
        yield f"{where}.{own}"
    elif scope and first.op_type != reader.node.op_type and (role := _role(reader)):
        yield f"{scope}.{role}"
    elif scope and (of := module(first)) and source.startswith(f"{of}."):
        yield f"{scope}{source.removeprefix(of)}"
    elif scope:
        yield f"{scope}.{last}"


def _role(reader: Reader) -> str:
    return ROLES.get(reader.node.op_type, {}).get(reader.position, "") if "Norm" in reader.node.op_type else ""
