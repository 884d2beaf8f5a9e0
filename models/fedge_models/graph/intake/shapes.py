# SPDX-License-Identifier: Apache-2.0
"""Know the shape of the output from two samples, not from what an exporter declared, and give it the card's form.

LSTM autoencoders and detection heads declare none, `squeeze(-1)` leaves a single value without a dimension, and a
reconstruction in another layout is turned back into that of the input. A matrix of values is refused where the card
has no place for it: such values would be trained as if they were others.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from ...errors import ModelError
from ...protos import tensor
from ..card import Card
from ..notes import note
from ..probing import own_range, tries
from ..refusals import refuse
from .fitted import SKLEARN
from .layout import TURNED
from .runtime import Opened, dims, single_input
from .seen import note_unseen

if TYPE_CHECKING:
    import onnx

Shape = tuple[int, ...]  # of what belongs to one sample
RETURNED = "fedge.returned"
SINGLE = ("Cast", "Identity", "Sigmoid")
MOMENTS = "end the network with the last, or the mean, of the {} samples of a window"


def output_shape(model: onnx.ModelProto, card: Card, where: str) -> bool:
    """Declare the output's shape, and reshape it where the card wants another one, in place. Return whether it changed.

    Raises ModelError when the output cannot be what the card promises.
    """
    given, outputs = single_input(model), model.graph.output
    if given is None or len(outputs) != 1 or 0 in dims(given)[1:]:
        return False
    shape = dims(given)[1:]
    every = ({given.name: x} for (x,) in tries(shape, 2, (0,), own_range(model, given.name, shape)))
    feeds = next(every)
    try:
        opened = Opened(model, where)
        found = opened.run(feeds)[outputs[0].name]
    except ModelError:
        if not outputs[0].type.tensor_type.HasField("shape"):
            raise
        return False  # the check of what serves says why
    if not found.ndim or len(found) != 2:
        raise ModelError(
            f"{where}: gives {found.shape} for two samples, expected a row for each, (2, …): it may take a mean or a "
            "sum over the batch as well. Take it over the values of each sample, in PyTorch with dim"
        )
    unseen = note_unseen(model, opened, found, every)
    shape = found.shape[1:]
    wanted = _wanted(card, dims(given)[1:], shape)
    if card.task == "anomaly" and model.producer_name == SKLEARN and prod(shape) != prod(wanted):
        refuse("score", where, found=shape, wanted=wanted)
    _check_fit(card, shape, wanted, where)
    turn = card.task == "anomaly" and _is_turned(model, shape, wanted)
    relaid = shape != wanted or turn
    if relaid:
        _reshape(model, shape, wanted, turn)
        note(model, f"output: {shape} for a sample is laid out as {wanted}")
    return _declare(outputs[0], wanted) or relaid or unseen


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


def _wanted(card: Card, given: Shape, found: Shape) -> Shape:
    """What the card promises for a sample."""
    if card.task == "anomaly":
        return given
    if card.task == "multilabel":
        return (len(card.labels),)
    if card.task == "classify":
        return (1,) if prod(found) == 1 else (len(card.labels),)  # one value for two classes is no shape's matter
    return (len(card.targets) or prod(found),)


def _check_fit(card: Card, shape: Shape, wanted: Shape, where: str) -> None:
    """Raise ModelError unless the values of a sample can be those that the card promises."""
    several = len(_plain(shape)) > 1  # a matrix, not one row
    meant = {
        "anomaly": len(_plain(wanted)) < 2 or _plain(shape) in (_plain(wanted), _plain(_back(wanted))),
        "regress": len(card.targets) > 0,
    }
    if prod(shape) == prod(wanted) and (not several or meant.get(card.task, False)):
        return
    promised, do = f"promises {wanted}", "change the card, or export the network with such an output"
    if several and card.task != "anomaly" and card.window.length > 1 and card.window.length in shape:
        do = MOMENTS.format(card.window.length)
    if card.task == "regress" and not card.targets:
        promised = "names no targets, so it promises one value, or one row of them"
        do = f"list {prod(shape)} targets on it, or {do.removeprefix('change the card, or ')}"
    raise ModelError(f"{where}: gives {shape} for a sample, but the card ({card.task}) {promised}; {do}")


def _plain(shape: Shape) -> Shape:
    """The dimensions that are more than a place for one value."""
    return tuple(n for n in shape if n != 1)


def _back(shape: Shape) -> Shape:
    """A window (time, channels), or a picture (height, width, colours), of the shape that a gateway gives."""
    return (*shape[1:], shape[0])


def _is_turned(model: onnx.ModelProto, shape: Shape, wanted: Shape) -> bool:
    """Whether a reconstruction has the channels or colours last."""
    if len(wanted) not in (2, 3):
        return False
    as_wanted, as_back = (_plain(shape) == _plain(other) for other in (wanted, _back(wanted)))
    if as_wanted != as_back:
        return as_back
    names = {n.name for n in model.graph.node}
    if TURNED not in names or RETURNED in names:
        return False
    return shape != wanted or (len({*wanted[:2]}) == 1 and wanted[0] > 1)


def _reshape(model: onnx.ModelProto, shape: Shape, wanted: Shape, turn: bool) -> None:
    """Put a Reshape behind the output, and a Transpose where it has the channels last; the output keeps its name."""
    from onnx import helper

    name = model.graph.output[0].name
    last = f"{name}.found"
    for node in model.graph.node:
        for names in (node.input, node.output):
            for position, read in enumerate(names):
                if read == name:
                    names[position] = last
    sizes = _back(wanted) if turn else wanted
    if sizes != shape:
        made = f"{name}.laid" if turn else name
        model.graph.initializer.append(tensor("fedge.output", np.array([-1, *sizes], np.int64)))
        model.graph.node.append(helper.make_node("Reshape", [last, "fedge.output"], [made], name="fedge.given"))
        last = made
    if turn:
        perm = [0, len(wanted), *range(1, len(wanted))]
        model.graph.node.append(helper.make_node("Transpose", [last], [name], name=RETURNED, perm=perm))


def _declare(output: onnx.ValueInfoProto, shape: Shape) -> bool:
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
