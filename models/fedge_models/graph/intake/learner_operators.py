# SPDX-License-Identifier: Apache-2.0
"""What each operator of ai.onnx.ml computes, as products and arithmetic of the standard."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...protos import BOOL, FLOAT, attribute, tensor
from .free_names import FreeNames

if TYPE_CHECKING:
    import onnx

INT64 = 7
SUM_AXES, OTHER_AXES = 13, 18  # opsets from which axes are an input


class Builder:
    """The nodes and tensors that take the place of one node."""

    def __init__(
        self,
        graph: onnx.GraphProto,
        node: onnx.NodeProto,
        opset: int,
        known: Mapping[str, tuple[int, int]],
        names: FreeNames,
    ) -> None:
        """known: element type and width of values, where they can be known."""
        self.graph, self.node, self.opset, self._names = graph, node, opset, names
        self.kind, self.width = known.get(node.input[0], (FLOAT, 0))  # of what the node reads first
        self.given: dict[str, Any] = {a.name: attribute(a) for a in node.attribute}
        self.made: list[onnx.NodeProto] = []
        self.result = next(o for o in reversed(node.output) if o)  # the scores, where a label comes first

    def text(self, name: str, default: str) -> str:
        """An attribute that is a word."""
        found = self.given.get(name, default.encode())
        return found.decode() if isinstance(found, bytes) else str(found)

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Add a node; return the name of its output."""
        from onnx import helper

        output = self._free(op.lower())
        self.made.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def store(self, last: str, values: Any) -> str:
        """Add a tensor named after the node; return its name."""
        name = self._free(last)
        self.graph.initializer.append(tensor(name, np.asarray(values)))
        return name

    def reduced(self, op: str, x: str, axis: int = 1) -> str:
        """Reduce each row to one value, or another axis, in the form of the graph's opset."""
        if self.opset < (SUM_AXES if op == "ReduceSum" else OTHER_AXES):
            return self.add(op, x, axes=[axis], keepdims=1)
        return self.add(op, x, self.store("axes", np.array([axis], np.int64)), keepdims=1)

    def is_read(self, name: str) -> bool:
        """Whether another node reads it, or it is an output."""
        return any(name in n.input for n in self.graph.node) or any(name == o.name for o in self.graph.output)

    def end(self, name: str) -> None:
        """Let `name` be the node's result."""
        last = next(n for n in reversed(self.made) if name in n.output)
        last.output[0] = self.result
        for node in self.made:
            for position, read in enumerate(node.input):
                if read == name:
                    node.input[position] = self.result

    def _free(self, last: str) -> str:
        return self._names.first(f"{self.node.name or self.node.op_type}.{last}")


def _floats(values: Sequence[float]) -> np.ndarray:
    return np.array(values, np.float32)


def _linear(b: Builder, x: str, rows: int) -> str:
    weights = _floats(b.given["coefficients"]).reshape(rows, -1)
    if b.width not in (0, weights.shape[1]):  # ONNX Runtime takes the first of them, for whatever they are
        each = f"{weights.shape[1]} coefficients for each of its {rows} results"
        raise ValueError(f"it has {each}, and its input has {b.width} values. Export the fitted model again")
    inputs = [x, b.store("weight", weights)]
    if b.given.get("intercepts"):
        inputs.append(b.store("bias", _floats(b.given["intercepts"])))
    return b.add("Gemm", *inputs, transB=1)


def _transformed(b: Builder, z: str) -> str:
    kind = b.text("post_transform", "NONE")
    if kind in ("SOFTMAX", "SOFTMAX_ZERO"):
        return b.add("Softmax", z, axis=1)
    if kind == "LOGISTIC":
        return b.add("Sigmoid", z)
    if kind == "NONE":
        return z
    raise ValueError(f"post_transform is {kind}")


def _regressor(b: Builder, x: str) -> str:
    if (kind := b.text("post_transform", "NONE")) != "NONE":  # ONNX Runtime does not do what the standard says
        raise ValueError(f"post_transform is {kind}")
    return _linear(b, x, int(b.given.get("targets", 1)))


def _classifier(b: Builder, x: str) -> str:
    labels = b.given.get("classlabels_ints") or b.given.get("classlabels_strings") or []
    rows = len(b.given.get("intercepts") or labels)
    z = _linear(b, x, rows)
    if rows == 1 and len(labels) == 2:
        z, scores = _of_one(b, z)
    else:
        scores = _transformed(b, z)
    if b.is_read(b.node.output[0]):
        _label(b, z)
    return scores


def _of_one(b: Builder, z: str) -> tuple[str, str]:
    """Logits of two classes by a single score, and what ONNX Runtime makes of them: without a transform (1 - z, z)."""
    logits = b.add("Concat", b.add("Mul", z, b.store("zero", np.array(0, np.float32))), z, axis=1)
    if b.text("post_transform", "NONE") == "LOGISTIC":
        return logits, b.add("Softmax", logits, axis=1)
    return logits, b.add("Concat", b.add("Sub", b.store("one", np.array(1, np.float32)), z), z, axis=1)


def _label(b: Builder, z: str) -> None:
    """The number of the class with the largest score, where other nodes read it, as votes between pairs do."""
    if not (numbers := b.given.get("classlabels_ints")):
        raise ValueError("others read its label, which is a text")
    best = b.add("ArgMax", z, axis=1, keepdims=0)
    b.add("Gather", b.store("classes", np.array(numbers, np.int64)), best, axis=0)
    b.made[-1].output[0] = b.node.output[0]


def _scaler(b: Builder, x: str) -> str:
    if offset := b.given.get("offset"):
        x = b.add("Sub", x, b.store("offset", _floats(offset)))
    return b.add("Mul", x, b.store("scale", _floats(b.given.get("scale") or [1.0])))


def _normalizer(b: Builder, x: str) -> str:
    kind = b.text("norm", "MAX")
    size = b.reduced({"MAX": "ReduceMax", "L1": "ReduceL1", "L2": "ReduceL2"}[kind], x)
    some = b.add("Cast", size, to=BOOL)  # Equal takes floats from opset 11 on, and skl2onnx writes 9 where it can
    return b.add("Div", x, b.add("Where", some, size, b.store("one", np.array(1, np.float32))))


def _imputer(b: Builder, x: str) -> str:
    instead, missing = b.given.get("imputed_value_floats"), float(b.given.get("replaced_value_float", 0.0))
    if not instead:
        raise ValueError("it replaces integers")
    found = b.add("IsNaN", x) if np.isnan(missing) else _equal(b, x, np.array(missing))
    return b.add("Where", found, b.store("instead", _floats(instead)), x)


def _equal(b: Builder, x: str, values: np.ndarray) -> str:
    """Whether floats are equal; the operator Equal takes them from opset 11 on only."""
    return b.add("Not", b.add("Cast", b.add("Sub", x, b.store("values", values.astype(np.float32))), to=BOOL))


def _codes(b: Builder, x: str, keys: Sequence[float]) -> str:
    """1 where a value (n, k) is the key, else 0: (n, k, keys)."""
    if np.isnan(keys).any():
        raise ValueError("a category is NaN")
    cells = b.add("Reshape", x, b.store("cells", np.array([0, -1, 1], np.int64)))
    return b.add("Cast", _equal(b, cells, np.array(keys).reshape(1, 1, -1)), to=FLOAT)


def _one_hot(b: Builder, x: str) -> str:
    """A column for each category; all zero for another one."""
    if b.given.get("cats_strings"):
        raise ValueError("its categories are texts")
    whole = b.add("Cast", b.add("Cast", x, to=INT64), to=FLOAT)  # as the standard takes a number
    return _codes(b, whole, b.given["cats_int64s"])


def _label_encoder(b: Builder, x: str) -> str:
    """A number for each category, the default for another one."""
    kinds = (
        [k for k in ("keys_int64s", "keys_floats") if k in b.given],
        [v for v in ("values_int64s", "values_floats") if v in b.given],
    )
    if not all(kinds):
        raise ValueError("it maps texts or tensors")
    whole = kinds[1][0] == "values_int64s"
    default = float(b.given.get("default_int64", -1) if whole else b.given.get("default_float", -0.0))
    values = _floats(b.given[kinds[1][0]]).reshape(1, 1, -1)
    weighed = b.add("Mul", _codes(b, x, b.given[kinds[0][0]]), b.store("values", values - np.float32(default)))
    summed = b.reduced("ReduceSum", weighed, 2)
    flat = b.add("Reshape", summed, b.store("flat", np.array([0, -1], np.int64)))
    last = b.add("Add", flat, b.store("default", np.array(default, np.float32)))
    return b.add("Cast", last, to=INT64) if whole else last


def _binarizer(b: Builder, x: str) -> str:
    above = b.add("Greater", x, b.store("threshold", np.array(b.given.get("threshold", 0.0), np.float32)))
    return b.add("Cast", above, to=FLOAT)


def _columns(b: Builder, x: str) -> str:
    places = b.add("Reshape", b.node.input[1], b.store("flat", np.array([-1], np.int64)))  # one of them is a row, too
    return b.add("Gather", x, places, axis=-1)


def _joined(b: Builder, x: str) -> str:
    return b.add("Concat", *b.node.input, axis=1)


MADE: dict[str, Callable[[Builder, str], str]] = {
    "ArrayFeatureExtractor": _columns,
    "Binarizer": _binarizer,
    "FeatureVectorizer": _joined,
    "Imputer": _imputer,
    "LabelEncoder": _label_encoder,
    "LinearClassifier": _classifier,
    "LinearRegressor": _regressor,
    "Normalizer": _normalizer,
    "OneHotEncoder": _one_hot,
    "Scaler": _scaler,
}
