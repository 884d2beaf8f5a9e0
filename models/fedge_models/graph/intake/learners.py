# SPDX-License-Identifier: Apache-2.0
"""Replace the operators of ai.onnx.ml, in which scikit-learn is exported, by products and arithmetic that are trained.

Linear models become Gemm, scalers Sub and Mul, the rest what it is: a quotient, a choice of columns, a comparison with
each category. The graph gives the same; that is held in ONNX Runtime. Trees, kernels and texts are refused in `kind`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import ModelError
from ...protos import FLOAT, attribute
from ..card import Card
from ..notes import note
from .compare import check_same, copied, outcomes, trial
from .free_names import FreeNames
from .learner_operators import MADE, Builder
from .opset import stated_opset
from .pruning import prune

if TYPE_CHECKING:
    import onnx

DOMAIN = "ai.onnx.ml"
INTEGERS = (6, 7)
CALCULATES = (
    "Binarizer",
    "Imputer",
    "LabelEncoder",
    "LinearClassifier",
    "LinearRegressor",
    "Normalizer",
    "OneHotEncoder",
    "Scaler",
)


def without_ml(model: onnx.ModelProto, card: Card, where: str) -> bool:
    """Replace the operators of ai.onnx.ml, in place. Return whether there were any. Raises ModelError for others."""
    graph = model.graph
    if not any(n.domain == DOMAIN for n in graph.node):
        return False
    prune(graph)  # labels that no output gives
    found = [n.op_type for n in graph.node if n.domain == DOMAIN]
    feeds = trial(model, card)
    codes = _of_categories(graph, feeds)
    before, coded = outcomes(model, feeds), outcomes(model, codes)
    known, opset = _known(model), stated_opset(model)
    nodes: list[onnx.NodeProto] = []
    names = FreeNames({t.name for t in graph.initializer} | {o for n in graph.node for o in n.output})
    for node in graph.node:
        if node.domain == DOMAIN:
            nodes += _replaced(Builder(graph, node, opset, known, names), where)
        else:
            nodes.append(copied(node))
    kept = [copied(o) for o in model.opset_import if o.domain != DOMAIN]
    del graph.node[:], graph.value_info[:], model.opset_import[:]
    graph.node.extend(nodes)
    model.opset_import.extend(kept)
    what = ", ".join(dict.fromkeys(found))
    check_same(before, outcomes(model, feeds), f"the conversion of {what}", where)
    check_same(coded, outcomes(model, codes), f"the conversion of {what}", where)
    if what:
        note(model, f"converted: {what} of scikit-learn to products and arithmetic")
    return True


def _of_categories(graph: onnx.GraphProto, feeds: list[dict[str, Any]] | None) -> list[dict[str, Any]] | None:
    """Samples whose values are categories of the encoders; None where there is no encoder."""
    known = [a for n in graph.node for a in n.attribute if a.name in ("cats_int64s", "keys_int64s", "keys_floats")]
    values = [v for a in known for v in attribute(a)]
    if not values or feeds is None:
        return None
    rng = np.random.default_rng(16)
    return [{name: rng.choice(values, x.shape).astype(x.dtype) for name, x in each.items()} for each in feeds]


def _known(model: onnx.ModelProto) -> dict[str, tuple[int, int]]:
    """Element type and width (0: open) of each value, where they can be known."""
    from onnx import shape_inference

    graph = shape_inference.infer_shapes(model).graph
    tensors = {v.name: v.type.tensor_type for v in (*graph.input, *graph.value_info)}
    return {n: (t.elem_type, t.shape.dim[-1].dim_value if t.shape.dim else 0) for n, t in tensors.items()}


def _replaced(builder: Builder, where: str) -> list[onnx.NodeProto]:
    node = builder.node
    name = f"{where}: node {node.name or node.op_type!r} ({node.op_type} of {DOMAIN})"
    if node.op_type not in MADE:
        raise ModelError(f"{name} cannot be trained; expected one of {', '.join(MADE)}. Export the steps behind it")
    try:
        builder.end(MADE[node.op_type](builder, _as_floats(builder)))
    except (KeyError, ValueError, TypeError) as e:
        raise ModelError(f"{name} cannot be converted: {e}") from e
    return builder.made


def _as_floats(b: Builder) -> str:
    """The node's first input; cast where it is of integers."""
    x = b.node.input[0]
    return b.add("Cast", x, to=FLOAT) if b.kind in INTEGERS and b.node.op_type in CALCULATES else x
