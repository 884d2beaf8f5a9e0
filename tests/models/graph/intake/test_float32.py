# SPDX-License-Identifier: Apache-2.0
"""Networks of half and double precision are trained in float32, with the values that they had."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from fedge_models.errors import ModelError
from fedge_models.graph.intake import read_model
from fedge_models.graph.trainable import TrainableGraph
from onnx import TensorProto, helper, numpy_helper
from support.graphs import N, check_gradient, normal, run_ort, small

TYPES = {np.float16: TensorProto.FLOAT16, np.float64: TensorProto.DOUBLE}
NODES = [
    N("MatMul", ["x", "w"], ["m"]),
    N("Add", ["m", "b"], ["a"]),
    N("Add", ["a", "mask"], ["k"]),
    N("Softmax", ["k"], ["s"]),
    N("Mul", ["s", "factor"], ["y"]),
]


def other(
    dtype: type[np.floating], nodes: list[onnx.NodeProto] = NODES, inside: bool = False, **more: np.ndarray
) -> onnx.ModelProto:
    """A network in another precision: all of it, or between casts (`inside`)."""
    mask = np.array([0, np.finfo(dtype).min, 0], dtype)
    tensors = {"w": normal(4, 3).astype(dtype), "b": normal(3).astype(dtype), "mask": mask, **more}
    kind, made = TYPES[dtype], helper.make_tensor("v", TYPES[dtype], [], [2.0])
    before = [N("Constant", [], ["factor"], value=made)]
    if inside:
        to, back = N("Cast", ["x"], ["h"], to=kind), N("Cast", ["k2"], ["y"], to=TensorProto.FLOAT)
        nodes = [N("MatMul", ["h", "w"], ["m"]), *nodes[1:-1], N("Mul", ["s", "factor"], ["k2"])]
        before, nodes = [to, *before], [*nodes, back]
    model = small([*before, *nodes], tensors, (4,), (3,))
    if not inside:
        for value in (model.graph.input[0], model.graph.output[0]):
            value.type.tensor_type.elem_type = kind
    return model


def taken(model: onnx.ModelProto, folder: Path) -> bytes:
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    data = read_model(folder / "m.onnx")
    (folder / "again.onnx").write_bytes(data)
    assert read_model(folder / "again.onnx") == data  # both ends hash it
    return data


@pytest.mark.parametrize("inside", [False, True], ids=["whole", "between casts"])
@pytest.mark.parametrize("dtype", TYPES, ids=["float16", "float64"])
def test_other_precision_gives_the_same_and_trains(dtype: type[np.floating], inside: bool, tmp_path: Path) -> None:
    model, x = other(dtype, inside=inside), normal(5, 4)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(None, {"x": x if inside else x.astype(dtype)})[0]
    data = taken(model, tmp_path)
    tolerance = 1e-5 if dtype == np.float64 else 1e-2  # half has three digits, and rounds after each step
    np.testing.assert_allclose(run_ort(data, x), expected, atol=tolerance)
    graph = TrainableGraph.load(data, "w,b")
    np.testing.assert_allclose(graph.forward(x), run_ort(data, x), atol=1e-5)
    assert f"converted: {np.dtype(dtype).name} to float32" in graph.notes
    check_gradient(onnx.ModelProto.FromString(data), x, "w,b")


def test_bfloat16_is_read_as_what_it_is(tmp_path: Path) -> None:
    values = np.array([[1.5], [-2.0], [0.25], [3.0]], np.float32)
    model = small([N("Cast", ["w"], ["f"], to=TensorProto.FLOAT), N("MatMul", ["x", "f"], ["y"])], {}, (4,), (1,))
    model.graph.initializer.append(helper.make_tensor("w", TensorProto.BFLOAT16, (4, 1), values.ravel()))
    data = taken(model, tmp_path)
    stored = onnx.ModelProto.FromString(data).graph.initializer
    np.testing.assert_array_equal(numpy_helper.to_array(stored[0]), values)
    assert [t.name for t in TrainableGraph.load(data).layout] == ["w"]


def test_weight_beyond_float32_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="tensor 'b' has values beyond float32, up to 1e\\+50"):
        taken(other(np.float64, b=np.array([1e50, 0, 0])), tmp_path)
