# SPDX-License-Identifier: Apache-2.0
"""What ONNX Runtime says of a file becomes a sentence: the node, the reason, what to do; no codes and no paths."""

from __future__ import annotations

import re

import numpy as np
import onnx
import onnxruntime
import pytest
from fedge_models.graph.served_errors import explained, fault
from onnx import helper
from support.graphs import N, ints, normal, small

W = {"w": normal(4, 2)}
OUT = N("MatMul", ["m", "w"], ["y"])
FILES = {  # nodes, tensors; what is said of the node, the reason and what to do
    "loaded, shapes": (
        [N("MatMul", ["x", "v"], ["m"], name="first"), OUT], {"v": normal(3, 4), **W},
        "node 'first' (MatMul): Incompatible dimensions", "dynamo=True",
    ),
    "loaded, an attribute": (
        [N("Relu", ["x"], ["m"], name="r", foo=1), OUT], W, "node 'r' (Relu): Unrecognized attribute: foo", "Correct",
    ),
    "loaded, types": (
        [N("And", ["x", "x"], ["z"], name="both"), N("Cast", ["z"], ["m"], to=1), OUT], W,
        "node 'both' (And): Type Error: Type 'tensor(float)' of input parameter (x)", "Correct",
    ),
    "loaded, no such operator": (
        [N("Foo", ["x"], ["m"], domain="own.layers"), OUT], W, "has no operator own.layers:Foo", "opset 17",
    ),
    "loaded, a condition of its own": (
        [N("Unsqueeze", ["x", "at"], ["t"]), N("LSTM", ["t", "a", "b"], ["", "m"]), N("Reshape", ["m", "s"], ["y"])],
        {"a": normal(1, 8, 4), "b": normal(1, 8, 2), "at": ints(0), "s": ints(-1, 2)}, "hidden_size", "Correct",
    ),
    "run, sizes": (
        [N("Reshape", ["x", "s"], ["m"], name="flat"), N("ReduceMean", ["m"], ["y"], axes=[1])], {"s": ints(-1, 3)},
        "node 'flat' (Reshape): ", "dynamo=True",
    ),
    "run, padding": (
        [N("Unsqueeze", ["x", "at"], ["t"]),
         N("Conv", ["t", "k"], ["c"], name="conv", auto_pad="SAME_UPPER", dilations=[2], kernel_shape=[2]),
         N("Squeeze", ["c", "at"], ["m"]), OUT],
        {"at": ints(1), "k": normal(1, 1, 2), **W},
        "node 'conv' (Conv): Dilation not supported", "Correct",
    ),
}  # fmt: skip


def refusal(nodes: list[onnx.NodeProto], tensors: dict[str, np.ndarray]) -> Exception:
    model = small(nodes, tensors, (4,), (2,))
    model.opset_import.append(helper.make_opsetid("own.layers", 1))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, {"x": normal(2, 4)})
    except Exception as e:  # onnxruntime's own exceptions have no common base
        return e
    raise AssertionError("ONNX Runtime runs it")


@pytest.mark.parametrize("name", FILES)
def test_refusal_names_node_and_reason_and_says_what_to_do(name: str) -> None:
    nodes, tensors, named, do = FILES[name]
    said = explained(refusal(nodes, tensors))
    assert named in said and do in said, said
    assert said.startswith("ONNX Runtime, which serves the file, ")
    assert not re.search(r"ONNXRuntimeError|onnxruntime_src|\.(cc|h):\d+|InferenceError|  |\.\.| == ", said), said


def test_what_is_no_refusal_of_a_node_is_said_as_it_is() -> None:
    assert fault(RuntimeError("the disk is full.")) == ("", "", "the disk is full")
    assert explained(RuntimeError("the disk is full.")).startswith(
        "ONNX Runtime, which serves the file, cannot take it: the disk is full. "
    )


def test_file_of_a_later_version_of_onnx_says_so() -> None:
    model = small([N("MatMul", ["x", "w"], ["y"])], W, (4,), (2,))
    model.ir_version = 99
    with pytest.raises(Exception, match="IR version") as refused:
        onnxruntime.InferenceSession(model.SerializeToString())
    assert explained(refused.value).endswith(
        "A newer version of onnx wrote the file. Export it with opset 17, or with an earlier version of onnx"
    )
