# SPDX-License-Identifier: Apache-2.0
"""A file that was taken in, given again with a card, keeps what is no parameter; and odd files that are sound."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from fedge_models.errors import ModelError
from fedge_models.graph.card import Card, Channel, WindowSpec, write_card
from fedge_models.graph.intake import read_model
from fedge_models.graph.trainable import TrainableGraph
from onnx import external_data_helper, helper
from support.graphs import N, normal, run_ort, small

CARD = Card("regress", tuple(Channel(c) for c in "abcd"), WindowSpec(1, 1, 1))
BUFFER = "pkg.torch.export.ExportedProgram.graph_signature"


def trained(data: bytes) -> set[str]:
    return {t.name for t in TrainableGraph.load(data).layout}


def saved(model: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def test_what_is_no_parameter_stays_none_under_another_card(tmp_path: Path) -> None:
    """The exporter's word of a buffer is on the card of the first taking in, and nowhere else."""
    nodes = [N("MatMul", ["x", "w"], ["h"]), N("Mul", ["h", "grid"], ["g"]), N("MatMul", ["g", "v"], ["y"])]
    model = small(nodes, {"w": normal(4, 5), "grid": normal(5), "v": normal(5, 1)}, (4,), (1,))
    entry = model.graph.metadata_props.add(key=BUFFER)
    entry.value = "a: BUFFER target='grid'\nb: PARAMETER target='w'\nc: PARAMETER target='v'"
    write_card(model, CARD)
    first = read_model(saved(model, tmp_path / "m.onnx"), CARD)
    assert trained(first) == {"w", "v"}
    without = onnx.ModelProto.FromString(first)
    del without.graph.metadata_props[:]
    path = saved(without, tmp_path / "again.onnx")
    assert trained(read_model(path, CARD)) == trained(read_model(path)) == {"w", "v"}
    assert trained(read_model(path, CARD, "*,grid")) == {"w", "grid", "v"}


@pytest.mark.parametrize("shape", [(), (5,), (1, 5)])
def test_nothing_but_nan_in_a_branch_that_is_not_taken_is_no_hindrance(shape: tuple[int, ...], tmp_path: Path) -> None:
    """As JAX writes its variance."""
    nodes = [
        N("MatMul", ["x", "w"], ["h"]), N("Where", ["yes", "h", "none"], ["g"]), N("MatMul", ["g", "v"], ["y"]),
    ]  # fmt: skip
    nan = np.full(shape, np.nan, np.float32)
    tensors = {"w": normal(4, 5), "v": normal(5, 1), "yes": np.array([True]), "none": nan}
    model = small(nodes, tensors, (4,), (1,))
    write_card(model, CARD)
    data, x = read_model(saved(model, tmp_path / "m.onnx")), normal(3, 4)
    assert trained(data) == {"w", "v"}
    graph = TrainableGraph.load(data)
    np.testing.assert_allclose(graph.forward(x), run_ort(data, x), rtol=1e-5, atol=1e-6)
    graph.backward(np.ones((3, 1), np.float32))
    assert np.isfinite(graph.grad).all() and graph.grad.any()


def test_some_nan_among_numbers_are_damage(tmp_path: Path) -> None:
    w = normal(4, 5)
    w[1, 1] = np.nan
    model = small(
        [N("MatMul", ["x", "w"], ["h"]), N("MatMul", ["h", "v"], ["y"])], {"w": w, "v": normal(5, 1)}, (4,), (1,)
    )
    write_card(model, CARD)
    with pytest.raises(ModelError, match="'w' has a value that is not finite"):
        TrainableGraph.load(read_model(saved(model, tmp_path / "m.onnx")), "v")


def test_data_in_a_folder_inside_the_models_own_is_read(tmp_path: Path) -> None:
    model = small([N("MatMul", ["x", "w"], ["y"])], {"w": normal(4, 1)}, (4,), (1,))
    write_card(model, CARD)
    x = normal(3, 4)
    expected = run_ort(model.SerializeToString(), x)
    (tmp_path / "data").mkdir()
    external_data_helper.convert_model_to_external_data(model, location="data/w.bin", size_threshold=0)
    onnx.save(model, tmp_path / "m.onnx")
    np.testing.assert_allclose(run_ort(read_model(tmp_path / "m.onnx"), x), expected, rtol=1e-6)


def test_input_without_a_shape_that_a_gemm_reads_is_of_rows(tmp_path: Path) -> None:
    nodes = [N("Gemm", ["x", "w", "b"], ["h"]), N("Gemm", ["h", "v"], ["y"])]
    model = small(nodes, {"w": normal(4, 5), "b": normal(5), "v": normal(5, 1)}, (4,), (1,))
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.ClearField("shape")
    write_card(model, CARD)
    data = read_model(saved(model, tmp_path / "m.onnx"))
    assert TrainableGraph.load(data).input_shape == (4,)
    assert read_model(saved(onnx.ModelProto.FromString(data), tmp_path / "again.onnx")) == data


@pytest.mark.parametrize("several", [False, True])
def test_list_that_is_an_output_is_taken_as_its_values(several: bool, tmp_path: Path) -> None:
    listed = ["h", "y"] if several else ["y"]
    nodes = [N("MatMul", ["x", "w"], ["h"]), N("MatMul", ["h", "v"], ["y"]), N("SequenceConstruct", listed, ["all"])]
    model = small(nodes, {"w": normal(4, 5), "v": normal(5, 1)}, (4,), (1,))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_sequence_value_info("all", onnx.TensorProto.FLOAT, None))
    write_card(model, CARD)
    path = saved(model, tmp_path / "m.onnx")
    if several:
        with pytest.raises(ModelError, match=r"has 2 outputs: h .*, y .*Choose one"):
            read_model(path)
        write_card(model, msgspec.structs.replace(CARD, output="y"))
        saved(model, path)
    data, x = read_model(path), normal(3, 4)
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    np.testing.assert_allclose(run_ort(data, x), x @ weights["w"] @ weights["v"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "found"), [("onnx::Sub_114", True), ("offset", False)])
def test_running_mean_of_a_written_out_batch_norm_is_no_parameter(name: str, found: bool, tmp_path: Path) -> None:
    """As Keras over PyTorch is exported; what PyTorch calls by a name is the user's own."""
    nodes = [
        N("MatMul", ["x", "w"], ["h"]), N("Sub", ["h", name], ["c"]), N("Mul", ["c", "onnx::Mul_1"], ["f"]),
        N("Add", ["f", "onnx::Add_2"], ["g"]), N("Relu", ["g"], ["r"]), N("MatMul", ["r", "v"], ["y"]),
    ]  # fmt: skip
    rows = {n: normal(1, 5) for n in (name, "onnx::Mul_1", "onnx::Add_2")}
    model = small(nodes, {"w": normal(4, 5), "v": normal(5, 1), **rows}, (4,), (1,))
    model.producer_name = "pytorch"
    write_card(model, CARD)
    data = read_model(saved(model, tmp_path / "m.onnx"))
    assert (name in trained(data)) == (not found) and len(trained(data)) == 5 - found
    assert (
        any("running mean of a BatchNormalization that is written out" in n for n in TrainableGraph.load(data).notes)
        == found
    )


def test_weight_of_a_layer_that_begins_as_smooth_filters_trains(tmp_path: Path) -> None:
    """A learnt front end whose kernels are Gaussians at first."""
    t = np.arange(7) - 3
    kernels = np.stack([np.exp(-(t**2) / (2 * s**2)) for s in (0.5, 1, 2, 3)]).astype(np.float32)[:, None]
    nodes = [
        N("Conv", ["x", "front.weight"], ["c"]), N("ReduceMean", ["c"], ["m"], axes=[2], keepdims=0),
        N("MatMul", ["m", "v"], ["y"]),
    ]  # fmt: skip
    model = small(nodes, {"front.weight": kernels, "v": normal(4, 1)}, (1, 12), (1,))
    write_card(model, Card("regress", (Channel("a"),), WindowSpec(1, 12, 1)))
    assert "front.weight" in trained(read_model(saved(model, tmp_path / "m.onnx")))


def layers_of_pytorch() -> onnx.ModelProto:
    """Two layers, whose weights the exporter numbered: taken in, they are body.weight and head.weight."""
    nodes = [
        N("MatMul", ["x", "onnx::MatMul_12"], ["m"], name="/body/MatMul"),
        N("Add", ["m", "body.bias"], ["a"], name="/body/Add"),
        N("Tanh", ["a"], ["t"]),
        N("MatMul", ["t", "onnx::MatMul_13"], ["n"], name="/head/MatMul"),
        N("Add", ["n", "head.bias"], ["y"], name="/head/Add"),
    ]
    tensors = {"onnx::MatMul_12": normal(4, 5), "body.bias": normal(5), "onnx::MatMul_13": normal(5, 1)}
    model = small(nodes, tensors | {"head.bias": normal(1)}, (4,), (1,))
    model.producer_name = "pytorch"
    del model.metadata_props[:]  # no card yet
    return model


@pytest.mark.parametrize(
    ("key", "given", "found"),
    [
        ("local", "onnx::MatMul_13", "head.weight"),
        ("local", "onnx::*", "body.weight,head.weight"),
        ("local", "head.bias,onnx::MatMul_13", "head.bias,head.weight"),
        ("trainable", "onnx::MatMul_13", "head.weight"),
        ("trainable", "*.bias,onnx::MatMul_13", "*.bias,head.weight"),
        ("shared", ("onnx::MatMul_13",), ("head.weight",)),
    ],
)
def test_card_with_names_of_the_exporter_means_the_same_in_the_file_that_was_taken_in(
    key: str, given: str | tuple[str, ...], found: str | tuple[str, ...], tmp_path: Path
) -> None:
    """Else what stays at a site would match nothing the second time, and be sent."""
    card = msgspec.structs.replace(CARD, **{key: given})
    first = read_model(saved(layers_of_pytorch(), tmp_path / "m.onnx"), card)
    again = read_model(saved(onnx.ModelProto.FromString(first), tmp_path / "again.onnx"), card)
    for data in (first, again):
        assert getattr(TrainableGraph.load(data).card, key) == found
    assert trained(again) == trained(first)
    assert not any(n.startswith("card: ") for n in TrainableGraph.load(again).notes)


def test_name_that_a_tensor_has_now_means_that_one(tmp_path: Path) -> None:
    """Earlier names of others, or a damaged list of them, change nothing."""
    first = onnx.ModelProto.FromString(read_model(saved(layers_of_pytorch(), tmp_path / "m.onnx"), CARD))
    for text in ('{"head.bias":"body.bias"}', '{"head.bias":3}', "["):
        next(e for e in first.metadata_props if e.key == "fedge.names").value = text
        data = read_model(saved(first, tmp_path / "again.onnx"), msgspec.structs.replace(CARD, trainable="head.bias"))
        assert trained(data) == {"head.bias"}


@pytest.mark.parametrize("producer", ["", "skl2onnx"])
def test_scaler_of_the_file_is_still_one_when_the_card_is_given_again(producer: str, tmp_path: Path) -> None:
    """Else each site would standardise what the file scales, or a note would say that nothing does."""
    nodes = [
        N("Sub", ["x", "mean"], ["c"]), N("Div", ["c", "std"], ["s"]), N("MatMul", ["s", "coef"], ["m"]),
        N("Add", ["m", "intercept"], ["y"]),
    ]  # fmt: skip
    tensors = {"mean": 50 + normal(4), "std": 1 + normal(4) ** 2, "coef": normal(4, 1), "intercept": normal(1)}
    model = small(nodes, tensors, (4,), (1,))
    model.producer_name = producer
    card = msgspec.structs.replace(CARD, features=("mean",))
    first = read_model(saved(model, tmp_path / "m.onnx"), card)
    again = read_model(saved(onnx.ModelProto.FromString(first), tmp_path / "again.onnx"), card)
    one, other = (TrainableGraph.load(data) for data in (first, again))
    assert one.card.scaling == other.card.scaling == "file" and one.card.constants == other.card.constants
    assert set(one.notes) >= {n for n in other.notes if n.startswith("scaler: ")}
