# SPDX-License-Identifier: Apache-2.0
"""A loop's first step that PyTorch's exporter computed from a state of zeros is the parameter that it was made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from fedge_models.graph.card import Card, Channel, WindowSpec, write_card
from fedge_models.graph.intake import read_model
from fedge_models.graph.trainable import TrainableGraph
from support.graphs import N, normal, run_ort, small

SIGNATURE = "pkg.torch.export.ExportedProgram.graph_signature"
FOLDED = "pkg.onnxscript.optimizer.folded_from"
IN, TIME, HIDDEN = 2, 6, 5
CARD = Card("classify", (Channel("a"), Channel("b")), WindowSpec(1, TIME, 1), labels=("ok", "bad", "worse"))
WEIGHTS = {
    "i.weight": normal(HIDDEN, IN), "i.bias": normal(HIDDEN), "r.weight": 0.3 * normal(HIDDEN, HIDDEN),
    "r.bias": normal(HIDDEN), "h.weight": normal(3, HIDDEN), "h.bias": normal(3),
}  # fmt: skip


def loop(first: np.ndarray | None, made_of: list[str], name: str = "linear_1", op: str = "Add") -> onnx.ModelProto:
    """An Elman network, unrolled. first: what was stored of its first step; None: it is computed, from zeros."""
    tensors = dict(WEIGHTS) | {f"at{t}": np.array(t, np.int64) for t in range(TIME)}
    nodes = []
    if first is None:
        nodes.append(
            N("Constant", [], ["zeros"], value=onnx.numpy_helper.from_array(np.zeros((1, HIDDEN), np.float32)))
        )
        nodes.append(N("Gemm", ["zeros", "r.weight", "r.bias"], [name], transB=1))
    else:
        tensors[name] = first
    for t in range(TIME):
        nodes.append(N("Gather", ["x", f"at{t}"], [f"x{t}"], axis=2))
        nodes.append(N("Gemm", [f"x{t}", "i.weight", "i.bias"], [f"i{t}"], transB=1, name=f"i{t}"))
        if t:
            nodes.append(N("Gemm", [f"h{t - 1}", "r.weight", "r.bias"], [f"r{t}"], transB=1, name=f"r{t}"))
        nodes.append(N("Add" if t else op, [f"i{t}", f"r{t}" if t else name], [f"s{t}"]))
        nodes.append(N("Tanh", [f"s{t}"], [f"h{t}"]))
    nodes.append(N("Gemm", [f"h{TIME - 1}", "h.weight", "h.bias"], ["y"], transB=1))
    model = small(nodes, tensors, (IN, TIME), (3,))
    model.producer_name = "pytorch"
    lines = [f"p_{n.replace('.', '_')}: PARAMETER target='{n}'" for n in (*WEIGHTS, "state")]
    model.graph.metadata_props.add(key=SIGNATURE, value="\n# inputs\n" + "\n".join([*lines, "x: USER_INPUT\n"]))
    model.graph.value_info.add(name=name).metadata_props.add(key=FOLDED, value=repr(made_of))
    write_card(model, CARD)
    return model


def taken(model: onnx.ModelProto, folder: Path) -> bytes:
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    data = read_model(folder / "m.onnx")
    (folder / "again.onnx").write_bytes(data)
    assert read_model(folder / "again.onnx") == data  # both ends hash it
    trained = {t.name for t in TrainableGraph.load(data).layout}
    assert {t.name for t in TrainableGraph.load(read_model(folder / "again.onnx", CARD)).layout} == trained
    return data


LINEAR = ["r.bias", "r.weight", "val_0", "zeros"]


@pytest.mark.parametrize("shape", [(1, HIDDEN), (HIDDEN,)])
def test_first_step_is_the_bias_again(shape: tuple[int, ...], tmp_path: Path) -> None:
    model = loop(WEIGHTS["r.bias"].reshape(shape), LINEAR)
    data, x, dy = taken(model, tmp_path), normal(4, IN, TIME), normal(4, 3)
    graph = TrainableGraph.load(data)
    assert {t.name for t in graph.layout} == {*WEIGHTS} and graph.card.constants == ()
    assert any(n.startswith("first step: r.bias: ") for n in graph.notes)
    assert not any("computed by the exporter" in n or n.startswith("untied: ") for n in graph.notes)
    np.testing.assert_allclose(run_ort(data, x), run_ort(model.SerializeToString(), x), rtol=1e-5, atol=1e-6)
    whole = TrainableGraph.load(loop(None, LINEAR).SerializeToString())
    for each in (graph, whole):
        each.forward(x)
        each.backward(dy)
    expected = {t.name: t.of(whole.grad) for t in whole.layout}
    for t in graph.layout:
        np.testing.assert_allclose(t.of(graph.grad), expected[t.name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("made_of", [LINEAR, ["A", "exp", "r.weight", "zeros_like_2"]])
@pytest.mark.parametrize("name", ["linear_1", "mul"])
def test_product_with_zeros_is_no_parameter(name: str, made_of: list[str], tmp_path: Path) -> None:
    graph = TrainableGraph.load(taken(loop(np.zeros((1, HIDDEN), np.float32), made_of, name), tmp_path))
    assert {t.name for t in graph.layout} == {*WEIGHTS} and len(graph.card.constants) == 1
    assert any("a product with a state of zeros" in n for n in graph.notes)


@pytest.mark.parametrize(
    ("name", "made_of", "value"),
    [
        ("add", ["state", "zeros"], 0.0),  # a state that is learnt, and still zero
        ("mul", ["r.weight", "val_0"], 0.0),  # a factor that is zero is no state
        ("linear_1", ["r.weight", "zeros"], 0.5),
        ("cat", ["state", "zeros"], 0.0),  # only laid out
    ],
)
def test_other_function_of_a_parameter_trains(name: str, made_of: list[str], value: float, tmp_path: Path) -> None:
    graph = TrainableGraph.load(taken(loop(np.full((1, HIDDEN), value, np.float32), made_of, name), tmp_path))
    assert len({t.name for t in graph.layout} - {*WEIGHTS}) == 1 and graph.card.constants == ()


def test_bias_of_zeros_is_the_first_step_again(tmp_path: Path) -> None:
    model = loop(np.zeros((1, HIDDEN), np.float32), LINEAR)
    (bias,) = [t for t in model.graph.initializer if t.name == "r.bias"]
    bias.CopyFrom(onnx.numpy_helper.from_array(np.zeros(HIDDEN, np.float32), "r.bias"))
    graph = TrainableGraph.load(taken(model, tmp_path))
    assert {t.name for t in graph.layout} == {*WEIGHTS}
    assert any(n.startswith("first step: r.bias: ") for n in graph.notes)


def test_trained_file_gives_what_it_was_trained_to(tmp_path: Path) -> None:
    """A gateway decides with other weights than the file first had: both readers follow."""
    data, x = taken(loop(WEIGHTS["r.bias"].reshape(1, HIDDEN), LINEAR), tmp_path), normal(4, IN, TIME)
    graph = TrainableGraph.load(data)
    graph.params += 0.3 * normal(graph.params.size)
    model = onnx.ModelProto.FromString(data)
    for tensor in model.graph.initializer:
        if tensor.name in WEIGHTS:
            tensor.CopyFrom(onnx.numpy_helper.from_array(graph.initializers(graph.params)[tensor.name], tensor.name))
    np.testing.assert_allclose(run_ort(model.SerializeToString(), x), graph.forward(x), rtol=1e-4, atol=1e-5)
