# SPDX-License-Identifier: Apache-2.0
"""What ONNX Runtime cannot serve, or serves otherwise than NumPy trains it, is refused before anything is trained."""

from __future__ import annotations

from pathlib import Path

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
from support.graphs import N, check_gradient, ints, normal, run_ort, small

CARD = Card("classify", tuple(Channel(c) for c in "abc"), WindowSpec(1, 12, 1), labels=("x", "y", "z"))
POOL = [N("ReduceMean", ["c"], ["m"], axes=[2], keepdims=0), N("Gemm", ["m", "h"], ["y"])]


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


def test_what_onnx_runtime_cannot_run_is_refused_by_its_words(tmp_path: Path) -> None:
    model = conv(auto_pad="SAME_UPPER", dilations=[2], strides=[2], kernel_shape=[4])
    TrainableGraph.load(read_model(saved(model, tmp_path))).probe()  # NumPy can
    with pytest.raises(ModelError, match=r"ONNX Runtime, which serves it, cannot .*Dilation not supported"):
        load(tmp_path / "m.onnx")


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
