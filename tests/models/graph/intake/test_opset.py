# SPDX-License-Identifier: Apache-2.0
"""Files of old opsets give what they gave, in an opset that is trained."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
from fedge_models.errors import ModelError
from fedge_models.graph.card import Card, Channel, WindowSpec, write_card
from fedge_models.graph.intake import read_model
from fedge_models.graph.trainable import TrainableGraph
from onnx import TensorProto, helper
from support.graphs import N, check_gradient, named, normal, run_ort, small

CARD = Card("regress", (Channel("a"), Channel("b")), WindowSpec(1, 6, 1))


def old(nodes: list[onnx.NodeProto], tensors: dict[str, np.ndarray], y: tuple[int, ...], opset: int) -> onnx.ModelProto:
    """As files were before IR version 4: initializers are inputs, too."""
    model = small(nodes, tensors, (2, 6), y, opset)
    model.ir_version = 3
    for name, values in tensors.items():
        model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, values.shape))
    write_card(model, msgspec.structs.replace(CARD, targets=named(y)))
    return model


def taken(model: onnx.ModelProto, folder: Path) -> bytes:
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    data = read_model(folder / "m.onnx")
    (folder / "again.onnx").write_bytes(data)
    assert read_model(folder / "again.onnx") == data  # both ends hash it
    return data


CONV = N("Conv", ["x", "w"], ["c"], pads=[1, 1])
W = {"w": normal(3, 2, 3)}
SQUARE = [N("Reshape", ["c", "square"], ["i"])]
CASES = {
    "BatchNormalization and flat Softmax": (
        7, [CONV, N("BatchNormalization", ["c", "s", "b", "m", "v"], ["n"], spatial=1), N("Flatten", ["n"], ["f"]),
            N("Softmax", ["f"], ["y"])],
        {**W, "s": normal(3), "b": normal(3), "m": normal(3), "v": normal(3) ** 2 + 1}, (18,),
    ),
    "Softmax over all that follows the batch": (8, [CONV, N("Softmax", ["c"], ["y"], axis=1)], W, (3, 6)),
    "Upsample": (7, [CONV, N("Upsample", ["c"], ["y"], scales=[1.0, 1.0, 1.5], mode="nearest")], W, (3, 9)),
    "linear Upsample": (
        8, [CONV, N("Unsqueeze", ["c"], ["i"], axes=[2]),
            N("Upsample", ["i"], ["y"], scales=[1.0, 1.0, 1.0, 2.0], mode="linear")], W, (3, 1, 12),
    ),
    "Upsample whose scales are an input": (
        9, [CONV, N("Upsample", ["c", "sizes"], ["y"], mode="nearest")],
        {**W, "sizes": np.array([1, 1, 2], np.float32)}, (3, 12),
    ),
    "nearest Resize": (
        10, [CONV, N("Resize", ["c", "sizes"], ["y"], mode="nearest")],
        {**W, "sizes": np.array([1, 1, 2.5], np.float32)}, (3, 15),
    ),
    "flat softmax of a flat LSTM": (
        11, [N("Transpose", ["x"], ["t"], perm=[2, 0, 1]), N("LSTM", ["t", "w", "r"], ["", "h"], hidden_size=3),
             N("Squeeze", ["h"], ["q"], axes=[0]), N("LogSoftmax", ["q"], ["y"])],
        {"w": normal(1, 12, 2), "r": normal(1, 12, 3)}, (3,),
    ),
    "Resize": (
        10, [CONV, N("Unsqueeze", ["c"], ["i"], axes=[2]), N("Resize", ["i", "sizes"], ["y"], mode="linear")],
        {**W, "sizes": np.array([1, 1, 1, 2], np.float32)}, (3, 1, 12),
    ),
    "axes and bounds as attributes": (
        9, [CONV, N("Clip", ["c"], ["k"], min=-0.5, max=0.9), N("ReduceSum", ["k"], ["r"], axes=[2], keepdims=1),
            N("Squeeze", ["r"], ["q"], axes=[2]), N("Unsqueeze", ["q"], ["u"], axes=[1]),
            N("Dropout", ["u"], ["y"], ratio=0.5)], W, (1, 3),
    ),
    "Pad, Slice and Split": (
        9, [CONV, N("Pad", ["c"], ["p"], pads=[0, 0, 1, 0, 0, 2], value=1.5),
            N("Slice", ["p"], ["l"], axes=[2], starts=[1], ends=[9]),
            N("Split", ["l"], ["y", "z"], axis=2, split=[4, 4])],
        W, (3, 4),
    ),
    "Gemm": (7, [N("Flatten", ["x"], ["f"]), N("Gemm", ["f", "w", "b"], ["y"])],
             {"w": normal(12, 4), "b": normal(4)}, (4,)),
    "opset 12": (12, [CONV, N("ReduceSum", ["c"], ["y"], axes=[-1], keepdims=0)], W, (3,)),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_old_graph_gives_and_learns_what_it_did(case: str, tmp_path: Path) -> None:
    opset, nodes, tensors, y = CASES[case]
    model, x = old(nodes, tensors, y, opset), normal(3, 2, 6)
    feeds = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = feeds.run(["y"], {"x": x})[0].reshape(3, -1)
    data = taken(model, tmp_path)
    np.testing.assert_allclose(run_ort(data, x), expected, atol=1e-5)
    graph = TrainableGraph.load(data)
    np.testing.assert_allclose(graph.forward(x), expected, atol=1e-5)
    assert f"converted: opset {opset} to 13" in graph.notes
    assert {t.name for t in graph.layout} >= {"w"}
    check_gradient(onnx.ModelProto.FromString(data), x)


def test_older_than_the_standard_of_today_is_refused(tmp_path: Path) -> None:
    model = old([N("Add", ["x", "w"], ["y"], broadcast=1, axis=1)], {"w": normal(2)}, (2, 6), 6)
    with pytest.raises(ModelError, match=r"has opset 6, expected 7 or newer\. Export it again with opset 17"):
        taken(model, tmp_path)


def test_operator_that_the_converter_does_not_know_is_named(tmp_path: Path) -> None:
    """PyTorch writes the GELU of opset 8 with an operator that came with opset 9."""
    nodes = [CONV, N("Erf", ["c"], ["y"])]
    with pytest.raises(
        ModelError, match=r"has opset 8, and the version .* cannot bring its operator Erf to 13\. Export"
    ):
        taken(old(nodes, W, (3, 6), 8), tmp_path)


def test_newer_than_what_is_known_is_refused(tmp_path: Path) -> None:
    model = old([CONV, N("Relu", ["c"], ["y"])], W, (3, 6), 12)
    model.opset_import[0].version = 999
    with pytest.raises(ModelError, match=r"has opset 999, expected 7 to \d+\. Export it again with opset 17"):
        taken(model, tmp_path)


def test_what_the_converter_does_not_know_is_refused_with_what_to_do(tmp_path: Path) -> None:
    """Statistics of each place were part of the standard until opset 8."""
    nodes = [CONV, N("BatchNormalization", ["c", "s", "s", "s", "s"], ["y"], spatial=0)]
    with pytest.raises(
        ModelError, match=r"version converter of ONNX cannot bring it \([^/:]+\b.*\) to 13\. Export it again"
    ):
        taken(old(nodes, {**W, "s": normal(3, 6)}, (3, 6), 8), tmp_path)


@pytest.mark.parametrize("opset", [18, 20])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_group_normalization_with_a_scale_for_each_group_trains(opset: int, groups: int, tmp_path: Path) -> None:
    nodes = [
        N("Conv", ["x", "w"], ["c"]),
        N("GroupNormalization", ["c", "scale", "bias"], ["n"], num_groups=groups, epsilon=1e-3, name="norm"),
        N("GlobalAveragePool", ["n"], ["g"]),
        N("Flatten", ["g"], ["f"]),
        N("MatMul", ["f", "v"], ["y"]),
    ]
    tensors = {"w": normal(4, 2, 3), "scale": normal(groups), "bias": normal(groups), "v": normal(4, 3)}
    model, x = small(nodes, tensors, (2, 6), (3,), opset), normal(5, 2, 6)
    expected = run_ort(model.SerializeToString(), x)
    write_card(model, msgspec.structs.replace(CARD, targets=named((3,))))
    data = taken(model, tmp_path)
    graph = TrainableGraph.load(data)
    assert {t.name for t in graph.layout} == {*tensors}
    np.testing.assert_allclose(graph.forward(x), expected, atol=1e-5)
    np.testing.assert_allclose(run_ort(data, x), expected, atol=1e-5)
    check_gradient(onnx.ModelProto.FromString(data), x)
