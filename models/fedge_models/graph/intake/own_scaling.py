# SPDX-License-Identifier: Apache-2.0
"""Find out whether a file scales, fills or encodes its input itself, so that no site standardises it once more.

A pipeline of scikit-learn, and a network with its scaler in front, were trained on values as they are measured. Such a
file gets them so: the card then says ``scaling = "file"``. What the file does with them stays in it, untrained.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from ..card import Card
from ..notes import note

if TYPE_CHECKING:
    import onnx

PRODUCTS = ("Conv", "Gemm", "MatMul")  # the first one that is no step of preparation begins the network
AXES = "transform_matrix"  # how skl2onnx names those of a PCA
ANY_MATRIX = "Ma_MatMulcst"  # and what it has no name for: a random projection, or a learner's own coefficients
LEARNERS = ("skl2onnx", "OnnxMLTools")
CENTRES, FACTORS = ("Add", "Sub"), ("Div", "Mul")
SCALER = "a factor of the input, as of a scaler"
PREPARED = "of what the pipeline does to its input"
RAW = "no site standardises it (card: scaling = 'file')"
OTHERS = "The file sees other values than it was made with; if it was made with measured ones, "
TWICE = f"{OTHERS}write scaling = 'file' on the card"
TRAINS_BADLY = "It trains badly so: put a StandardScaler in front, or write scaling = 'site' to train it anew"
NAMED = 4  # tensors that a note lists


def own_scaling(model: onnx.ModelProto, card: Card, constants: Mapping[str, str]) -> Card:
    """Return the card with ``scaling`` as the file needs it, and note it; constants: what each is (`constants`).

    The card itself decides where it says anything: a scaling, or a centre or condition of a channel.
    """
    names = [name for name, what in constants.items() if what in (SCALER, PREPARED)]
    learner = model.producer_name in LEARNERS
    if card.scaling is not None or card.image is not None or not (names or learner):
        return card
    listed = _listed(names)
    if given := [c.name for c in card.input_channels if c.scale is not None or c.condition is not None]:
        if names and any(c.scale is None for c in card.input_channels):
            advice = f"remove centre, scale and condition of {_listed(given)} from the card, and write scaling = 'file'"
            both = "scale the input, and so do the card (centre, scale) and each site"
            note(model, f"scaler: {listed} {both}. {OTHERS}{advice}")
        return card
    if card.task == "anomaly" or not (learner or _standardises(model, card, set(names))):
        if names:
            note(model, f"scaler: {listed} scale the input, and each site standardises it before. {TWICE}")
        return card
    if names:
        note(model, f"scaler: {listed} prepare the input in the file, so {RAW}")
    else:
        note(model, f"scaler: none in this pipeline, which was fitted to measured values, so {RAW}. {TRAINS_BADLY}")
    return msgspec.structs.replace(card, scaling="file")


def _listed(names: list[str]) -> str:
    """The first of the names."""
    return f"{', '.join(names[:NAMED])}{f' and {len(names) - NAMED} more' if len(names) > NAMED else ''}"


def _standardises(model: onnx.ModelProto, card: Card, names: set[str]) -> bool:
    """Whether tensors with a value for each column are subtracted from the input, and others divide it."""
    sizes = {t.name: max(t.dims, default=1) for t in model.graph.initializer if t.name in names}
    columns = {
        len(card.input_channels),
        *(d.dim_value for i in model.graph.input for d in i.type.tensor_type.shape.dim),
    }
    wide = {name for name, size in sizes.items() if size > 1 and size in columns}
    fixed, used = {t.name for t in model.graph.initializer}, set[str]()
    for node in model.graph.node:
        if fixed.issuperset(node.input):  # as max - min
            fixed.update(node.output)
            wide.update(node.output if wide.intersection(node.input) else ())
        elif wide.intersection(node.input):
            used.add(node.op_type)
    return bool(used.intersection(CENTRES)) and bool(used.intersection(FACTORS))


def _leads_to_product(graph: onnx.GraphProto, node: onnx.NodeProto) -> bool:
    """Whether another product comes behind a node, so that it is not the learner itself."""
    reached = {*node.output}
    for other in graph.node:
        if reached.intersection(other.input):
            if other.op_type in PRODUCTS:
                return True
            reached.update(other.output)
    return False


def prepared(model: onnx.ModelProto, stored: Mapping[str, onnx.TensorProto]) -> list[str]:
    """Return the float tensors of what scikit-learn's pipeline does before its first product with weights."""
    if model.producer_name not in LEARNERS:
        return []
    graph = model.graph
    fixed: dict[str, list[str]] = {t.name: [] for t in graph.initializer}  # and what is computed of them only
    fixed |= {name: [name] for name in stored}
    raw, found = {i.name for i in graph.input if i.name not in fixed}, dict[str, None]()
    for node in graph.node:
        given = [name for name in node.input if name]
        weighs = node.op_type in PRODUCTS and not any(name.startswith(AXES) for name in given)
        if weighs and any(name.startswith(ANY_MATRIX) for name in given):
            weighs = not _leads_to_product(graph, node)
        if raw.issuperset(given) or not raw.union(fixed).issuperset(given) or weighs:
            raw.update(node.output if given and raw.issuperset(given) else ())
            continue
        made_of = [source for name in given for source in fixed.get(name, [])]
        if raw.intersection(given):
            raw.update(node.output)
            found |= dict.fromkeys(made_of)
        else:
            fixed |= dict.fromkeys(node.output, made_of)
    return list(found)
