# SPDX-License-Identifier: Apache-2.0
"""One of several outputs is trained: the card's choice, or the only one of floats."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from fedge_models.errors import ModelError
from fedge_models.graph.card import Card, Channel, Target, WindowSpec, read_card, write_card
from fedge_models.graph.intake import read_model
from fedge_models.graph.trainable import TrainableGraph
from onnx import TensorProto, helper
from support.graphs import N, check_gradient, ints, normal, run_ort, small

CARD = Card("regress", tuple(Channel(c) for c in "abcd"), WindowSpec(1, 1, 1), features=("mean",))
THREE = msgspec.structs.replace(CARD, task="classify", labels=("ok", "bad", "worse"))
NODES = [
    N("Gemm", ["x", "body"], ["h"]),
    N("Tanh", ["h"], ["inner"]),
    N("Gemm", ["inner", "head"], ["y"]),
    N("Gemm", ["inner", "side"], ["other"]),
    N("ArgMax", ["y"], ["label"], axis=1, keepdims=0),
]
WEIGHTS = {"body": normal(4, 5), "head": normal(5, 3), "side": normal(5, 2)}


def several(*more: str, last: list[onnx.NodeProto] | None = None) -> onnx.ModelProto:
    """A network with outputs besides y."""
    model = small([*NODES, *(last or [])], WEIGHTS, (4,), (3,))
    for name in more:
        kind = TensorProto.INT64 if name.startswith("label") else TensorProto.FLOAT
        shape = ["n"] if name.startswith("label") else ["n", 5 if name == "inner" else 2]
        model.graph.output.append(helper.make_tensor_value_info(name, kind, shape))
    return model


def taken(model: onnx.ModelProto, card: Card, folder: Path) -> bytes:
    write_card(model, card)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    data = read_model(folder / "m.onnx")
    (folder / "again.onnx").write_bytes(data)
    assert read_model(folder / "again.onnx") == data  # both ends hash it
    return data


@pytest.mark.parametrize(("output", "trained"), [("y", ["body", "head"]), ("other", ["body", "side"])])
def test_card_chooses_the_output(output: str, trained: list[str], tmp_path: Path) -> None:
    model, x = several("other", "inner"), normal(5, 4)
    expected = dict(zip(("y", "other"), _outputs(model, x), strict=False))[output]
    data = taken(model, msgspec.structs.replace(CARD, output=output), tmp_path)
    np.testing.assert_allclose(run_ort(data, x), expected, atol=1e-6)
    graph = TrainableGraph.load(data)
    assert [t.name for t in graph.layout] == trained
    assert read_card(onnx.ModelProto.FromString(data)).output == ""
    assert any(n.startswith(f"output: {output}; left out: ") for n in graph.notes)
    check_gradient(onnx.ModelProto.FromString(data), x)


def _outputs(model: onnx.ModelProto, x: np.ndarray) -> list[np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})


def test_card_of_before_still_fits_the_file_that_was_made(tmp_path: Path) -> None:
    card = msgspec.structs.replace(CARD, output="y")
    data = taken(several("other"), card, tmp_path)
    (tmp_path / "made.onnx").write_bytes(data)
    graphs = [onnx.ModelProto.FromString(d).graph for d in (data, read_model(tmp_path / "made.onnx", card))]
    assert graphs[0] == graphs[1]


def test_several_outputs_are_refused_with_the_key_to_write(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has 2 outputs: y \(n, 3\), other \(n, 2\)\. .*: output = 'y'"):
        taken(several("other"), CARD, tmp_path)


def test_output_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match="card: output is 'othr', which is no output of the file; did you mean 'other'"
    ):
        taken(several("other"), msgspec.structs.replace(CARD, output="othr"), tmp_path)


@pytest.mark.parametrize("task", [CARD, THREE], ids=["regress", "classify"])
def test_integers_beside_the_scores_are_left_out(task: Card, tmp_path: Path) -> None:
    model, x = several("label"), normal(5, 4)
    data = taken(model, task, tmp_path)
    np.testing.assert_allclose(run_ort(data, x), _outputs(model, x)[0], atol=1e-6)


TAILS = {
    "ArgMax": ([], "label"),
    "ArgMax and Cast": ([N("Cast", ["label"], ["label2"], to=TensorProto.INT64)], "label2"),
    "names by ArrayFeatureExtractor": (
        [
            N("Constant", [], ["names"], value_ints=[7, 8, 9]),
            N("ArrayFeatureExtractor", ["names", "label"], ["row"], domain="ai.onnx.ml"),
            N("Squeeze", ["row"], ["label3"]),
        ],
        "label3",
    ),
    "names by Gather": (
        [N("Constant", [], ["names"], value_ints=[7, 8, 9]), N("Gather", ["names", "label"], ["label4"])],
        "label4",
    ),
}


@pytest.mark.parametrize("how", TAILS)
def test_label_alone_gives_way_to_its_scores(how: str, tmp_path: Path) -> None:
    nodes, name = TAILS[how]
    model, x = several(name, last=nodes), normal(5, 4)
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    expected = _outputs(model, x)[0]
    del model.graph.output[0]
    data = taken(model, THREE, tmp_path)
    np.testing.assert_allclose(run_ort(data, x), expected, atol=1e-6)
    assert [t.name for t in TrainableGraph.load(data).layout] == ["body", "head"]


@pytest.mark.parametrize(
    ("card", "words"),
    [
        (THREE, "output = 'y', the only one that fits the card"),
        (msgspec.structs.replace(THREE, labels=("ok", "bad")), "output = 'other', the only one that fits the card"),
        (CARD, "output = 'y'"),  # a card without targets promises no number
    ],
)
def test_refusal_names_the_output_that_fits_the_card(card: Card, words: str, tmp_path: Path) -> None:
    model = several("other", "inner")
    for value in (*model.graph.output,):
        value.type.tensor_type.ClearField("shape")  # as exporters leave it out: they are run
    with pytest.raises(ModelError) as refusal:
        taken(model, card, tmp_path)
    assert "y (n, 3), other (n, 2), inner (n, 5)" in str(refusal.value)
    assert str(refusal.value).endswith(words)


def columns(how: str, names: list[str]) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    """Nodes that give each column of y by a name of its own."""
    if how == "Split":
        return [N("Split", ["y"], [f"{n}.part" for n in names], axis=1, num_outputs=3)] + [
            N("Squeeze", [f"{n}.part", "one"], [n]) for n in names
        ], {"one": ints(1)}
    each = {f"at{i}": ints(i) for i in range(4)}
    if how == "Gather":
        return [N("Gather", ["y", f"at{i}"], [n], axis=1) for i, n in enumerate(names)], each
    parts = [N("Slice", ["y", f"at{i}", f"at{i + 1}", "at1"], [f"{n}.part"]) for i, n in enumerate(names)]
    return [*parts, *(N("Reshape", [f"{n}.part", "flat"], [n]) for n in names)], {**each, "flat": ints(-1)}


def in_columns(how: str, names: list[str]) -> onnx.ModelProto:
    nodes, tensors = columns(how, names)
    model = small([*NODES[:3], *nodes], {**WEIGHTS, **tensors}, (4,), (3,), opset=18)
    del model.graph.output[:]
    model.graph.output.extend(helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in names)
    return model


@pytest.mark.parametrize("how", ["Slice", "Split", "Gather"])
@pytest.mark.parametrize("task", ["classify", "regress"])
def test_columns_of_one_tensor_are_that_tensor(how: str, task: str, tmp_path: Path) -> None:
    """As skl2onnx writes them with zipmap="columns"."""
    names = ["i0", "i1", "i2"]
    model, x = in_columns(how, names), normal(5, 4)
    expected = np.stack([a.ravel() for a in _outputs(model, x)], axis=1)
    targets = tuple(Target(n) for n in names) if task == "regress" else ()
    card = THREE if task == "classify" else msgspec.structs.replace(CARD, targets=targets)
    graph = TrainableGraph.load(taken(model, card, tmp_path))
    np.testing.assert_allclose(graph.forward(x), expected, atol=1e-5)
    assert [t.name for t in graph.layout] == ["body", "head"]
    assert "output: y; left out: i0, i1, i2" in graph.notes


def test_columns_with_the_names_of_labels_in_another_order_are_not_joined(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has 3 outputs"):
        taken(in_columns("Slice", ["bad", "ok", "worse"]), THREE, tmp_path)
