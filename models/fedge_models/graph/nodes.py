# SPDX-License-Identifier: Apache-2.0
"""Turn the nodes of an ONNX graph into those that NumPy runs: what is trained, what is constant, what is refused.

Nodes that only depend on constants are computed once, here: exporters leave whole chains of shape arithmetic.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from glob import escape
from typing import TYPE_CHECKING, Any

from ..errors import ModelError
from ..ops.operator import Node
from ..ops.registry import AS_READ, FIRST_ONLY, NO_GRADIENT, OPERATORS, SEVERAL, SIZES
from ..protos import DOUBLE, FLOAT, FLOAT16, attribute
from .refusals import REFUSALS, kind_of
from .signature import single_parameters

if TYPE_CHECKING:
    import onnx

SHAPES = ("Shape", "Size")  # constant for a constant, whatever its values are
FLOATS = (FLOAT, FLOAT16, DOUBLE)
FACTOR = ("Mul", "Div", "Pow", "Clip", "Min", "Max")
LAID_OUT = ("Cast", "DequantizeLinear", "Expand", "Identity", "Reshape", "Squeeze", "Tile", "Transpose", "Unsqueeze")
LAYERS = ("Conv", "ConvTranspose", "GRU", "Gemm", "LSTM", "MatMul", "RNN")
STATISTICS, VARIANCE = slice(3, 5), slice(4, 5)  # inputs of BatchNormalization: running mean and variance
TROUBLE = (
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    ArithmeticError,
    AttributeError,
)  # what NumPy raises for shapes that do not fit


def chosen(model: onnx.ModelProto, patterns: str, statistics: bool, constants: Collection[str] = ()) -> list[str]:
    """Return the names of the initializers to train: float32, and matched by one of the globs.

    Exporters store bounds, exponents and factors as initializers. So globs match no scalars, no single value that is
    only a factor (unless PyTorch's exporter says that it is a parameter), and none of the `constants`; the exact name
    does. Running statistics of BatchNormalization are trained only with `statistics`, initializers without values or
    from which no gradient comes (see `carrying`) never.
    """
    globs = [p.strip() for p in patterns.split(",")]
    tiled = laid_out_statistics(model)
    running, living = running_statistics(model), [model.graph.node[i] for i in alive(model)]
    added = {n for p in living if p.op_type not in FACTOR for n in p.input}
    singles = single_parameters(model)
    carried = carrying(model)
    return [
        t.name
        for t in model.graph.initializer
        if t.data_type == FLOAT
        and 0 not in t.dims
        and (
            t.name in globs or (_is_weight(t, added, singles, constants) and any(fnmatchcase(t.name, g) for g in globs))
        )
        and (statistics or t.name not in running)
        and t.name not in tiled
        and t.name in carried
    ]


def without_gradient(model: onnx.ModelProto, patterns: str) -> list[str]:
    """Return the float initializers that are named exactly and are read, but from which no gradient comes."""
    named, carried = {p.strip() for p in patterns.split(",")}, carrying(model)
    read = {n for i in alive(model) for n in model.graph.node[i].input}
    floats = [t.name for t in model.graph.initializer if t.data_type == FLOAT]
    return [n for n in floats if n in named and n in read and n not in carried]


def ending_in_steps(model: onnx.ModelProto) -> onnx.NodeProto | None:
    """Return the node that makes the output, if there are float initializers, and no gradient reaches any of them."""
    floats = {t.name for t in model.graph.initializer if t.data_type == FLOAT}
    if not floats or not floats.isdisjoint(carrying(model)):
        return None
    outputs = {o.name for o in model.graph.output}
    return next((n for n in model.graph.node if outputs.intersection(n.output)), None)


def in_layers(model: onnx.ModelProto, names: Collection[str]) -> bool:
    """Whether a layer of the graph reads one of these tensors, as it is or laid out: a vector becomes a column."""
    read = {*names}
    for node in model.graph.node:
        if node.op_type in LAID_OUT and read.intersection(node.input[:1]):
            read.update(node.output)
    return any(n.op_type in LAYERS and not read.isdisjoint(n.input) for n in model.graph.node)


def without_layers(model: onnx.ModelProto, names: Collection[str]) -> onnx.NodeProto | None:
    """Return the last layer, if no layer of the graph gets a gradient, and what does are single values only."""
    layers = [n for i in sorted(alive(model)) if (n := model.graph.node[i]).op_type in LAYERS]
    sizes = {t.name: math.prod(t.dims) for t in model.graph.initializer}
    if not layers or any(sizes[n] > 1 for n in names):
        return None
    carried = carrying(model)
    return None if any(carried.intersection(n.output) for n in layers) else layers[-1]


def carrying(model: onnx.ModelProto, cut: Collection[tuple[int, int]] = ()) -> set[str]:
    """Return every name on which an output depends smoothly: not only by a shape, an integer, a step or a size.

    cut: inputs that are left out, each by the numbers of its node and of the input.
    """
    names = {o.name for o in model.graph.output}
    for i, proto in reversed([*enumerate(model.graph.node)]):
        outputs = proto.output[:1] if proto.op_type in FIRST_ONLY else proto.output
        if not _is_step(proto) and names.intersection(outputs):
            names.update(
                n
                for k, n in enumerate(proto.input)
                if n and k not in SIZES.get(proto.op_type, ()) and (i, k) not in cut
            )
    return names


def _is_weight(
    tensor: onnx.TensorProto, added: Collection[str], singles: Collection[str], constants: Collection[str]
) -> bool:
    varies = len(tensor.dims) > 0 and (math.prod(tensor.dims) > 1 or tensor.name in added)
    return (varies or tensor.name in singles) and tensor.name not in constants


def running_statistics(model: onnx.ModelProto, which: slice = STATISTICS) -> set[str]:
    """Return the names of running means and variances (or what `which` selects) of all BatchNormalization nodes."""
    return {n for proto in model.graph.node if proto.op_type == "BatchNormalization" for n in proto.input[which]}


def laid_out_statistics(model: onnx.ModelProto) -> set[str]:
    """Return what is only laid out to become a running mean or variance, as PyTorch's InstanceNorm tiles its own."""
    makers = {o: n for n in model.graph.node if n.op_type in LAID_OUT for o in n.output}
    names, found = running_statistics(model), set[str]()
    while names := {makers[n].input[0] for n in names if n in makers} - found:
        found |= names
    return found


def shared(model: onnx.ModelProto, names: Iterable[str]) -> tuple[str, ...]:
    """Return those of the initializers that are read more than once, and so trained as one."""
    living = [model.graph.node[i] for i in alive(model)]
    reads = Counter(n for proto in living for n in proto.input)
    return tuple(n for n in names if reads[n] > 1)


def alive(model: onnx.ModelProto) -> set[int]:
    """Return the positions of the nodes that an output depends on, except Constants."""
    wanted, found = {o.name for o in model.graph.output}, set()
    for i, proto in reversed([*enumerate(model.graph.node)]):
        if proto.op_type != "Constant" and wanted.intersection(proto.output):
            wanted.update(proto.input)
            found.add(i)
    return found


def led(model: onnx.ModelProto, trainable: Iterable[str]) -> set[str]:
    """Return every name that is computed from the values of a parameter; the shape of one is a constant."""
    parameters = set(trainable)
    return _reached(model, parameters, lambda proto: proto.op_type in SHAPES and proto.input[0] in parameters)


def sloped(model: onnx.ModelProto, trainable: Iterable[str]) -> set[str]:
    """Return every name through which a gradient reaches a parameter: no shapes, integers and steps."""
    return _reached(model, set(trainable), _is_step)


def _is_step(proto: onnx.NodeProto) -> bool:
    """Whether the outputs are shapes, integers, truth values or steps."""
    whole = proto.op_type == "Cast" and any(a.name == "to" and a.i not in FLOATS for a in proto.attribute)
    return whole or proto.op_type in NO_GRADIENT


def _reached(model: onnx.ModelProto, names: set[str], ends: Callable[[onnx.NodeProto], bool]) -> set[str]:
    """Return the names, and all names computed from them, but for the nodes where the way `ends`."""
    found = set(names)
    for proto in model.graph.node:
        if found.intersection(proto.input) and not ends(proto):
            found.update(o for o in proto.output if o)
    return found


def check_order(model: onnx.ModelProto, constants: Collection[str], where: str) -> None:
    """Raise ModelError unless every node reads known values and writes new ones: no cycles, nothing missing."""
    ready = {*constants, *(i.name for i in model.graph.input), ""}
    for i, proto in enumerate(model.graph.node):
        if proto.op_type == "Constant":
            continue
        if missing := [n for n in proto.input if n not in ready]:
            raise ModelError(f"{where}: node {_name(proto, i)!r} reads {missing[0]!r}, which nothing before it writes")
        outputs = {o for o in proto.output if o}
        if again := ready.intersection(outputs):
            raise ModelError(f"{where}: node {_name(proto, i)!r} writes {again.pop()!r}, which is written already")
        ready |= outputs


def build(
    model: onnx.ModelProto, trainable: Collection[str], slopes: Collection[str], skipped: Collection[int], where: str
) -> list[Node]:
    """Build the nodes that the output depends on, except the `skipped`. Raises ModelError for one NumPy cannot run."""
    living = {i: model.graph.node[i] for i in sorted(alive(model))}
    read = {n for proto in living.values() for n in proto.input} | {o.name for o in model.graph.output}
    nodes = []
    for i, proto in living.items():
        if i in skipped:
            continue
        if not _known(proto, read):
            raise ModelError(_refusal(model, proto, _name(proto, i), trainable, read, where))
        try:
            attributes = {a.name: attribute(a) for a in proto.attribute}
        except ValueError as e:
            raise ModelError(f"{where}: node {_name(proto, i)!r} ({proto.op_type}): {e}") from e
        node = Node(_name(proto, i), proto.op_type, proto.input, _outputs(proto, i, read), attributes)
        passes = any(o in slopes for o in node.outputs)
        node.wanted = tuple(passes and n in slopes for n in node.inputs)
        nodes.append(node)
    return nodes


def fold(nodes: Sequence[Node], constants: dict[str, Any], trainable: Collection[str], where: str) -> list[Node]:
    """Compute the nodes that read only constants, add the results to `constants`, and return the other nodes.

    Raises ModelError for one that cannot be computed, or would be too large.
    """
    rest = []
    for node in nodes:
        unknown = [n for n in node.inputs if n and (n not in constants or n in trainable)]
        if any(n not in constants for n in unknown) or (unknown and node.op_type not in SHAPES):
            rest.append(node)
            continue
        try:
            made, _ = OPERATORS[node.op_type](node, *[constants[n] if n else None for n in node.inputs])
        except ModelError as e:
            raise ModelError(f"{where}: {e}") from e
        except TROUBLE as e:
            raise ModelError(f"{where}: node {node.name!r} ({node.op_type}) cannot be run: {e}") from e
        constants.update(zip(node.outputs, made if len(node.outputs) > 1 else [made], strict=True))
    return rest


def _name(proto: onnx.NodeProto, position: int) -> str:
    return proto.name or f"{proto.op_type}_{position}"


def _outputs(proto: onnx.NodeProto, position: int, read: Collection[str]) -> list[str]:
    """Names of the operator's outputs; outputs that the graph leaves out get a name of their own."""
    count = SEVERAL.get(proto.op_type, 1)
    if proto.op_type in AS_READ:
        count = max([k + 1 for k, o in enumerate(proto.output) if o in read], default=1)
        count = len(proto.output) if proto.op_type == "Split" else count
    given = [*proto.output, *[""] * count][:count]
    return [o or f"{_name(proto, position)}#{k}" for k, o in enumerate(given)]


def _known(proto: onnx.NodeProto, read: Collection[str]) -> bool:
    """Whether there is an operator for the node, and for each output that is read."""
    return _has_operator(proto) and not any(o in read for o in proto.output[_most(proto) :] if o)


def _has_operator(proto: onnx.NodeProto) -> bool:
    return proto.op_type in OPERATORS and proto.domain in ("", "ai.onnx")


def _most(proto: onnx.NodeProto) -> int:
    return AS_READ.get(proto.op_type) or SEVERAL.get(proto.op_type, 1)


def _refusal(
    model: onnx.ModelProto, proto: onnx.NodeProto, name: str, trainable: Collection[str], read: set[str], where: str
) -> str:
    """Say what cannot be trained, and the globs with which everything else can be."""
    unknown = [model.graph.node[i] for i in alive(model) if not _known(model.graph.node[i], read)]
    before = _ancestors(model, [n for p in unknown for n in p.input])
    rest = [n for n in trainable if n not in before]
    what = f"computes only {_most(proto)} of its outputs" if _has_operator(proto) else "has no gradient"
    reason = f"{where}: node {name!r} ({proto.op_type}) {what} here"
    instead = f"{reason}, and all that could be trained lies before such a node; export without it"
    if (kind := kind_of(proto)) is not None:
        reason = f"{where}: {REFUSALS[kind].format(name=name, op=proto.op_type, domain=proto.domain)}"
        instead = reason
    if not rest:
        return instead
    globs = globs_for(rest, [t.name for t in model.graph.initializer])
    return f"{reason}{', or' if kind else ';'} freeze everything before it: --trainable '{globs}'"


def _ancestors(model: onnx.ModelProto, names: Iterable[str]) -> set[str]:
    """Return the names, and all names that they are computed from."""
    found = set(names)
    for proto in reversed(model.graph.node):
        if found.intersection(proto.output):
            found.update(proto.input)
    return found


def globs_for(names: Sequence[str], every: Iterable[str]) -> str:
    """Return globs that match `names` and nothing else of `every`, by their first part where that is enough.

    A comma separates globs, so a comma inside a name is written as `?`.
    """
    others, found = set(every) - set(names), []
    for name in names:
        first = next((name[: i + 1] for i, c in enumerate(name) if c in "./"), name)
        prefix = first != name and not any(o.startswith(first) for o in others)
        glob = f"{escape(first)}*" if prefix else escape(name) if "," in name else name
        glob = glob.replace(",", "?")
        if glob not in found:
            found.append(glob)
    return ",".join(found)


def constants_of(arrays: Mapping[str, Any], nodes: Sequence[Node]) -> dict[str, Any]:
    """Return the arrays that some node reads."""
    read = {name for node in nodes for name in node.inputs}
    return {name: array for name, array in arrays.items() if name in read}
