# SPDX-License-Identifier: Apache-2.0
"""What ONNX Runtime cannot serve, or serves otherwise than NumPy trains it, is refused before anything is trained."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from fedge_models import load
from fedge_models.errors import ModelError
from fedge_models.graph.card import Card, Channel, WindowSpec, write_card
from fedge_models.graph.intake import read_model
from fedge_models.graph.serve_check import check_served
from fedge_models.graph.trainable import TrainableGraph
from onnx import TensorProto
from support import graphs
from support.graphs import N, check_gradient, ints, normal, run_ort, small

CARD = Card("classify", tuple(Channel(c) for c in "abc"), WindowSpec(1, 12, 1), labels=("x", "y", "z"))
POOL = [N("GlobalAveragePool", ["c"], ["g"]), N("Flatten", ["g"], ["m"]), N("Gemm", ["m", "h"], ["y"])]


def saved(model: onnx.ModelProto, folder: Path, card: Card = CARD) -> Path:
    write_card(model, card)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    return folder / "m.onnx"


def conv(**attributes: object) -> onnx.ModelProto:
    return small(
        [N("Conv", ["x", "k"], ["c"], **attributes), *POOL], {"k": normal(4, 3, 4), "h": normal(4, 3)}, (3, 12), (3,)
    )


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("dilation", [2, 3])
def test_padding_of_a_dilated_convolution_is_written_out(mode: str, dilation: int, tmp_path: Path) -> None:
    """The same as padding by hand: kernel 4, so one side gets more where the sum is odd."""
    model, x = conv(auto_pad=mode, dilations=[dilation], kernel_shape=[4]), normal(3, 3, 12)
    with pytest.raises(Exception, match="Dilation not supported"):
        run_ort(model.SerializeToString(), x)
    data = read_model(saved(model, tmp_path))
    total = 3 * dilation
    less, more = total // 2, total - total // 2
    pads = (less, more) if mode == "SAME_UPPER" else (more, less)
    padded = np.pad(x, ((0, 0), (0, 0), pads))
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    nodes = [N("Conv", ["x", "k"], ["c"], dilations=[dilation]), *POOL]
    plain = small(nodes, weights, (3, 12 + total), (3,))
    np.testing.assert_allclose(run_ort(data, x), run_ort(plain.SerializeToString(), padded), rtol=1e-5, atol=1e-6)
    check_gradient(onnx.ModelProto.FromString(data), x)
    load(tmp_path / "m.onnx")


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("op", ["Conv", "MaxPool", "AveragePool"])
def test_padding_of_strides_is_that_of_the_size_which_is_found(op: str, mode: str, tmp_path: Path) -> None:
    """ceil(12 / 5) windows, of which the last begins at 10 of 12 values and covers 7: five are padding."""
    given = {"auto_pad": mode, "dilations": [2], "strides": [5], "kernel_shape": [4]}
    node = N(op, ["x", "k"] if op == "Conv" else ["x"], ["c"], **given)
    model, x = small([node, *POOL], {"k": normal(3, 3, 4), "h": normal(3, 3)}, (3, 12), (3,), 19), normal(2, 3, 12)
    if op != "Conv":
        del model.graph.initializer[0]
    loaded = load(saved(model, tmp_path))
    node = next(n for n in onnx.ModelProto.FromString(loaded.to_bytes()).graph.node if n.op_type == op)
    pads = next(list(a.ints) for a in node.attribute if a.name == "pads")
    assert pads == ([2, 3] if mode == "SAME_UPPER" else [3, 2])
    np.testing.assert_allclose(run_ort(loaded.to_bytes(), x), loaded.graph.forward(x), rtol=1e-4, atol=1e-5)
    check_gradient(onnx.ModelProto.FromString(loaded.to_bytes()), x)
    assert any("standard" in n for n in loaded.graph.notes) == (op != "Conv")


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER"])
def test_padding_of_a_dilated_transposed_convolution_is_written_out(mode: str, tmp_path: Path) -> None:
    given = {"auto_pad": mode, "dilations": [2], "strides": [2], "kernel_shape": [4]}
    nodes = [N("ConvTranspose", ["x", "k"], ["c"], **given), *POOL]
    model, x = small(nodes, {"k": normal(3, 4, 4), "h": normal(4, 3)}, (3, 12), (3,)), normal(2, 3, 12)
    loaded = load(saved(model, tmp_path))
    np.testing.assert_allclose(run_ort(loaded.to_bytes(), x), loaded.graph.forward(x), rtol=1e-4, atol=1e-5)


def test_what_onnx_runtime_cannot_run_is_refused_by_node_and_reason(tmp_path: Path) -> None:
    """The padding depends on a size that is not known before the graph runs."""
    nodes = [
        N("Sqrt", ["squares"], ["roots"]),
        N("Cast", ["roots"], ["sizes"], to=TensorProto.INT64),
        N("Reshape", ["x", "sizes"], ["r"]),
        N("Conv", ["r", "k"], ["c"], name="conv", auto_pad="SAME_UPPER", dilations=[2], strides=[5], kernel_shape=[4]),
        *POOL,
    ]
    squares = np.array([0, 9, 144], np.float32)
    model = small(nodes, {"squares": squares, "k": normal(4, 3, 4), "h": normal(4, 3)}, (3, 12), (3,))
    with pytest.raises(ModelError) as refusal:
        load(saved(model, tmp_path))
    assert str(refusal.value) == (
        f"{tmp_path / 'm.onnx'}: ONNX Runtime, which serves the file, cannot run node 'conv' (Conv): Dilation not "
        "supported for AutoPadType::SAME_UPPER or AutoPadType::SAME_LOWER. Correct that node, or export the file again"
    )


RECURRENT = {
    "LSTM": (4, ["", "h0", "c0"], 2),
    "GRU": (3, ["", "h0"], 1),
    "RNN": (1, ["", "h0"], 1),
}


@pytest.mark.parametrize("op", RECURRENT)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_recurrent_layer_of_layout_1_is_turned_for_onnx_runtime(op: str, direction: str, tmp_path: Path) -> None:
    gates, states, ends = RECURRENT[op]
    ways = 2 if direction == "bidirectional" else 1
    outputs = ["o", "end", "cell"][: 1 + ends]
    nodes = [
        N(op, ["x", "w", "r", "b", *states], outputs, name="rnn", hidden_size=2, layout=1, direction=direction),
        N("Reshape", ["o", "rows"], ["a"]),
        N("Reshape", ["end", "rows"], ["e"]),
        N("Concat", ["a", "e"], ["both"], axis=1),
        N("Gemm", ["both", "h"], ["y"]),
    ]
    tensors = {
        "w": normal(ways, 2 * gates, 3), "r": normal(ways, 2 * gates, 2), "b": normal(ways, 4 * gates),
        "h": normal(ways * 2 * 13, 3), "rows": ints(0, -1),
    }  # fmt: skip
    for name in states[1:]:
        tensors |= {f"{name}.one": normal(1, ways, 2), f"{name}.none": np.zeros((1, 1, 2), np.float32)}
        nodes[:0] = [
            N("ReduceMean", ["x"], [f"{name}.m"], axes=[1, 2], keepdims=1),
            N("Mul", [f"{name}.m", f"{name}.one"], [name]),
        ]
    model, x = small(nodes, tensors, (12, 3), (3,)), normal(2, 12, 3)
    expected = graphs.load(model).forward(x).copy()  # NumPy knows both layouts
    with pytest.raises(Exception, match="layout"):
        run_ort(model.SerializeToString(), x)
    loaded = load(saved(model, tmp_path, msgspec.structs.replace(CARD, layout="time_first")))
    turned = x.transpose(0, 2, 1)
    found = run_ort(loaded.to_bytes(), turned)
    np.testing.assert_allclose(found, loaded.graph.forward(turned), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    check_gradient(onnx.ModelProto.FromString(loaded.to_bytes()), turned)


def typed(kind: int, nodes: list[onnx.NodeProto], tensors: dict[str, np.ndarray]) -> onnx.ModelProto:
    model = small(nodes, tensors, (3, 12), (3,))
    model.graph.input[0].type.tensor_type.elem_type = kind
    return model


FLATTEN = [N("Flatten", ["f"], ["g"]), N("Gemm", ["g", "w"], ["y"])]


@pytest.mark.parametrize("kind", [TensorProto.INT64, TensorProto.INT32, TensorProto.UINT8, TensorProto.BOOL])
def test_integers_that_become_floats_at_once_are_float32(kind: int, tmp_path: Path) -> None:
    model = typed(kind, [N("Cast", ["x"], ["f"], to=TensorProto.FLOAT), *FLATTEN], {"w": normal(36, 3)})
    loaded = load(saved(model, tmp_path))
    x = normal(2, 3, 12)
    np.testing.assert_allclose(run_ort(loaded.to_bytes(), x), loaded.graph.forward(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [TensorProto.INT64, TensorProto.INT32])
def test_integers_that_are_used_as_such_are_refused_by_name(kind: int, tmp_path: Path) -> None:
    model = typed(kind, [N("Gather", ["e", "x"], ["f"]), *FLATTEN], {"e": normal(9, 1), "w": normal(36, 3)})
    with pytest.raises(ModelError, match=r"input 'x' is int(64|32) and is read by Gather; a gateway gives float32"):
        read_model(saved(model, tmp_path))


def test_file_that_numpy_and_onnx_runtime_run_differently_is_refused(tmp_path: Path) -> None:
    """Held by handing over the graph of other weights: the two must give the same."""
    data = read_model(saved(conv(kernel_shape=[4]), tmp_path))
    graph = TrainableGraph.load(data)
    check_served(data, graph, "m.onnx")
    graph.params += np.float32(0.05)
    with pytest.raises(ModelError, match=r"m\.onnx: ONNX Runtime, .* and NumPy, .* differ"):
        check_served(data, graph, "m.onnx")


def test_graph_that_is_random_or_mixes_samples_is_refused(tmp_path: Path) -> None:
    nodes = [N("ReduceMean", ["x", "first"], ["m"]), N("Sub", ["x", "m"], ["f"]), *FLATTEN]
    model = small(nodes, {"first": ints(0), "w": normal(36, 3)}, (3, 12), (3,), opset=18)
    write_card(model, CARD)
    data = model.SerializeToString()
    with pytest.raises(ModelError, match="mixes the samples of a batch, or is random"):
        check_served(data, TrainableGraph.load(data), "m.onnx")
