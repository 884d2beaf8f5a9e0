# SPDX-License-Identifier: Apache-2.0
"""Give a classifier one column for each label: a single logit or sigmoid becomes two, sigmoids give way to logits.

Exporters write two classes as one value (a logit, as BCEWithLogitsLoss wants it, or its sigmoid) or as the columns
1 - p and p. Training needs a value for each label, with at most a Softmax at the end. The graph gives the same
probabilities. Where each label has a sigmoid of its own, the logits are taken, because here one label holds; that is
noted, as the probabilities are then others. Labels of which several may hold are in `label_logits`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ModelError
from ...protos import FLOAT, tensor, value_info
from ..card import Card
from ..notes import note
from ..refusals import refuse
from .compare import results, samples
from .ends import ends_in_layers
from .probability import LEAST, PRODUCT, SHAPED, logits_of, sources
from .pruning import prune

if TYPE_CHECKING:
    import onnx

LINEAR = (
    "Add", "BatchNormalization", "Concat", "Conv", "Div", "Einsum", "Flatten", "Gather", "Gemm", "GlobalAveragePool",
    "MatMul", "Mul", "ReduceMean", "ReduceSum", "Reshape", "Slice", "Squeeze", "Sub", "Sum", "Transpose", "Unsqueeze",
)  # fmt: skip
BOUNDED = ("Clip", "Erf", "HardSigmoid", "Sin", "Softsign", "Tanh")
PROBABILITIES = {PRODUCT, "Sigmoid", "Softmax"}
SIGMOIDS = (
    "output: the logits before the sigmoids, of which each label had one; here exactly one label holds. Where several "
    "may hold at once, write task = 'multilabel' on the card"
)


def one_output(model: onnx.ModelProto, card: Card, where: str) -> bool:
    """Give the classifier a column for each label, in place. Return whether anything changed.

    Raises ModelError when it gives one value that is neither a logit nor a sigmoid.
    """
    graph, classes = model.graph, len(card.labels)
    if card.task != "classify" or len(graph.output) != 1 or graph.output[0].type.tensor_type.elem_type != FLOAT:
        return False
    makers = {o: n for n in graph.node for o in n.output}
    name = without_copies(graph.output[0].name, makers)
    found = run_output(model, card, name)
    width = _width(graph, found)
    pair = _positive_of_pair(name, makers)
    inner = sigmoid(pair or name, makers)
    if (classes == 2 and pair is not None and inner is not None) or (width == 1 and inner is not None and classes == 2):
        name = _two_classes(graph, inner, softmax=True)
    elif width == 1:
        name = _single(model, card, name, makers, found, where)
    elif _are_probabilities(found, width, classes) and not (
        (name in makers and makers[name].op_type == "Softmax") or ends_in_layers(graph, name, makers)
    ):
        name = _from_probabilities(graph, name, inner)
        note(model, "output: Softmax of the logarithm of its probabilities, which are the same")
    elif inner is not None:
        name = without_sigmoid(graph, name, makers, where)
        note(model, SIGMOIDS)
    elif _is_of_probabilities(graph, name, makers) and _within(found):
        name = logits_of(graph, name)
        note(model, SIGMOIDS)
    else:
        noted = _note_bounded(model, name, makers)
        return _stated(graph, name, classes, width) or noted
    set_output(graph, name, classes)
    prune(graph)
    return True


def _note_bounded(model: onnx.ModelProto, name: str, makers: dict[str, onnx.NodeProto]) -> bool:
    """Note where values are taken as logits that no network should give as such. Return whether they are, newly."""
    op = through_shapes(name, makers)[1]
    if _is_of_probabilities(model.graph, name, makers):
        return note(model, f"output: {op} of probabilities is taken as logits. Export the logits, or the probabilities")
    text = f"output: ends in {op}, whose values are bounded; as logits they keep all probabilities near each other"
    return op in BOUNDED and note(model, f"{text}. Export what goes into it")


def _single(
    model: onnx.ModelProto,
    card: Card,
    name: str,
    makers: dict[str, onnx.NodeProto],
    found: NDArray[Any] | None,
    where: str,
) -> str:
    """Make two columns of a single value that is no sigmoid; return their name. Raises ModelError for no logit.

    A part or a mean of probabilities is one, and no logit, though the last operator is linear.
    """
    is_probability = _is_of_probabilities(model.graph, name, makers)
    is_other = is_probability and not _within(found)
    if len(card.labels) != 2 or through_shapes(name, makers)[1] not in LINEAR or is_other:
        refuse("one value", where, labels=len(card.labels), op=makers[name].op_type if name in makers else "its input")
    if is_probability:
        note(model, f"output: the single probability is taken as that of {card.labels[1]!r}, and became two columns")
        return _two_classes(model.graph, logits_of(model.graph, name), softmax=True)
    note(model, "output: the single logit became two columns, 0 and the logit")
    return _two_classes(model.graph, name, softmax=False)


def _is_of_probabilities(graph: onnx.GraphProto, name: str, makers: dict[str, onnx.NodeProto]) -> bool:
    """Whether a value is part, mean, sum or product of probabilities only, and not simply these."""
    made_of = sources(graph, name, makers)
    is_made = name in makers and makers[name].op_type not in PROBABILITIES
    return is_made and bool(made_of - {PRODUCT}) and made_of <= PROBABILITIES


def _within(found: NDArray[Any] | None) -> bool:
    """Whether all values may be probabilities, as far as they are known."""
    return found is None or bool(((found >= 0) & (found <= 1)).all())


def run_output(model: onnx.ModelProto, card: Card, name: str) -> NDArray[Any] | None:
    """The output for a few samples, a row for each; None when the graph cannot be run."""
    feeds = samples(model, card)
    found = results(model, feeds, [name])
    return found[name].reshape(len(next(iter(feeds.values()))), -1) if found and feeds else None


def _width(graph: onnx.GraphProto, found: NDArray[Any] | None) -> int:
    """How many values the output has for a sample: as it is run, else as it is declared; 0 when nobody knows."""
    if found is not None:
        return int(found.shape[1])
    dims = graph.output[0].type.tensor_type.shape.dim
    return int(dims[-1].dim_value) if len(dims) > 1 else 0


def _are_probabilities(found: NDArray[Any] | None, width: int, classes: int) -> bool:
    """Whether each row of values adds up to one, with none below zero."""
    if found is None or width != classes or found.dtype.kind != "f":
        return False
    return bool((found >= 0).all() and np.allclose(found.sum(axis=1), 1, atol=1e-4))


def without_copies(name: str, makers: dict[str, onnx.NodeProto]) -> str:
    """What `name` is a copy of, or a cast of floats."""
    while (
        (maker := makers.get(name)) is not None and maker.op_type in ("Identity", "Cast") and maker.input[0] in makers
    ):
        if maker.op_type == "Cast" and makers[maker.input[0]].op_type not in (*LINEAR, "Sigmoid", "Softmax"):
            break
        name = maker.input[0]
    return name


def through_shapes(name: str, makers: dict[str, onnx.NodeProto]) -> tuple[str, str]:
    """Return what `name` is but for its shape, and the operator that makes it."""
    maker = makers.get(name)
    while maker is not None and maker.op_type in SHAPED and maker.input[0] in makers:
        name = maker.input[0]
        maker = makers[name]
    return name, maker.op_type if maker is not None else ""


def sigmoid(name: str, makers: dict[str, onnx.NodeProto]) -> str | None:
    """Return z when `name` is sigmoid(z), but for its shape; else None."""
    name, op = through_shapes(name, makers)
    return makers[name].input[0] if op == "Sigmoid" else None


def without_sigmoid(graph: onnx.GraphProto, name: str, makers: dict[str, onnx.NodeProto], where: str) -> str:
    """Take the logits for the sigmoids, in the same shape. Raises ModelError when the graph also uses the sigmoids."""
    sigmoids, _ = through_shapes(name, makers)
    if sigmoids == name:
        return str(makers[name].input[0])
    if sum(sigmoids in n.input for n in graph.node) > 1:
        raise ModelError(f"{where}: the sigmoids {sigmoids!r} of the labels are used elsewhere; export the logits")
    makers[sigmoids].op_type = "Identity"
    return name


def _positive_of_pair(name: str, makers: dict[str, onnx.NodeProto]) -> str | None:
    """Return p when `name` is the columns 1 - p and p; else None."""
    maker = makers.get(through_shapes(name, makers)[0])
    if maker is None or maker.op_type != "Concat" or len(maker.input) != 2:
        return None
    left = makers.get(maker.input[0])
    same = left is not None and left.op_type == "Sub" and left.input[1] == maker.input[1]
    return maker.input[1] if same else None


def _two_classes(graph: onnx.GraphProto, z: str, softmax: bool) -> str:
    """Add the columns 0 and z, whose Softmax is the same two probabilities; return the name of the last."""
    from onnx import helper

    graph.initializer.append(tensor("fedge.zero", np.array(0, np.float32)))
    graph.initializer.append(tensor("fedge.column", np.array([-1, 1], np.int64)))
    graph.node.extend(
        [
            helper.make_node("Reshape", [z, "fedge.column"], ["fedge.logit"]),
            helper.make_node("Mul", ["fedge.logit", "fedge.zero"], ["fedge.none"]),
            helper.make_node("Concat", ["fedge.none", "fedge.logit"], ["fedge.logits"], axis=1),
        ]
    )
    if not softmax:
        return "fedge.logits"
    graph.node.append(helper.make_node("Softmax", ["fedge.logits"], ["fedge.probabilities"], axis=1))
    return "fedge.probabilities"


def _from_probabilities(graph: onnx.GraphProto, p: str, z: str | None) -> str:
    """Add a Softmax of the logarithm of probabilities (of sigmoids of z, exactly); return its name."""
    from onnx import helper

    if z is not None:
        steps = [("Neg", [z]), ("Softplus", ["fedge.neg"]), ("Neg", ["fedge.softplus"])]
    else:
        graph.initializer.append(tensor("fedge.least", np.array(LEAST, np.float32)))
        steps = [("Clip", [p, "fedge.least"]), ("Log", ["fedge.clip"])]
    made = ["fedge.neg", "fedge.softplus", "fedge.log"] if z is not None else ["fedge.clip", "fedge.log"]
    for (op, inputs), name in zip(steps, made, strict=True):
        graph.node.append(helper.make_node(op, inputs, [name]))
    graph.node.append(helper.make_node("Softmax", ["fedge.log"], ["fedge.probabilities"], axis=1))
    return "fedge.probabilities"


def _stated(graph: onnx.GraphProto, name: str, classes: int, width: int) -> bool:
    """Leave out copies at the end, and state the width that the exporter left open. Return whether there was one."""
    dims = graph.output[0].type.tensor_type.shape.dim
    if name == graph.output[0].name and (width != classes or (len(dims) > 1 and all(d.dim_value for d in dims[1:]))):
        return False
    set_output(graph, name, width or classes)
    prune(graph)
    return True


def set_output(graph: onnx.GraphProto, name: str, classes: int) -> None:
    del graph.output[:]
    graph.output.append(value_info(name, ("n", classes)))
