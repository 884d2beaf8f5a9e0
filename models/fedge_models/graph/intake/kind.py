# SPDX-License-Identifier: Apache-2.0
"""Refuse a file by what it is, where no part of it can be trained: trees, kernels, text, branches and loops."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from ...ops.registry import OPERATORS
from ...protos import DOUBLE, FLOAT, FLOAT16
from ..card import Card
from ..nodes import alive, check_order
from ..onnx_file import tensors
from ..refusals import kind_of, refuse
from .lists import LISTS
from .quantised_nodes import NODES
from .subgraphs import behind_loops, inputs_by_value, reads

if TYPE_CHECKING:
    import onnx

TREES = ("TreeEnsemble", "TreeEnsembleClassifier", "TreeEnsembleRegressor")
FOREST = re.compile(r"_operators\.\d+\.(weight_3|lefts|root_nodes|root_biases|leaf_nodes)$")  # by Hummingbird
KERNELS = ("SVMClassifier", "SVMRegressor")
CATEGORIES = ("CategoryMapper", "DictVectorizer")  # of texts always
# Others of texts if they hold these.
ENCODERS = {
    "LabelEncoder": ("keys_strings", "classes_strings"),
    "OneHotEncoder": ("cats_strings",),
}
TEXT = ("RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit", "TfIdfVectorizer")
IDS = ("attention_mask", "decoder_input_ids", "input_ids", "token_ids", "token_type_ids")
STRING, INTEGERS = 8, (6, 7)
DYNAMIC = "DynamicQuantize"  # with a range over the whole batch: what one sample gives depends on the others
FLOATS = (FLOAT, FLOAT16, DOUBLE, 16)
WIDTHS = {FLOAT: 4, FLOAT16: 2, DOUBLE: 8, 16: 2, 2: 1, 3: 1, 5: 2, 6: 4, 7: 8, 9: 1}  # bytes of a value
INSTEAD = {  # of TensorFlow
    "Erfc": ", in Keras gelu with approximate=True",
    "StatefulPartitionedCall": ", in Keras a convolution without groups, or SeparableConv",
}
STATES = "opset 9 or newer: with 7 and 8, PyTorch writes this operator for the first state of LSTM, GRU and RNN"
REMOVED = {  # experimental ones, which other tools wrote, too; and what to do
    "ConstantFill": STATES,
    **dict.fromkeys(
        ("Affine", "Crop", "DynamicSlice", "GRUUnit", "GivenTensorFill", "ImageScaler", "ParametricSoftplus", "Scale",
         "ScaledTanh"), "opset 17"),
}  # fmt: skip
MADE = ("SequenceConstruct", "SequenceEmpty")  # of lists that other nodes read, or that are the output
NO_TENSOR = {
    "sequence_type": "a list of tensors",
    "map_type": "a map from names to values",
    "optional_type": "a value that may be absent",
    "sparse_tensor_type": "a sparse tensor",
}
WORDS = 1000  # rows of a table from which on it is a vocabulary, and no set of recipes or machines
AS_THEY_ARE = ("Cast", "Clip", "Flatten", "Identity", "Max", "Min", "Reshape", "Squeeze", "Transpose", "Unsqueeze")


def check_kind(model: onnx.ModelProto, card: Card, where: str) -> bool:
    """Raise ModelError for such a file, or one whose nodes go in a circle. Returns False: it changes nothing."""
    if not len(model.graph.output):
        refuse("no output", where)
    check_order(model, tensors(model), where)
    if not _depends(model.graph):
        refuse("constant", where, name=model.graph.output[0].name)
    living = alive(model)
    read = {o.name for o in model.graph.output}.union(*(reads(model.graph.node[i]) for i in living))
    given = [v for v in model.graph.input if v.name in read]  # others are left out
    _check_inputs(given, where)
    _check_sizes(model.graph, where)
    _check_text(model.graph, given, where)
    _check_learners(model.graph, where)
    for position, node in enumerate(model.graph.node):
        if position in living and _reads_names(node):
            refuse("categories", where, op=node.op_type)
        if position in living and node.domain and node.op_type.startswith(DYNAMIC):
            refuse("quantised", where, name=node.name or node.op_type, op=node.op_type, domain=node.domain)
        if position in living and not node.domain and node.op_type in REMOVED:
            refuse("removed", where, name=node.name or node.op_type, op=node.op_type, do=REMOVED[node.op_type])
        if position in living and node.domain in ("", "ai.onnx") and not _is_standard(node.op_type):
            refuse("operator", where, name=node.name or node.op_type, op=node.op_type, do=INSTEAD.get(node.op_type, ""))
        if position in living and not node.domain and node.op_type in LISTS and node.op_type not in MADE:
            refuse("sequence", where, name=node.name or node.op_type, op=node.op_type)
        if position in living and any(a.HasField("g") or a.graphs for a in node.attribute):
            refuse("control flow", where, name=node.name or node.op_type, op=node.op_type, why=_why(model.graph, node))
    if not any(t.data_type in FLOATS and math.prod(t.dims) > 1 for t in model.graph.initializer):
        _check_runtime(model, living, where)
    return False


def _check_learners(graph: onnx.GraphProto, where: str) -> None:
    """Refuse trees, also those that were written as tensors, and what stores its training samples."""
    for node in graph.node:
        if node.op_type in TREES:
            refuse("trees", where, op=node.op_type)
        if node.op_type in KERNELS:
            refuse("kernel", where, op=node.op_type)
    for tensor in graph.initializer:
        if FOREST.match(tensor.name):
            refuse("trees", where, op=f"{tensor.name}, as Hummingbird writes it")


def _why(graph: onnx.GraphProto, node: onnx.NodeProto) -> str:
    """Why it is not known what of a node with graphs inside runs."""
    if node.op_type == "If" and node.input[0] not in inputs_by_value(graph) | behind_loops(graph):
        return "the number of samples, which is any at a gateway, decides which part runs"
    return "nothing before it tells which part runs"


def _check_inputs(given: Sequence[onnx.ValueInfoProto], where: str) -> None:
    """Refuse an input that is no tensor."""
    for value in given:
        if (what := NO_TENSOR.get(str(value.type.WhichOneof("value")))) is not None:
            refuse("list input", where, name=value.name, what=what)


def _depends(graph: onnx.GraphProto) -> bool:
    """Whether some output is made from an input; what a branch or loop reads from outside counts as read."""
    stored = {t.name for t in graph.initializer}
    known = {v.name for v in graph.input if v.name not in stored}
    for node in graph.node:
        if known.intersection(node.input) or any(a.HasField("g") or a.graphs for a in node.attribute):
            known.update(node.output)
    return any(o.name in known for o in graph.output)


def _check_sizes(graph: onnx.GraphProto, where: str) -> None:
    """Refuse a tensor that holds less, or more, than its dimensions say; a pass would fail with it anywhere."""
    for t in graph.initializer:
        claimed = math.prod(t.dims) if all(d >= 0 for d in t.dims) else -1
        size = WIDTHS.get(t.data_type, 0)
        held = len(t.raw_data) / size if size and t.HasField("raw_data") else claimed if claimed >= 0 else 0
        if held != claimed:
            refuse("sizes", where, name=t.name, dims=[*t.dims], held=f"{held:g}")


def _is_standard(op: str) -> bool:
    """Whether the standard has an operator of this name, in any version."""
    return op in OPERATORS or op in _standard()


@cache
def _standard() -> frozenset[str]:
    """The names of the standard's operators, in any version."""
    from onnx import defs

    return frozenset(schema.name for schema in defs.get_all_schemas_with_history() if not schema.domain)


def _reads_names(node: onnx.NodeProto) -> bool:
    """Whether a node tells categories by their names."""
    texts = ENCODERS.get(node.op_type, ())
    return node.op_type in CATEGORIES or any(a.name in texts and len(a.strings) for a in node.attribute)


def _check_runtime(model: onnx.ModelProto, living: set[int], where: str) -> None:
    """Refuse a file all of whose weights a runtime stored in a form of its own."""
    for node in (model.graph.node[i] for i in sorted(living)):
        if (kind := kind_of(node)) is not None and node.op_type not in NODES:
            refuse(kind, where, name=node.name or node.op_type, op=node.op_type, domain=node.domain)


def _check_text(graph: onnx.GraphProto, given: Sequence[onnx.ValueInfoProto], where: str) -> None:
    ids: dict[str, str] = {}  # values that are integers of an input, and the input
    for value in given:
        kind = value.type.tensor_type.elem_type
        if kind == STRING and (encoder := next(filter(_reads_names, graph.node), None)) is not None:
            refuse("categories", where, op=f"input {value.name!r}: {encoder.op_type}")
        if kind == STRING:
            refuse("text", where, name=value.name, what="strings")
        if kind in INTEGERS and value.name in IDS:
            refuse("text", where, name=value.name, what="integer ids of words")
        if kind in INTEGERS:
            ids[value.name] = value.name
    rows = {t.name: t.dims[0] for t in graph.initializer if len(t.dims) == 2}
    for node in graph.node:
        if node.op_type in TEXT:
            refuse("text", where, name=graph.input[0].name, what=f"words ({node.op_type})")
        if node.op_type in AS_THEY_ARE and node.input[0] in ids:
            ids[node.output[0]] = ids[node.input[0]]
        if node.op_type == "Gather" and node.input[1] in ids and rows.get(node.input[0], 0) >= WORDS:
            refuse("text", where, name=ids[node.input[1]], what="integer ids of words")
