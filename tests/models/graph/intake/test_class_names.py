# SPDX-License-Identifier: Apache-2.0
"""Scores are those of the card's labels, whatever order the classes have that a file names."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from fedge_models.errors import ModelError
from fedge_models.graph.card import Card, Channel, WindowSpec
from fedge_models.graph.intake import read_model
from fedge_models.graph.trainable import TrainableGraph
from onnx import TensorProto, helper
from support.graphs import N, check_gradient, normal, run_ort, small

ML = "ai.onnx.ml"
LABELS = ("ok", "bad", "worse")
CARD = Card("classify", tuple(Channel(c) for c in "abcd"), WindowSpec(1, 1, 1), features=("mean",), labels=LABELS)
SORTED = ["bad", "ok", "worse"]
IN_CARDS = [1, 0, 2]  # columns of the file, in the card's order


def network(how: str, names: list[str], width: int = 3) -> tuple[onnx.ModelProto, bytes]:
    """A file that names its classes, and one with the scores alone."""
    numbers = [int(n) for n in names] if names[0].isdigit() else []
    listed = {"classlabels_ints": numbers} if numbers else {"classlabels_strings": names}
    if how == "LinearClassifier":
        weights = {"coefficients": normal(4 * width).tolist(), "intercepts": normal(width).tolist()}
        nodes = [N("LinearClassifier", ["x"], ["label", "z"], domain=ML, post_transform="SOFTMAX", **listed, **weights)]
        nodes, tensors = [*nodes, N("Identity", ["z"], ["y"])], {"unused": normal(2)}
    else:
        nodes = [N("Gemm", ["x", "w", "b"], ["z"]), N("Softmax", ["z"], ["y"], axis=1)]
        tensors = {"w": normal(4, width), "b": normal(width)}
    model = small(nodes, tensors, (4,), (width,))
    model.opset_import.append(helper.make_opsetid(ML, 3))
    alone = model.SerializeToString()
    graph = model.graph
    if how == "words beside":
        graph.initializer.append(helper.make_tensor("classes", TensorProto.STRING, [len(names)], names))
        graph.node.append(N("ArgMax", ["y"], ["best"], axis=1, keepdims=0))
        graph.node.append(N("ArrayFeatureExtractor", ["classes", "best"], ["label"], domain=ML))
    if how == "ZipMap":
        listed = {"classlabels_int64s": numbers} if numbers else listed
        graph.node.append(N("ZipMap", ["y"], ["maps"], domain=ML, **listed))
        kind = helper.make_tensor_type_proto(TensorProto.FLOAT, [])
        key = helper.make_map_type_proto(TensorProto.INT64 if numbers else TensorProto.STRING, kind)
        graph.output[0].CopyFrom(helper.make_value_info("maps", helper.make_sequence_type_proto(key)))
    elif how != "none":
        kind = TensorProto.INT64 if numbers else TensorProto.STRING
        graph.output.append(helper.make_tensor_value_info("label", kind, None))
    return model, alone


def taken(model: onnx.ModelProto, card: Card, folder: Path) -> bytes:
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    data = read_model(folder / "m.onnx", card)
    (folder / "again.onnx").write_bytes(data)
    assert read_model(folder / "again.onnx") == data  # both ends hash it
    assert read_model(folder / "again.onnx", card) == data  # and they are not exchanged once more
    return data


@pytest.mark.parametrize("how", ["LinearClassifier", "words beside", "ZipMap"])
def test_scores_are_those_of_the_cards_labels(how: str, tmp_path: Path) -> None:
    model, alone = network(how, SORTED)
    x = normal(6, 4)
    expected = run_ort(alone, x)[:, IN_CARDS]
    data = taken(model, CARD, tmp_path)
    graph = TrainableGraph.load(data)
    np.testing.assert_allclose(graph.forward(x), expected, atol=1e-6)
    np.testing.assert_allclose(run_ort(data, x), expected, atol=1e-6)
    assert "labels: the file has them in the order bad, ok, worse; the output has them in the card's" in graph.notes
    check_gradient(onnx.ModelProto.FromString(data), x)


@pytest.mark.parametrize("names", [["ok", "bad", "worse"], ["0", "1", "2"]])
def test_file_in_the_cards_order_stays(names: list[str], tmp_path: Path) -> None:
    model, alone = network("ZipMap", names)
    x = normal(6, 4)
    graph = TrainableGraph.load(taken(model, CARD, tmp_path))
    np.testing.assert_allclose(graph.forward(x), run_ort(alone, x), atol=1e-6)
    assert not any(n.startswith("labels: ") for n in graph.notes)


def test_numbers_are_names_where_the_card_has_them(tmp_path: Path) -> None:
    model, alone = network("ZipMap", ["0", "1", "2"])
    x = normal(6, 4)
    card = msgspec.structs.replace(CARD, labels=("2", "0", "1"))
    graph = TrainableGraph.load(taken(model, card, tmp_path))
    np.testing.assert_allclose(graph.forward(x), run_ort(alone, x)[:, [2, 0, 1]], atol=1e-6)


def test_other_names_are_said_beside_the_cards(tmp_path: Path) -> None:
    model, alone = network("words beside", ["gut", "schlecht", "übel"])
    x = normal(6, 4)
    graph = TrainableGraph.load(taken(model, CARD, tmp_path))
    np.testing.assert_allclose(graph.forward(x), run_ort(alone, x), atol=1e-6)
    assert any("'gut' is 'ok', 'schlecht' is 'bad', 'übel' is 'worse'" in n for n in graph.notes)


def test_one_value_for_two_names_in_another_order_is_refused(tmp_path: Path) -> None:
    model, _ = network("words beside", ["bad", "ok"], 1)
    with pytest.raises(ModelError, match="Write the card's labels in the file's order"):
        taken(model, msgspec.structs.replace(CARD, labels=("ok", "bad")), tmp_path)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("names", "{0: 'bad', 1: 'ok', 2: 'worse'}"),
        ("names", "{2: 'worse', 1: 'ok', 0: 'bad'}"),
        ("classes", '["bad", "ok", "worse"]'),
    ],
)
def test_names_in_the_metadata_of_a_file_are_those_of_its_scores(key: str, text: str, tmp_path: Path) -> None:
    model, alone = network("none", SORTED)
    x = normal(6, 4)
    helper.set_model_props(model, {key: text})
    graph = TrainableGraph.load(taken(model, CARD, tmp_path))
    np.testing.assert_allclose(graph.forward(x), run_ort(alone, x)[:, IN_CARDS], atol=1e-6)


@pytest.mark.parametrize("text", ["bad", "{'a': 1}", "{0: 'bad'}", "[", "3", "['bad', 'ok']"])
def test_metadata_that_names_no_three_classes_says_nothing(text: str, tmp_path: Path) -> None:
    model, alone = network("none", SORTED)
    x = normal(6, 4)
    helper.set_model_props(model, {"names": text})
    graph = TrainableGraph.load(taken(model, CARD, tmp_path))
    np.testing.assert_allclose(graph.forward(x), run_ort(alone, x), atol=1e-6)
    assert not any(n.startswith("labels: ") for n in graph.notes)
