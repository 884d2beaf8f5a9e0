# SPDX-License-Identifier: Apache-2.0
"""Each kind of file that is refused is refused in its own words, which the docs show as they are printed."""

from __future__ import annotations

import zipfile
from pathlib import Path

import onnx
import pytest
from fedge_models.errors import ModelError
from fedge_models.graph.card import write_card
from fedge_models.graph.intake import read_model
from fedge_models.graph.refusals import REFUSALS
from fedge_models.graph.trainable import TrainableGraph
from onnx import TensorProto, helper
from support.graphs import N, ints, normal, small
from support.paths import ROOT
from support.refused_files import CARD, refused, refused_by_passes

PAGE = (ROOT / "docs/data-scientist/own-model.md").read_text()


def words(data: bytes, folder: Path) -> str:
    """What the file is refused with."""
    path = folder / "net.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelError) as refusal:
        TrainableGraph.load(read_model(path), where=str(path))
    return str(refusal.value).removeprefix(f"{path}: ")


def test_there_is_a_file_of_each_kind() -> None:
    assert set(refused()) == set(REFUSALS)


@pytest.mark.parametrize("kind", REFUSALS)
def test_docs_show_each_refusal_as_it_is_printed(kind: str, tmp_path: Path) -> None:
    said = words(refused()[kind], tmp_path)
    assert f"| {said} |" in PAGE, said


@pytest.mark.parametrize("kind", refused_by_passes())
def test_docs_show_what_single_passes_refuse(kind: str, tmp_path: Path) -> None:
    said = words(refused_by_passes()[kind], tmp_path)
    assert f"| {said} |" in PAGE, said


def test_docs_show_no_refusal_that_there_is_not() -> None:
    table = PAGE.split("## Files that are refused")[1].split("\n## ")[0]
    assert (
        len([line for line in table.splitlines() if line.startswith("| ")])
        == len(REFUSALS) + len(refused_by_passes()) + 2
    )


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        (b"\x1c\x00\x00\x00TFL3", "TensorFlow Lite"),
        (b"\x89HDF\r\n", "HDF5"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\x80\x04\x95", "pickle of Python, which is never opened"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b'\x40\x00\x00\x00\x00\x00\x00\x00{"w":', "safetensors"),
        (b"\x1f\x8b\x08", "gzip"),
        (b'<?xml version="1.0"?>', "OpenVINO"),
    ],
)
def test_other_files_are_known_by_their_first_bytes(first: bytes, expected: str, tmp_path: Path) -> None:
    assert expected in words(first + bytes(100), tmp_path)


@pytest.mark.parametrize(
    ("inside", "expected"),
    [("m/data.pkl", "torch.onnx.export"), ("model.weights.h5", 'format="onnx"'), ("net.onnx", "Unpack it")],
)
def test_zip_is_known_by_what_is_in_it(inside: str, expected: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "z", "w") as z:
        z.writestr(inside, b"x")
    assert expected in words((tmp_path / "z").read_bytes(), tmp_path)


@pytest.mark.parametrize("op", ["Identity", "Cast", "Squeeze", "ArgMax"])
def test_node_that_reads_itself_ends_no_pass_in_a_circle(op: str, tmp_path: Path) -> None:
    model = small([N(op, ["y"], ["y"], name="circle")], {"w": normal(2)}, (4,), (2,))
    write_card(model, CARD)
    assert "node 'circle' reads 'y', which nothing before it writes" in words(model.SerializeToString(), tmp_path)


@pytest.mark.parametrize(
    "node",
    [
        N("Scaler", [], ["y"], domain="ai.onnx.ml"),
        N("MatMulInteger", ["x"], ["y"]),
        N("Sigmoid", [], ["y"]),
        N("Reshape", ["x"], ["y"]),
    ],
    ids=lambda n: n.op_type,
)
def test_node_without_its_inputs_is_a_refusal(node: onnx.NodeProto, tmp_path: Path) -> None:
    model = small([node], {"w": normal(2, 2)}, (4,), (2,))
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1))
    write_card(model, CARD)
    assert words(model.SerializeToString(), tmp_path)


def test_shapes_that_do_not_fit_when_it_runs(tmp_path: Path) -> None:
    """Only once the batch is known are the shapes of the product."""
    nodes = [
        N("Shape", ["x"], ["sizes"], end=1),
        N("Concat", ["sizes", "two"], ["rows"], axis=0),
        N("Expand", ["w", "rows"], ["e"]),
        N("MatMul", ["x", "e"], ["y"], name="/embed/MatMul"),
    ]
    model = small(nodes, {"w": normal(1, 2), "two": ints(2)}, (4,), (2,))
    write_card(model, CARD)
    said = words(model.SerializeToString(), tmp_path)
    assert "cannot run node '/embed/MatMul' (MatMul): " in said and "dynamo=True" in said and ".h:" not in said


def test_an_attribute_that_cannot_be_is_no_fault_of_an_exporter(tmp_path: Path) -> None:
    nodes = [
        N("Reshape", ["x", "s"], ["i"]),
        N("Conv", ["i", "w"], ["c"], strides=[0], name="c"),
        N("Flatten", ["c"], ["y"]),
    ]
    model = small(nodes, {"w": normal(2, 1, 4), "s": ints(-1, 1, 4)}, (4,), (2,))
    write_card(model, CARD)
    assert words(model.SerializeToString(), tmp_path).endswith(
        "cannot run node 'c' (Conv): Attribute strides must only contain positive values. Correct that node, or export "
        "the file again"
    )


@pytest.mark.parametrize("kept", [0.5, 0.99])
def test_file_that_was_cut_off_says_so(kept: float, tmp_path: Path) -> None:
    model = small([N("MatMul", ["x", "w"], ["y"])], {"w": normal(4, 200)}, (4,), (200,))
    data = model.SerializeToString()
    assert "cut off or damaged" in words(data[: int(len(data) * kept)], tmp_path)


def embedding(rows: int, name: str = "x") -> bytes:
    nodes = [
        N("Cast", [name], ["c"], to=TensorProto.INT64),
        N("Gather", ["table", "c"], ["e"]),
        N("ReduceMean", ["e"], ["y"], axes=[1], keepdims=0),
    ]
    model = small(nodes, {"table": normal(rows, 2)}, (4,), (2,))
    model.graph.input[0].name = name
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT32
    write_card(model, CARD)
    return model.SerializeToString()


def test_table_of_many_rows_that_integers_choose_from_is_a_vocabulary(tmp_path: Path) -> None:
    assert "takes integer ids of words" in words(embedding(1000), tmp_path)


def test_small_table_is_no_text_but_no_gateway_feeds_its_integers(tmp_path: Path) -> None:
    assert "is int32 and is read by Cast; a gateway gives float32" in words(embedding(12), tmp_path)


def test_strings_are_text(tmp_path: Path) -> None:
    model = small([N("StringNormalizer", ["x"], ["y"])], {"w": normal(2)}, (4,), (2,))
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.STRING
    assert "takes strings" in words(model.SerializeToString(), tmp_path)


@pytest.mark.parametrize("op", ["FusedConv", "SkipLayerNormalization", "FastGelu", "BiasSplitGelu"])
def test_file_of_an_optimiser_is_refused_where_it_would_be_trained(op: str, tmp_path: Path) -> None:
    """A node of a runtime behind a weight; in a frozen trunk it may stand."""
    nodes = [N("MatMul", ["x", "w"], ["m"]), N(op, ["m"], ["y"], domain="com.microsoft", name="fused")]
    model = small(nodes, {"w": normal(4, 2)}, (4,), (2,))
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    write_card(model, CARD)
    assert f"'fused' ({op} of com.microsoft) exists in one runtime only" in words(model.SerializeToString(), tmp_path)


def test_file_of_an_optimiser_may_be_a_frozen_trunk(tmp_path: Path) -> None:
    nodes = [
        N("FusedMatMul", ["x", "w"], ["m"], domain="com.microsoft", name="fused"),
        N("MatMul", ["m", "head.weight"], ["y"]),
    ]
    model = small(nodes, {"w": normal(4, 3), "head.weight": normal(3, 2)}, (4,), (2,))
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    write_card(model, CARD)
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    graph = TrainableGraph.load(read_model(tmp_path / "net.onnx", trainable="head.*"))
    graph.probe()
    x = normal(3, 4)
    w, head = (onnx.numpy_helper.to_array(t) for t in model.graph.initializer)
    assert abs(graph.forward(x) - x @ w @ head).max() < 1e-5


def test_trees_that_were_written_as_tensors_are_trees(tmp_path: Path) -> None:
    """As Hummingbird does: products, comparisons and steps, which PyTorch exports."""
    nodes = [
        N("Gemm", ["x", "_operators.0.weight_1"], ["g"], transB=1),
        N("LessOrEqual", ["g", "_operators.0.bias_1"], ["l"]),
        N("Cast", ["l"], ["c"], to=TensorProto.FLOAT),
        N("MatMul", ["c", "_operators.0.weight_3"], ["y"]),
    ]
    tensors = {"weight_1": normal(3, 4), "bias_1": normal(3), "weight_3": normal(3, 2)}
    model = small(nodes, {f"_operators.0.{n}": a for n, a in tensors.items()}, (4,), (2,))
    write_card(model, CARD)
    said = words(model.SerializeToString(), tmp_path)
    assert said.startswith("_operators.0.weight_3, as Hummingbird writes it: these are trees")


def test_branch_that_the_number_of_samples_decides_says_so(tmp_path: Path) -> None:
    def branch(op: str) -> onnx.GraphProto:
        out = helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)
        return helper.make_graph([N(op, ["m"], ["inner"])], op, [], [out])

    nodes = [
        N("MatMul", ["x", "w"], ["m"]),
        N("Shape", ["x"], ["shape"]),
        N("Gather", ["shape", "at"], ["count"]),
        N("Greater", ["count", "one"], ["several"]),
        N("If", ["several"], ["y"], then_branch=branch("Relu"), else_branch=branch("Tanh"), name="choose"),
    ]
    model = small(nodes, {"w": normal(4, 2), "at": ints(0).reshape(()), "one": ints(1).reshape(())}, (4,), (2,))
    write_card(model, CARD)
    said = words(model.SerializeToString(), tmp_path)
    assert "and the number of samples, which is any at a gateway, decides which part runs. Export" in said


@pytest.mark.parametrize(
    ("producer", "how"), [("jax2onnx", "inputs=[('B', …)]"), ("tf2onnx", "Keras"), ("other", "dynamic_shapes")]
)
def test_batch_that_stays_fixed_says_what_its_own_tool_needs(producer: str, how: str, tmp_path: Path) -> None:
    model = onnx.ModelProto.FromString(refused()["fixed batch"])
    model.producer_name = producer
    assert how in words(model.SerializeToString(), tmp_path).partition("variable batch: ")[2]
