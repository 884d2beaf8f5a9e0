# SPDX-License-Identifier: Apache-2.0
"""Quantised networks, as ONNX Runtime's quantiser writes them, are trained as the float networks they stand for."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from fedge_models.errors import ModelError
from fedge_models.graph.card import Card, Channel, WindowSpec, write_card
from fedge_models.graph.intake import read_model
from fedge_models.graph.trainable import TrainableGraph
from onnx import TensorProto, helper, numpy_helper
from support.graphs import RAW, N, check_gradient, normal, run_ort, small

BODY = ["conv.bias", "conv.weight", "deep.bias", "deep.weight", "head.bias", "head.weight"]


def network() -> onnx.ModelProto:
    """With a Relu and a Clip that a quantiser leaves out, and residual and pooled parts."""
    nodes = [
        N("Conv", ["x", "conv.weight", "conv.bias"], ["c"], name="conv", pads=[1, 1]),
        N("Relu", ["c"], ["r"], name="relu"),
        N("Conv", ["r", "deep.weight", "deep.bias"], ["d"], name="deep", pads=[1, 1]),
        N("Clip", ["d", "zero", "six"], ["k"], name="relu6"),
        N("Add", ["r", "k"], ["s"], name="add"),
        N("GlobalAveragePool", ["s"], ["p"], name="pool"),
        N("Flatten", ["p"], ["f"], name="flat"),
        N("Gemm", ["f", "head.weight", "head.bias"], ["y"], name="head", transB=1),
    ]
    tensors = {
        "conv.weight": normal(4, 2, 3), "conv.bias": normal(4), "deep.weight": normal(4, 4, 3), "deep.bias": normal(4),
        "head.weight": normal(3, 4), "head.bias": normal(3),
        "zero": np.array(0, np.float32), "six": np.array(6, np.float32),
    }  # fmt: skip
    return small(nodes, tensors, (2, 24), (3,))


class Reader:
    """Gives the quantiser what it calibrates with."""

    def __init__(self) -> None:
        self._samples: Iterator[dict[str, np.ndarray]] = iter([{"x": normal(4, 2, 24)} for _ in range(25)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._samples, None)


def quantised(how: str, folder: Path) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """The float network, and how ONNX Runtime quantises it."""
    from onnxruntime import quantization as q

    logging.getLogger().setLevel(logging.ERROR)
    whole, path = network(), folder / "quantised.onnx"
    onnx.save(whole, folder / "float.onnx")
    form = q.QuantFormat.QOperator if how == "QOperator" else q.QuantFormat.QDQ
    per_channel = how.endswith("per channel")
    if how.startswith("dynamic"):
        q.quantize_dynamic(folder / "float.onnx", path, per_channel=per_channel, extra_options={"DefaultTensorType": 1})
    else:
        q.quantize_static(
            folder / "float.onnx", path, Reader(), quant_format=form, per_channel=per_channel,
            activation_type=q.QuantType.QUInt8 if how == "QDQ unsigned" else q.QuantType.QInt8,
        )  # fmt: skip
    return whole, onnx.load(path)


ROWS = Card("regress", tuple(Channel(c) for c in "abcd"), WindowSpec(1, 1, 1), features=("mean",))


def taken(model: onnx.ModelProto, folder: Path, trainable: str | None = None, channels: int = 0) -> bytes:
    """Take a file in: with `channels`, of rows that are estimated, else of windows that are classified."""
    write_card(model, msgspec.structs.replace(ROWS, channels=ROWS.channels[:channels]) if channels else RAW)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    data = read_model(folder / "m.onnx", trainable=trainable)
    (folder / "again.onnx").write_bytes(data)
    assert read_model(folder / "again.onnx") == data  # both ends hash it
    return data


FORMS = ["QDQ", "QDQ per channel", "QDQ unsigned", "QOperator", "dynamic", "dynamic per channel"]


@pytest.mark.parametrize("how", FORMS)
def test_quantised_network_becomes_the_float_one_and_trains(how: str, tmp_path: Path) -> None:
    whole, model = quantised(how, tmp_path)
    x = normal(8, 2, 24)
    expected = run_ort(whole.SerializeToString(), x)
    data = taken(model, tmp_path)
    served, size = run_ort(data, x), np.abs(expected).max()
    np.testing.assert_allclose(served, expected, atol=0.03 * size)  # what eight bits of the weights leave
    graph = TrainableGraph.load(data)
    np.testing.assert_allclose(graph.forward(x), served, atol=1e-4)
    names = [t.name.removesuffix("_Transposed") for t in graph.layout]  # the quantiser turns the last one round
    assert sorted(names) == BODY
    assert graph.trunk is None
    assert any(n.startswith("dequantised: ") for n in graph.notes)
    check_gradient(onnx.ModelProto.FromString(data), x)


def test_relu_that_the_quantiser_left_out_is_still_there(tmp_path: Path) -> None:
    """With a first layer that gives nothing above zero, only the second bias is left."""
    model = quantised("QDQ", tmp_path)[1]
    assert "Relu" not in [n.op_type for n in model.graph.node]
    data = taken(model, tmp_path)
    whole = onnx.ModelProto.FromString(data)
    for tensor in whole.graph.initializer:
        if tensor.name == "conv.bias":
            tensor.CopyFrom(numpy_helper.from_array(np.full(4, -1000, np.float32), tensor.name))
    x = normal(4, 2, 24)
    given = run_ort(whole.SerializeToString(), x)
    np.testing.assert_allclose(given, np.repeat(given[:1], 4, axis=0), atol=1e-5)


def test_bounds_of_the_quantised_output_are_no_limit(tmp_path: Path) -> None:
    """Logits must be able to grow while they are trained."""
    data = taken(quantised("QDQ", tmp_path)[1], tmp_path)
    whole = onnx.ModelProto.FromString(data)
    for tensor in whole.graph.initializer:
        if tensor.name == "head.bias":
            tensor.CopyFrom(numpy_helper.from_array(np.full(3, 1000, np.float32), tensor.name))
    assert (run_ort(whole.SerializeToString(), normal(4, 2, 24)) > 900).all()


def with_new_head(model: onnx.ModelProto) -> onnx.ModelProto:
    model.graph.node.extend([N("MatMul", ["y", "new.weight"], ["z"], name="new")])
    model.graph.initializer.append(numpy_helper.from_array(normal(3, 3), "new.weight"))
    model.graph.output[0].name = "z"
    return model


def test_quantised_trunk_may_stay_as_it_is(tmp_path: Path) -> None:
    data, x = taken(with_new_head(quantised("QDQ", tmp_path)[1]), tmp_path, "new.*"), normal(5, 2, 24)
    graph = TrainableGraph.load(data)
    assert graph.trunk is not None and "QuantizeLinear" in graph.trunk.operators
    assert [t.name for t in graph.layout] == ["new.weight"]
    np.testing.assert_allclose(graph.forward(x), run_ort(data, x), atol=1e-4)


def test_trunk_of_dynamic_quantisation_becomes_float(tmp_path: Path) -> None:
    """Its ranges are those of a batch: a sample would give something else alone than among others."""
    data, x = taken(with_new_head(quantised("dynamic", tmp_path)[1]), tmp_path, "new.*"), normal(5, 2, 24)
    graph = TrainableGraph.load(data)
    assert graph.trunk is not None and "DynamicQuantizeLinear" not in graph.trunk.operators
    np.testing.assert_allclose(np.concatenate([run_ort(data, row[None]) for row in x]), graph.forward(x), atol=1e-4)


def operators(*nodes: onnx.NodeProto, **tensors: Any) -> onnx.ModelProto:
    """A graph between quantised values of one scale."""
    scale = {"s": np.array(0.02, np.float32), "z": np.array(3, np.int8), **tensors}
    front, back = N("QuantizeLinear", ["x", "s", "z"], ["q"]), N("DequantizeLinear", ["r", "s", "z"], ["y"])
    made = small([front, *nodes, back], scale, (3,), (3,))
    made.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return made


WEIGHT = np.array([[40, -20, 7], [1, 90, -64], [0, 33, 127]], np.int8)
Q: dict[str, Any] = {"w": WEIGHT, "ws": np.array(0.01, np.float32), "wz": np.array(0, np.int8)}
CASES: dict[str, list[onnx.NodeProto]] = {
    "QLinearMatMul": [],
    "QLinearAdd": [N("QLinearAdd", ["m", "s", "z", "q", "s", "z", "s", "z"], ["r"], domain="com.microsoft")],
    "QLinearMul": [N("QLinearMul", ["m", "s", "z", "q", "s", "z", "s", "z"], ["r"], domain="com.microsoft")],
    "QLinearSigmoid": [N("QLinearSigmoid", ["m", "s", "z", "s", "z"], ["r"], domain="com.microsoft")],
    "QLinearSoftmax": [N("QLinearSoftmax", ["m", "s", "z", "s", "z"], ["r"], domain="com.microsoft", axis=1, opset=13)],
    "QLinearLeakyRelu": [N("QLinearLeakyRelu", ["m", "s", "z", "s", "z"], ["r"], domain="com.microsoft", alpha=0.3)],
    "QLinearConcat": [
        N("QLinearConcat", ["s", "z", "m", "s", "z"], ["r"], domain="com.microsoft", axis=1),
    ],
}


@pytest.mark.parametrize("how", CASES)
def test_operators_on_quantised_values(how: str, tmp_path: Path) -> None:
    last = CASES[how]
    product = N("QLinearMatMul", ["q", "s", "z", "w", "ws", "wz", "s", "z"], ["m" if last else "r"])
    model, x = operators(product, *last, **Q), np.clip(normal(8, 3), -1, 1) / 2
    expected = run_ort(model.SerializeToString(), x)
    data = taken(model, tmp_path, channels=3)
    np.testing.assert_allclose(run_ort(data, x), expected, atol=0.08)  # four steps of 0.02
    assert [t.name for t in TrainableGraph.load(data).layout] == ["w"]


def test_blocks_of_weights_with_a_scale_each(tmp_path: Path) -> None:
    scales = np.array([[0.1, 0.2, 0.3], [1.0, 2.0, 3.0]], np.float32)
    nodes = [N("DequantizeLinear", ["w", "s"], ["f"], axis=0, block_size=2), N("MatMul", ["x", "f"], ["y"])]
    model = small(nodes, {"w": np.arange(12, dtype=np.int8).reshape(4, 3), "s": scales}, (4,), (3,), opset=21)
    model.ir_version, x = 10, normal(5, 4)
    expected = run_ort(model.SerializeToString(), x)
    np.testing.assert_allclose(run_ort(taken(model, tmp_path, channels=4), x), expected, atol=1e-4)


def test_weights_that_are_computed_are_refused(tmp_path: Path) -> None:
    nodes = [
        N("DynamicQuantizeLinear", ["x"], ["q", "qs", "qz"]),
        N("MatMulInteger", ["q", "w", "qz"], ["m"]),
        N("Cast", ["m"], ["y"], to=TensorProto.FLOAT),
    ]
    with pytest.raises(ModelError, match=r"\(MatMulInteger\): a quantised form that is not understood"):
        taken(small(nodes, {"w": WEIGHT}, (3,), (3,)), tmp_path, channels=3)


def test_weight_that_the_quantiser_took_for_a_value_has_no_bounds(tmp_path: Path) -> None:
    """As it does where an exporter shares a weight by Identity: at its bounds, it could not be trained."""
    nodes = [
        N("DequantizeLinear", ["w", "ws", "wz"], ["f"]),
        N("Identity", ["f"], ["again"]),
        N("QuantizeLinear", ["again", "ws", "wz"], ["g"]),
        N("DequantizeLinear", ["g", "ws", "wz"], ["h"]),
        N("MatMul", ["x", "h"], ["y"]),
    ]
    data = taken(small(nodes, Q, (3,), (3,)), tmp_path, channels=3)
    graph, x = TrainableGraph.load(data), normal(5, 3)
    assert graph.operators == ("MatMul",) and [t.name for t in graph.layout] == ["w"]
    np.testing.assert_allclose(run_ort(data, x), x @ (WEIGHT * np.float32(0.01)), rtol=1e-5)


def aware(form: str) -> onnx.ModelProto:
    """A layer as quantisation-aware training leaves it: float weights, rounded while it runs, and values, too."""
    scale, zero = np.array(0.02, np.float32), np.array(0, np.int8)
    tensors = {"fc.weight": normal(3, 4) / 2, "fc.bias": normal(3), "s": scale, "sz": zero, "ws": scale, "wz": zero}
    front = [N("QuantizeLinear", ["x", "s", "sz"], ["xq"]), N("DequantizeLinear", ["xq", "s", "sz"], ["xd"])]
    weight, axis, turned = "fc.weight", 0, 1
    if form != "per tensor":
        tensors |= {"ws": np.array([0.02, 0.01, 0.03], np.float32), "wz": np.zeros(3, np.int8)}
    if form == "with the factors of a BatchNormalization":
        tensors["factors"] = np.array([[0.5], [1.0], [2.0]], np.float32)
        front.append(N("Mul", ["fc.weight", "factors"], ["scaled"]))
        weight = "scaled"
    if form == "turned":
        front.append(N("Transpose", ["fc.weight"], ["laid"], perm=[1, 0]))
        weight, axis, turned = "laid", 1, 0
    pair = [
        N("QuantizeLinear", [weight, "ws", "wz"], ["q"], axis=axis),
        N("DequantizeLinear", ["q", "ws", "wz"], ["f"], axis=axis),
    ]
    return small([*front, *pair, N("Gemm", ["xd", "f", "fc.bias"], ["y"], transB=turned)], tensors, (4,), (3,))


AWARE = ["per tensor", "per channel", "with the factors of a BatchNormalization", "turned"]


@pytest.mark.parametrize("form", AWARE)
@pytest.mark.parametrize("trainable", [None, "fc.weight"])
def test_float_weights_of_quantisation_aware_training_train(form: str, trainable: str | None, tmp_path: Path) -> None:
    model, x = aware(form), np.clip(normal(6, 4), -2, 2)
    expected = run_ort(model.SerializeToString(), x)
    data = taken(model, tmp_path, trainable, channels=4)
    graph = TrainableGraph.load(data)
    np.testing.assert_allclose(graph.forward(x), expected, atol=0.3)  # four products, rounded to 0.02 and 0.03
    assert {t.name for t in graph.layout} >= {"fc.weight"} and "fc.bias" not in {trainable, *graph.card.constants}
    assert "QuantizeLinear" not in graph.operators and graph.trunk is None
    assert any("rounded" in n and n.startswith("dequantised: ") for n in graph.notes)
    check_gradient(onnx.ModelProto.FromString(data), x)


def test_float_weight_beyond_its_range_is_what_the_file_made_of_it(tmp_path: Path) -> None:
    model, x = aware("per tensor"), np.clip(normal(6, 4), -2, 2)
    large = np.full((3, 4), 9, np.float32)  # 127 steps of 0.02 are 2.54
    next(t for t in model.graph.initializer if t.name == "fc.weight").CopyFrom(
        numpy_helper.from_array(large, "fc.weight")
    )
    expected = run_ort(model.SerializeToString(), x)
    graph = TrainableGraph.load(taken(model, tmp_path, channels=4))
    np.testing.assert_allclose(graph.forward(x), expected, atol=0.11)  # the values are not rounded any more
    np.testing.assert_allclose(graph.initializers(graph.params)["fc.weight"], 2.54, rtol=1e-5)


def test_float_layer_behind_a_quantised_trunk_leaves_it_as_it_is(tmp_path: Path) -> None:
    data = taken(with_new_head(aware("per channel")), tmp_path, "new.*", channels=4)
    graph = TrainableGraph.load(data)
    assert graph.trunk is not None and "QuantizeLinear" in graph.trunk.operators


def test_weight_may_be_chosen_by_the_name_that_its_layer_has_for_it(tmp_path: Path) -> None:
    """As `show` prints it; the quantiser stores the exporter's own name."""
    tensors: dict[str, Any] = {"onnx::MatMul_7_quantized": WEIGHT, "ws": Q["ws"], "wz": Q["wz"], "head.bias": normal(3)}
    nodes = [
        N("DequantizeLinear", ["onnx::MatMul_7_quantized", "ws", "wz"], ["f"]),
        N("MatMul", ["x", "f"], ["m"], name="/head/MatMul"),
        N("Add", ["head.bias", "m"], ["y"], name="/head/Add"),
    ]
    model = small(nodes, tensors, (3,), (3,))
    graph = TrainableGraph.load(taken(model, tmp_path, "head.weight", channels=3))
    assert [t.name for t in graph.layout] == ["head.weight"]


@pytest.mark.parametrize("task", ["classify", "regress"])
def test_lowest_value_of_zero_is_no_bound_of_logits(task: str, tmp_path: Path) -> None:
    """A regressor may end in a Relu that the quantiser left out; logits were above zero in its samples."""
    zero: dict[str, Any] = {
        "low": np.array(-128, np.int8),
        "as": np.array(0.01, np.float32),
        "at": np.array(0, np.int8),
    }
    nodes = [
        N("DequantizeLinear", ["w", "ws", "wz"], ["f"]),
        N("MatMul", ["x", "f"], ["m"]),
        N("QuantizeLinear", ["m", "as", "low"], ["q"]),
        N("DequantizeLinear", ["q", "as", "low"], ["y"]),
    ]
    model = small(nodes, {**Q, **zero}, (3,), (3,))
    card = msgspec.structs.replace(ROWS, channels=ROWS.channels[:3])
    labels = ("a", "b", "c") if task == "classify" else ()
    write_card(model, msgspec.structs.replace(card, task=task, labels=labels))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    graph = TrainableGraph.load(read_model(tmp_path / "m.onnx"))
    assert ("Clip" in graph.operators) == (task == "regress")
    assert not any("ends in Clip" in n for n in graph.notes)


def test_bounds_of_fewer_bits_between_the_pair_are_those_of_the_values(tmp_path: Path) -> None:
    """As Brevitas writes weights and values of four bits: they are bytes, and clipped."""
    bounds = {"low": np.array(-8, np.int8), "high": np.array(7, np.int8), "s": np.array(0.1, np.float32)}
    nodes = [node for name in ("x", "w") for node in (
        N("QuantizeLinear", [name, "s", "z"], [f"{name}q"]),
        N("Clip", [f"{name}q", "low", "high"], [f"{name}c"]),
        N("DequantizeLinear", [f"{name}c", "s", "z"], [f"{name}d"]),
    )]  # fmt: skip
    tensors = {"w": np.clip(normal(3, 3), -0.8, 0.7), "z": np.array(0, np.int8), **bounds}
    model, x = small([*nodes, N("MatMul", ["xd", "wd"], ["y"])], tensors, (3,), (3,)), 2 * normal(6, 3)
    expected = run_ort(model.SerializeToString(), x)
    data = taken(model, tmp_path, channels=3)
    graph = TrainableGraph.load(data)
    np.testing.assert_allclose(graph.forward(x), expected, atol=0.3)  # three products, rounded to 0.1
    assert [t.name for t in graph.layout] == ["w"]
    check_gradient(onnx.ModelProto.FromString(data), x)


@pytest.mark.parametrize("kind", [TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E5M2])
def test_floats_of_eight_bits_become_those_of_32(kind: int, tmp_path: Path) -> None:
    nodes = [node for name in ("x", "w") for node in (
        N("QuantizeLinear", [name, "s", "z"], [f"{name}q"]), N("DequantizeLinear", [f"{name}q", "s", "z"], [f"{name}d"])
    )]  # fmt: skip
    tensors = {"w": normal(3, 3), "s": np.array(0.01, np.float32)}
    model, x = small([*nodes, N("MatMul", ["xd", "wd"], ["y"])], tensors, (3,), (3,), opset=19), normal(6, 3)
    model.graph.initializer.append(helper.make_tensor("z", kind, [], [0.0]))
    model.ir_version = 9
    expected = run_ort(model.SerializeToString(), x)
    graph = TrainableGraph.load(taken(model, tmp_path, channels=3))
    np.testing.assert_allclose(graph.forward(x), expected, atol=0.2 * np.abs(expected).max())  # two bits of fraction
    assert [t.name for t in graph.layout] == ["w"]
