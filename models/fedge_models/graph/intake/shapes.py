# SPDX-License-Identifier: Apache-2.0
"""Know the shape of the output from two samples, not from what an exporter declared, and give it the card's form.

LSTM autoencoders and detection heads declare none, `squeeze(-1)` leaves a single value without a dimension, and a
reconstruction in another layout is turned back into that of the input.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from ...errors import ModelError
from ...protos import tensor
from ..card import Card
from ..notes import note
from .layout import TURNED
from .runtime import Opened, dims, samples, single_input

if TYPE_CHECKING:
    import onnx

RETURNED = "fedge.returned"
SINGLE = ("Cast", "Identity", "Sigmoid")


def output_shape(model: onnx.ModelProto, card: Card, where: str) -> bool:
    """Declare the output's shape, and reshape it where the card wants another one, in place. Return whether it changed.

    Raises ModelError when the output cannot be what the card promises.
    """
    given, outputs = single_input(model), model.graph.output
    if given is None or len(outputs) != 1 or 0 in dims(given)[1:]:
        return False
    x = samples(dims(given)[1:], 2)
    try:
        found = Opened(model, where).run({given.name: x})[outputs[0].name]
    except ModelError:  # the check of what serves says why
        return False
    if not found.ndim or len(found) != len(x):
        return False  # the probe says that it was exported for another batch
    shape = found.shape[1:]
    wanted = _wanted(card, dims(given)[1:], shape)
    if shape != wanted and prod(shape) != prod(wanted):
        raise ModelError(
            f"{where}: gives {shape} for a sample, but the card ({card.task}) promises {wanted}; "
            "change the card, or export the network with such an output"
        )
    square = card.task == "anomaly" and len({*wanted[:2]}) == 1 and wanted[0] > 1 and not _is_returned(model)
    relaid = shape != wanted or (square and any(n.name == TURNED for n in model.graph.node))
    if relaid:
        _reshape(model, shape, wanted)
        note(model, f"output: {shape} for a sample is laid out as {wanted}")
    return _declare(outputs[0], wanted) or relaid


def own_dimension(model: onnx.ModelProto, card: Card, where: str) -> bool:
    """Undo a `squeeze(-1)` before the only output, in place: a single value for each sample has a dimension here."""
    outputs, makers = model.graph.output, {o: n for n in model.graph.node for o in n.output}
    if len(outputs) != 1 or not outputs[0].type.tensor_type.HasField("shape") or len(dims(outputs[0])) > 1:
        return False
    maker = makers.get(outputs[0].name)
    while maker is not None and maker.op_type in SINGLE:
        maker = makers.get(maker.input[0])
    if maker is None or maker.op_type != "Squeeze":
        return False
    maker.op_type = "Identity"
    del maker.input[1:], maker.attribute[:]
    _declare(outputs[0], (1,))
    return True


def _is_returned(model: onnx.ModelProto) -> bool:
    return any(n.name == RETURNED for n in model.graph.node)


def _wanted(card: Card, given: tuple[int, ...], found: tuple[int, ...]) -> tuple[int, ...]:
    """What the card promises for a sample."""
    if card.task == "anomaly":
        return given
    if card.task == "multilabel":
        return (len(card.labels),)
    if card.task == "classify":
        return (1,) if prod(found) == 1 else (len(card.labels),)  # one value for two classes is no shape's matter
    if card.targets:
        return (len(card.targets),)
    return found or (1,)


def _reshape(model: onnx.ModelProto, shape: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    """Put a Reshape behind the output, and a Transpose where the input was turned; the output keeps its name."""
    from onnx import helper

    name = model.graph.output[0].name
    last = f"{name}.found"
    for node in model.graph.node:
        for names in (node.input, node.output):
            for position, read in enumerate(names):
                if read == name:
                    names[position] = last
    turned = any(n.name == TURNED for n in model.graph.node) and len(wanted) in (2, 3)
    sizes, perm = wanted, [0, 2, 1]
    if turned:
        sizes, perm = ((wanted[1], wanted[0]), perm) if len(wanted) == 2 else ((*wanted[1:], wanted[0]), [0, 3, 1, 2])
    if sizes != shape:
        made = f"{name}.laid" if turned else name
        model.graph.initializer.append(tensor("fedge.output", np.array([-1, *sizes], np.int64)))
        model.graph.node.append(helper.make_node("Reshape", [last, "fedge.output"], [made], name="fedge.given"))
        last = made
    if turned:
        model.graph.node.append(helper.make_node("Transpose", [last], [name], name=RETURNED, perm=perm))


def _declare(output: onnx.ValueInfoProto, shape: tuple[int, ...]) -> bool:
    """Declare the shape after the batch. Return whether it was another one."""
    declared = dims(output)
    if declared[1:] == shape and declared[:1] == (0,):
        return False
    dim = output.type.tensor_type.shape.dim
    del dim[:]
    dim.add(dim_param="n")
    for size in shape:
        dim.add(dim_value=size)
    return True
