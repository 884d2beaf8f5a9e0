# SPDX-License-Identifier: Apache-2.0
"""Choose the output that is trained, of several: by the card, or the only one of floats.

skl2onnx adds the label to the probabilities (as a tensor, or as a map from names); others end in the position of the
largest value. Neither can be trained; what they are computed from can.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, NoReturn

from ...errors import ModelError
from ...protos import DOUBLE, FLOAT, FLOAT16, messages, value_info
from ...system.choices import hint
from ..card import Card
from ..notes import note, notes
from ..refusals import refuse
from .class_names import class_names, in_cards_order
from .columns import of_columns
from .compare import real_inputs, results, samples
from .pruning import prune

if TYPE_CHECKING:
    import onnx

FLOATS = (FLOAT, FLOAT16, DOUBLE, 16)
CHOSEN = "output: "  # how the note begins
LABELLING = ("ArgMax", "ArrayFeatureExtractor", "Cast", "Gather", "Identity", "LabelEncoder", "Reshape", "Squeeze")


def choose_output(model: onnx.ModelProto, card: Card, where: str) -> bool:
    """Leave the graph one output, in place, with labels in the card's order. Return whether anything changed.

    Raises ModelError when several could be meant, or the card names none of them.
    """
    names = class_names(model, card)
    changed = _choose(model, card, where)
    return in_cards_order(model, card, names, where) or changed


def _choose(model: onnx.ModelProto, card: Card, where: str) -> bool:
    graph = model.graph
    made = {o: n for n in graph.node for o in n.output}
    if len(graph.output) == 1 and any(n.startswith(CHOSEN) for n in notes(model)):
        return False  # chosen before; the card may name an output that was left out or has another name now
    if card.output:
        name = _listed(graph, card.output, where)
    else:
        found = _scores(graph, made)
        if whole := of_columns(model, found, card.labels or [t.name for t in card.targets]):
            return _leave(model, whole, made)
        if len(found) > 1:
            _refuse_several(model, card, found, where)
        if not found:
            return False
        name = found[0]
    return _leave(model, name, made)


def _listed(graph: onnx.GraphProto, name: str, where: str) -> str:
    names = [o.name for o in graph.output]
    if name not in names:
        raise ModelError(f"{where}: card: output is {name!r}, which is no output of the file; {hint(name, names)}")
    return name


def _scores(graph: onnx.GraphProto, made: dict[str, onnx.NodeProto]) -> list[str]:
    """Names of the outputs with floats; where there is none, of what the others are made from."""
    found = [o.name for o in graph.output if o.type.tensor_type.elem_type in FLOATS]
    maps = [o.name for o in graph.output if o.name in made and made[o.name].op_type == "ZipMap"]
    others = [_behind(name, made) for name in maps or [o.name for o in graph.output]]
    return found or list(dict.fromkeys(name for name in others if name))


def _behind(name: str, made: dict[str, onnx.NodeProto]) -> str:
    """The scores that a map of names or a label is made from; empty when it is neither."""
    node = made.get(name)
    if node is not None and node.op_type == "ZipMap":
        return str(node.input[0])
    while node is not None and node.op_type in LABELLING:
        if node.op_type == "ArgMax":
            return str(node.input[0])
        place = 1 if node.op_type in ("ArrayFeatureExtractor", "Gather") else 0
        node = made.get(node.input[place])
    return ""


def _refuse_several(model: onnx.ModelProto, card: Card, names: list[str], where: str) -> NoReturn:
    """Refuse with the shape of each, and the one to choose: the only one with as many values as the card promises."""
    shapes = _shapes(model, card, names)
    wanted = _promised(model, card)
    fitting = [n for n in names if wanted and prod(d for d in shapes[n][1:] if isinstance(d, int)) in wanted]
    listed = ", ".join(f"{n} ({', '.join(map(str, shapes[n]))})" for n in names)
    fits = ", the only one that fits the card" if len(fitting) == 1 else ""
    refuse("outputs", where, count=len(names), outputs=listed, first=(fitting if fits else names)[0], fits=fits)


def _shapes(model: onnx.ModelProto, card: Card, names: list[str]) -> dict[str, list[int | str]]:
    """The shape of each output, as it is run where the file does not say."""
    dims = {o.name: o.type.tensor_type.shape.dim for o in model.graph.output}
    found: dict[str, list[int | str]] = {n: [d.dim_value or d.dim_param or "?" for d in dims.get(n, ())] for n in names}
    if any(not shape or {*shape[1:]} & {"?"} for shape in found.values()):
        for name, value in (results(model, samples(model, card), names) or {}).items():
            found[name] = ["n", *value.shape[1:]]
    return found


def _promised(model: onnx.ModelProto, card: Card) -> set[int]:
    """How many values for a sample the card promises; a single logit may stand for two labels."""
    if card.task == "classify":
        return {len(card.labels), 1} if len(card.labels) == 2 else {len(card.labels)}
    if card.task == "multilabel":
        return {len(card.labels)}
    if card.task == "anomaly":
        return {prod(d.dim_value for d in v.type.tensor_type.shape.dim[1:]) for v in real_inputs(model.graph)}
    return {len(card.targets)} if card.targets else set()


def _leave(model: onnx.ModelProto, name: str, made: dict[str, onnx.NodeProto]) -> bool:
    graph = model.graph
    maker = made.get(name)
    if maker is not None and maker.op_type == "ZipMap":
        name = maker.input[0]
    elif [o.name for o in graph.output] == [name]:
        return False
    dropped = [o.name for o in graph.output if o.name != name]
    kept = next((o for o in graph.output if o.name == name), None)
    chosen = value_info(name, None) if kept is None else messages().ValueInfoProto.FromString(kept.SerializeToString())
    del graph.output[:]
    graph.output.append(chosen)
    prune(graph)
    note(model, f"{CHOSEN}{name}; left out: {', '.join(dropped)}")
    return True
