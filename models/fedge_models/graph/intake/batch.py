# SPDX-License-Identifier: Apache-2.0
"""Make the batch of a graph variable: exporters fix it to the batch of their example, which by default is one.

The declared size is freed first. Where constants inside hold it (Reshape, Expand, initial states), `places` follows the
samples through the graph and replaces them. Whatever comes out must give for several samples at once what the file as
it came gives for each; else it is left as it was, and the probe says why it cannot be trained.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import ModelError
from ...protos import messages, tensor, values
from ..card import Card
from ..closeness import close, differ
from ..notes import note
from ..onnx_file import tensors
from ..probing import own_range, tries
from ..refusals import kind_of, refuse, variable_batch
from ..skeleton import Weights, skeleton, weights
from .following import follow
from .mixing import first_mixing
from .places import MismatchError, Place, Places
from .pruning import prune
from .runtime import FILE_BYTES, Opened, Values, dims, single_input, trace

if TYPE_CHECKING:
    import onnx

TRIES = 64  # choices of dimensions of size one
FEW = 1 << 14  # values of a sample: every value of a small network can be looked at
EXAMPLES = (2, 3, 4, 5, 6, 8, 10, 16, 20, 32, 64, 100, 128)  # batches that people export with


class Alone(NamedTuple):
    """Batches of the size that a file was exported for, and what it gives for each."""

    parts: list[NDArray[np.float32]]
    outputs: Values  # of all parts, joined
    differ: bool  # whether what it gives for these tells anything


def any_batch(model: onnx.ModelProto, card: Card, where: str) -> bool:
    """Make the first dimension of inputs and outputs variable, in place. Return whether anything changed.

    Raises ModelError when a graph whose batch is variable mixes its samples.
    """
    given = single_input(model)
    shape = dims(given) if given is not None else ()
    fixed = bool(shape and shape[0])
    batch = shape[0] if shape and shape[0] else 1
    whole = given is not None and len(shape) > 1 and 0 not in shape[1:]
    beside = weights(model) if whole else {}
    wrong = whole and _without_wrong_shapes(model, beside, where)
    try:
        alone = _alone(model, beside, batch, shape[1:], where) if whole else None
    except ModelError:
        if fixed or not (batch := _example(model, beside, shape[1:], where)):
            raise
        alone, fixed = _alone(model, beside, batch, shape[1:], where), True
    changed = _declare(model) or wrong
    return (alone is not None and _free(model, beside, alone, (batch, *shape[1:]), where, fixed)) or changed


def _declare(model: onnx.ModelProto) -> bool:
    """Say that the first dimension is any. Return whether it was fixed."""
    stored = {t.name for t in model.graph.initializer}
    values = [v for v in (*model.graph.input, *model.graph.output) if v.name not in stored]
    fixed = [v for v in values if len(d := v.type.tensor_type.shape.dim) and d[0].dim_value]
    for value in fixed:
        value.type.tensor_type.shape.dim[0].dim_param = "n"
    if fixed:  # shapes of inner values, inferred for the fixed batch
        del model.graph.value_info[:]
    return bool(fixed)


def _alone(model: onnx.ModelProto, beside: Weights, batch: int, shape: tuple[int, ...], where: str) -> Alone | None:
    """What the file as it came gives for batches of its own size. Raises ModelError when it cannot be run; None where
    it was written for another runtime.

    beside: its large tensors; emptied where an operator wants them to be constant. There are two batches, and more
    where the outputs for these do not differ: nothing could be seen of such.
    """
    given = single_input(model)
    assert given is not None
    parts: list[NDArray[np.float32]] = []
    found: list[Values] = []
    try:
        opened = _opened(model, beside, where)
        for tried in tries(shape, batch, (0, 1), own_range(model, given.name, shape, batch)):
            made = [opened.run({given.name: part}) for part in tried]
            if any(differ(np.stack([a[n] for a in made])) for n in made[0]):
                return Alone(tried, _outputs(made, batch), True)
            parts, found = [*parts, *tried], [*found, *made]
    except ModelError:
        if found:  # it takes no such values
            return Alone(parts, _outputs(found, batch), False)
        if any(kind_of(n) is not None for n in model.graph.node):
            return None  # what was written for another runtime is refused by that name
        raise
    return Alone(parts, _outputs(found, batch), False)


def _example(model: onnx.ModelProto, beside: Weights, shape: tuple[int, ...], where: str) -> int:
    """The batch that a file was exported for which says that it takes any, and does not run with one; 0: unknown."""
    given = single_input(model)
    assert given is not None
    for batch in (n for n in EXAMPLES if n not in shape):  # with one of those, it may run by chance
        try:
            _opened(model, beside, where).run({given.name: np.zeros((batch, *shape), np.float32)})
        except ModelError:
            continue
        return batch
    return 0


def _outputs(found: list[Values], batch: int) -> Values:
    """Outputs of separate batches, joined."""
    return {n: _joined([a[n] for a in found], batch) for n in found[0]}


def _without_wrong_shapes(model: onnx.ModelProto, beside: Weights, where: str) -> bool:
    """Remove what the file says of inner shapes where ONNX Runtime refuses it for that. Return whether it did."""
    if not len(model.graph.value_info) or _loads(model, beside, where):
        return False
    light = skeleton(model, beside)
    del light.graph.value_info[:]
    if not _loads(light, {}, where):
        return False
    del model.graph.value_info[:]
    return note(model, "shapes: what the file says of the shapes of inner values is wrong, and was left out")


def _loads(model: onnx.ModelProto, beside: Weights, where: str) -> bool:
    try:
        _opened(model, dict(beside), where)
    except ModelError:
        return False
    return True


def _opened(model: onnx.ModelProto, beside: Weights, where: str) -> Opened:
    try:
        return Opened(skeleton(model, beside), where, beside)
    except ModelError:
        if not beside:
            raise
        beside.clear()
        return Opened(skeleton(model, beside), where, beside)


def _free(
    model: onnx.ModelProto, beside: Weights, alone: Alone, shape: tuple[int, ...], where: str, fixed: bool
) -> bool:
    """Replace what holds the batch inside, if anything does. Return whether it did.

    shape: of the input as it came, whose batch was `fixed` or any.
    """
    given, batch = single_input(model), shape[0]
    assert given is not None
    every, expected = np.concatenate(alone.parts), alone.outputs
    light = skeleton(model, beside)
    right = _gives(light, beside, given.name, every, expected, where)
    traced = _known(model, given.name, alone.parts[0], where) if not right else None
    if right and not alone.differ and every[0].size <= FEW and sum(w.nbytes for w in beside.values()) <= FILE_BYTES:
        _refuse_mixing(model, given.name, alone.parts[:2], where, fixed)
    if traced is None:
        return False
    choices: list[int] = []
    for _ in range(TRIES):
        made, tried = _attempt(light, given.name, traced, batch, choices)
        if made is not None and _gives(made, beside, given.name, every, expected, where):
            _take_over(model.graph, made.graph)
            for text in (
                f"batch: exported for a batch of {batch}; it takes any now, with the same results",
                *tried.notes,
            ):
                note(model, text)
            return True
        if not _next(choices, tried.options):
            break
    if right is False:
        _refuse_mixing(model, given.name, alone.parts, where, fixed, model.graph.node[-1])
    if fixed and batch > 1:  # of one, the file still runs, and the probe says why it does with no more
        refuse("larger batch", where, batch=batch)
    return False


def _refuse_mixing(
    model: onnx.ModelProto,
    name: str,
    parts: list[NDArray[np.float32]],
    where: str,
    fixed: bool,
    last: onnx.NodeProto | None = None,
) -> None:
    """Refuse by the node at which samples meet, or else by the `last`, where one is given."""
    if (node := first_mixing(model, name, parts, where) or last) is not None:
        found = {"name": node.name or node.op_type, "op": node.op_type, "how": variable_batch(model.producer_name)}
        refuse("fixed batch" if fixed else "mixed", where, **found)


def _take_over(graph: onnx.GraphProto, made: onnx.GraphProto) -> None:
    """Give the graph what an attempt made of its skeleton."""
    stored = {t.name: t for t in graph.initializer}
    del graph.node[:], graph.output[:]
    graph.node.extend(made.node)
    graph.output.extend(made.output)
    for t in made.initializer:
        if t.name not in stored:
            graph.initializer.append(t)
        elif t.dims != stored[t.name].dims:
            stored[t.name].CopyFrom(t)
    prune(graph)


def _joined(parts: list[np.ndarray], batch: int) -> np.ndarray:
    """Outputs of separate batches as those of one; an output without a dimension for the batch gets it."""
    rows = [a if a.ndim and len(a) == batch else a.reshape(batch, -1) for a in parts if a.size % batch == 0]
    return np.concatenate(rows) if len(rows) == len(parts) else np.zeros(0)


def _gives(
    model: onnx.ModelProto, beside: Weights, name: str, x: np.ndarray, expected: Values, where: str
) -> bool | None:
    """Whether the graph gives what is expected; None when it cannot be run. A single value may lack its dimension."""
    try:
        found = Opened(model, where, beside).run({name: x})
    except ModelError:
        return None
    wanted = {n: e.reshape(found[n].shape) if e.size == found[n].size else e for n, e in expected.items()}
    return all(len(found[n]) == len(x) and close(found[n], wanted[n]) for n in expected if found[n].ndim)


def _known(model: onnx.ModelProto, name: str, x: np.ndarray, where: str) -> Values | None:
    """Every value of the graph for one batch, stored tensors among them; None when it cannot be run."""
    try:
        made = trace(model, {name: x}, where)
    except ModelError:
        return None
    stored = {n: values(t) for n, t in tensors(model).items()}
    return {**stored, **made, name: x}


def _attempt(
    model: onnx.ModelProto, name: str, traced: Values, batch: int, choices: list[int]
) -> tuple[onnx.ModelProto | None, Places]:
    """Follow the samples with these choices; None where they end in an operator that cannot take them."""
    made: onnx.ModelProto = messages().ModelProto()
    made.CopyFrom(model)
    places = Places(made, name, traced, batch, choices)
    try:
        follow(places)
        _insert(made, places)
        for output in made.graph.output:
            _lay_out(made, output, places)
    except (MismatchError, KeyError, IndexError, ValueError):
        return None, places
    return made, places


def _insert(model: onnx.ModelProto, places: Places) -> None:
    """Put the new nodes before those that read them."""
    if not places.edits:
        return
    nodes = []
    for position, node in enumerate(model.graph.node):
        kept = messages().NodeProto()
        kept.CopyFrom(node)
        nodes += [*places.edits.get(position, ()), kept]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _lay_out(model: onnx.ModelProto, output: onnx.ValueInfoProto, places: Places) -> None:
    """Bring the samples of an output to the front, each with a row of its own."""
    from onnx import helper

    place = places.found.get(output.name)
    if place is None or place.outer != 1:
        raise MismatchError("an output does not depend on the samples")
    if place == Place(0):
        return
    shape, inner = places.values[output.name].shape, f"{output.name}.laid"
    for node in model.graph.node:
        for part, name in enumerate(node.output):
            if name == output.name:
                node.output[part] = inner
        for part, name in enumerate(node.input):
            if name == output.name:
                node.input[part] = inner
    rest = [a for a in range(len(shape)) if a != place.axis]
    sizes = [-1, *([place.inner] if place.inner > 1 else []), *(shape[a] for a in rest)]
    turned = f"{output.name}.turned"
    model.graph.node.append(helper.make_node("Transpose", [inner], [turned], perm=[place.axis, *rest]))
    model.graph.initializer.append(tensor(f"{output.name}.shape", np.array(sizes, np.int64)))
    model.graph.node.append(helper.make_node("Reshape", [turned, f"{output.name}.shape"], [output.name]))
    del output.type.tensor_type.shape.dim[:]
    for size in ("n", *sizes[1:]):
        output.type.tensor_type.shape.dim.add(**{"dim_param" if isinstance(size, str) else "dim_value": size})


def _next(choices: list[int], options: list[int]) -> bool:
    """Turn to the next choice, the last one first. Return False when all were tried."""
    choices.extend([0] * (len(options) - len(choices)))
    while choices:
        choices[-1] += 1
        if choices[-1] < options[len(choices) - 1]:
            return True
        choices.pop()
    return False
