# SPDX-License-Identifier: Apache-2.0
"""Classifiers that give one value, or a sigmoid for each label, are trained on a column for each label."""

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
from fedge_models.training.scores import probabilities
from support.graphs import N, check_gradient, ints, normal, run_ort, small

CARD = Card(
    "classify", tuple(Channel(c) for c in "abcd"), WindowSpec(1, 1, 1), features=("mean",), labels=("ok", "bad")
)
THREE = msgspec.structs.replace(CARD, labels=("ok", "bad", "worse"))
Z = N("Gemm", ["x", "w", "b"], ["z"])


def network(*nodes: onnx.NodeProto, y: tuple[int, ...] = (1,), width: int = 1) -> onnx.ModelProto:
    tensors = {"w": normal(4, width), "b": normal(width), "one": ints(1), "flat": ints(-1)}
    return small([Z, *nodes], tensors, (4,), y)


def taken(model: onnx.ModelProto, card: Card, folder: Path) -> bytes:
    write_card(model, card)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    data = read_model(folder / "m.onnx")
    (folder / "again.onnx").write_bytes(data)
    assert read_model(folder / "again.onnx") == data  # both ends hash it
    return data


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


SINGLE = {
    "a logit": ([N("Identity", ["z"], ["y"])], (1,), False),
    "a flat logit": ([N("Squeeze", ["z", "one"], ["y"])], (), False),
    "a logit that was reshaped": ([N("Reshape", ["z", "flat"], ["y"])], (), False),
    "a sigmoid": ([N("Sigmoid", ["z"], ["y"])], (1,), True),
    "a flat sigmoid": ([N("Sigmoid", ["z"], ["s"]), N("Squeeze", ["s", "one"], ["y"])], (), True),
    "a sigmoid of a flat logit": ([N("Squeeze", ["z", "one"], ["q"]), N("Sigmoid", ["q"], ["y"])], (), True),
}


@pytest.mark.parametrize("how", SINGLE)
def test_single_value_becomes_two_columns_of_the_same_probability(how: str, tmp_path: Path) -> None:
    nodes, y, is_probability = SINGLE[how]
    model, x = network(*nodes, y=y), normal(6, 4)
    single = run_ort(model.SerializeToString(), x).ravel()
    expected = single if is_probability else sigmoid(single)
    data = taken(model, CARD, tmp_path)
    graph = TrainableGraph.load(data)
    served = run_ort(data, x)
    assert served.shape == (6, 2) and graph.gives_probabilities == is_probability
    given = served if is_probability else probabilities(served)
    np.testing.assert_allclose(given, np.stack([1 - expected, expected], axis=1), atol=1e-5)
    np.testing.assert_allclose(graph.forward(x), served, atol=1e-5)
    assert [t.name for t in graph.layout] == ["w", "b"]
    check_gradient(onnx.ModelProto.FromString(data), x)


MADE_OF_PROBABILITIES = {
    "a column of a softmax": [N("Softmax", ["z"], ["p"]), N("Gather", ["p", "one"], ["y"], axis=1)],
    "a slice of sigmoids": [N("Sigmoid", ["z"], ["p"]), N("Slice", ["p", "one", "two", "one"], ["y"])],
    "a mean of sigmoids": [N("Sigmoid", ["z"], ["p"]), N("ReduceMean", ["p"], ["y"], axes=[1])],
    "half a sum of sigmoids": [
        N("Sigmoid", ["z"], ["p"]),
        N("Gather", ["p", "zero"], ["l"], axis=1),
        N("Gather", ["p", "one"], ["r"], axis=1),
        N("Add", ["l", "r"], ["sum"]),
        N("Mul", ["sum", "half"], ["y"]),
    ],
    "a product of sigmoids": [
        N("Sigmoid", ["z"], ["p"]), N("Split", ["p"], ["l", "r"], axis=1), N("Mul", ["l", "r"], ["y"])
    ],
    "the rest of a softmax": [
        N("Softmax", ["z"], ["p"]), N("Gather", ["p", "zero"], ["l"], axis=1), N("Sub", ["unit", "l"], ["y"])
    ],
}  # fmt: skip


def of_two(nodes: list[onnx.NodeProto]) -> onnx.ModelProto:
    model = network(*nodes, width=2)
    tensors = {"zero": ints(0), "two": ints(2), "half": np.array(0.5, np.float32), "unit": np.array(1, np.float32)}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(v, n) for n, v in tensors.items())
    return model


@pytest.mark.parametrize("how", MADE_OF_PROBABILITIES)
def test_single_value_made_of_probabilities_is_one_and_no_logit(how: str, tmp_path: Path) -> None:
    model, x = of_two(MADE_OF_PROBABILITIES[how]), normal(6, 4)
    p = run_ort(model.SerializeToString(), x).ravel()
    data = taken(model, CARD, tmp_path)
    graph = TrainableGraph.load(data)
    np.testing.assert_allclose(run_ort(data, x), np.stack([1 - p, p], axis=1), atol=1e-5)
    assert graph.gives_probabilities and any("probability is taken as that of 'bad'" in n for n in graph.notes)
    check_gradient(onnx.ModelProto.FromString(data), x)


def test_means_of_the_sigmoids_of_each_label_give_way_to_their_logits(tmp_path: Path) -> None:
    nodes = [N("Sigmoid", ["z"], ["s"]), N("Add", ["s", "s"], ["sum"]), N("Mul", ["sum", "half"], ["y"])]
    model, x = network(*nodes, y=(3,), width=3), normal(6, 4)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(0.5, np.float32), "half"))
    expected = run_ort(model.SerializeToString(), x)
    data = taken(model, THREE, tmp_path)
    np.testing.assert_allclose(sigmoid(run_ort(data, x)), expected, atol=1e-5)
    assert any("exactly one label holds" in n for n in TrainableGraph.load(data).notes)
    check_gradient(onnx.ModelProto.FromString(data), x)


@pytest.mark.parametrize("percent", [False, True])
def test_softmax_stays_and_one_in_percent_is_noted(percent: bool, tmp_path: Path) -> None:
    nodes = [N("Softmax", ["z"], ["p" if percent else "y"], axis=1)]
    model, x = network(*nodes, *[N("Mul", ["p", "hundred"], ["y"])] * percent, y=(3,), width=3), normal(6, 4)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(100, np.float32), "hundred"))
    data = taken(model, THREE, tmp_path)
    np.testing.assert_allclose(run_ort(data, x), run_ort(model.SerializeToString(), x), rtol=1e-6)
    notes = TrainableGraph.load(data).notes
    assert notes == (
        ("output: Mul of probabilities is taken as logits. Export the logits, or the probabilities",) * percent
    )


def test_single_value_between_probabilities_and_their_opposites_is_refused(tmp_path: Path) -> None:
    nodes = [N("Softmax", ["z"], ["p"]), N("Split", ["p"], ["l", "r"], axis=1), N("Sub", ["l", "r"], ["y"])]
    with pytest.raises(ModelError, match="gives one value for 2 labels by Sub"):
        taken(of_two(nodes), CARD, tmp_path)


def test_single_value_that_a_weight_or_a_gate_makes_of_sigmoids_is_a_logit(tmp_path: Path) -> None:
    nodes = [N("Sigmoid", ["z"], ["p"]), N("Mul", ["z", "p"], ["gated"]), N("ReduceSum", ["gated", "one"], ["y"])]
    model, x = of_two(nodes), normal(6, 4)
    logit = run_ort(model.SerializeToString(), x)
    served = run_ort(taken(model, CARD, tmp_path), x)
    np.testing.assert_allclose(served, np.concatenate([0 * logit, logit], axis=1), atol=1e-6)


@pytest.mark.parametrize("flat", [False, True], ids=["direct", "reshaped"])
@pytest.mark.parametrize("card", [CARD, THREE], ids=["2", "3"])
def test_sigmoid_of_each_label_gives_way_to_its_logit(card: Card, flat: bool, tmp_path: Path) -> None:
    labels = len(card.labels)
    shape = [N("Sigmoid", ["z"], ["s"]), N("Reshape", ["s", "sizes"], ["y"])] if flat else [N("Sigmoid", ["z"], ["y"])]
    model, x = network(*shape, y=(labels,), width=labels), normal(6, 4)
    model.graph.initializer.append(onnx.numpy_helper.from_array(ints(-1, labels), "sizes"))
    expected = run_ort(model.SerializeToString(), x)
    data = taken(model, card, tmp_path)
    np.testing.assert_allclose(sigmoid(run_ort(data, x)), expected, atol=1e-5)
    graph = TrainableGraph.load(data)
    assert "Sigmoid" not in graph.operators and any("exactly one label holds" in n for n in graph.notes)
    check_gradient(onnx.ModelProto.FromString(data), x)


def test_sigmoids_that_are_also_used_inside_are_refused(tmp_path: Path) -> None:
    nodes = [
        N("Sigmoid", ["z"], ["s"]), N("Mul", ["s", "s"], ["unused"]), N("Reshape", ["s", "sizes"], ["y"]),
    ]  # fmt: skip
    model = network(*nodes, y=(3,), width=3)
    model.graph.initializer.append(onnx.numpy_helper.from_array(ints(-1, 3), "sizes"))
    with pytest.raises(ModelError, match="sigmoids 's' of the labels are used elsewhere; export the logits"):
        taken(model, THREE, tmp_path)


@pytest.mark.parametrize(
    ("nodes", "card"),
    [
        ([N("Tanh", ["z"], ["y"])], CARD),
        ([N("HardSigmoid", ["z"], ["y"])], CARD),
        ([N("Softmax", ["z"], ["y"])], CARD),
        ([N("Sigmoid", ["z"], ["y"])], THREE),
        ([N("Identity", ["z"], ["y"])], THREE),
    ],
    ids=["Tanh", "HardSigmoid", "Softmax of one", "three labels", "a logit for three labels"],
)
def test_single_value_that_means_nothing_known_is_refused(
    nodes: list[onnx.NodeProto], card: Card, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=r"gives one value for \d labels by .*Expected its logit or a Sigmoid"):
        taken(network(*nodes), card, tmp_path)


def test_sigmoid_of_what_is_no_classifier_stays(tmp_path: Path) -> None:
    model, x = network(N("Sigmoid", ["z"], ["y"])), normal(6, 4)
    expected = run_ort(model.SerializeToString(), x)
    regress = msgspec.structs.replace(CARD, task="regress", labels=())
    np.testing.assert_array_equal(run_ort(taken(model, regress, tmp_path), x), expected)


PROBABILITIES = {
    "Softmax that is reshaped": [N("Softmax", ["z"], ["s"]), N("Reshape", ["s", "three"], ["y"])],
    "Softmax in another name": [N("Softmax", ["z"], ["s"]), N("Identity", ["s"], ["y"])],
    "Softmax of float16, cast": [N("Softmax", ["z"], ["s"]), N("Cast", ["s"], ["y"], to=1)],
    "a quotient": [
        N("Exp", ["z"], ["e"]),
        N("ReduceSum", ["e", "one"], ["sum"], keepdims=1),
        N("Div", ["e", "sum"], ["y"]),
    ],
    "Exp of LogSoftmax": [N("LogSoftmax", ["z"], ["l"]), N("Exp", ["l"], ["y"])],
    "sigmoids that are divided by their sum": [
        N("Sigmoid", ["z"], ["s"]),
        N("ReduceSum", ["s", "one"], ["sum"], keepdims=1),
        N("Div", ["s", "sum"], ["y"]),
    ],
}


@pytest.mark.parametrize("how", PROBABILITIES)
def test_probabilities_are_trained_as_what_they_are(how: str, tmp_path: Path) -> None:
    """Taken for logits, they would pass a second Softmax, and no probability could come near one."""
    model, x = network(*PROBABILITIES[how], y=(3,), width=3), normal(6, 4)
    model.graph.initializer.append(onnx.numpy_helper.from_array(ints(-1, 3), "three"))
    expected = run_ort(model.SerializeToString(), x)
    data = taken(model, THREE, tmp_path)
    graph = TrainableGraph.load(data)
    assert graph.gives_probabilities
    np.testing.assert_allclose(run_ort(data, x), expected, atol=1e-5)
    np.testing.assert_allclose(probabilities(graph.logits(x)), expected, atol=1e-5)
    check_gradient(onnx.ModelProto.FromString(data), x)


@pytest.mark.parametrize("op", ["Tanh", "HardSigmoid"])
def test_bounded_values_taken_for_logits_are_said(op: str, tmp_path: Path) -> None:
    data = taken(network(N(op, ["z"], ["y"]), y=(3,), width=3), THREE, tmp_path)
    assert any(f"ends in {op}, whose values are bounded" in n for n in TrainableGraph.load(data).notes)


@pytest.mark.parametrize("fresh", [True, False])
def test_bias_of_class_priors_makes_no_probabilities_of_logits(fresh: bool, tmp_path: Path) -> None:
    """A fresh head of zeros whose bias adds up to one gives what looks like probabilities; so may one with columns that
    cancel each other."""
    head = np.zeros((5, 3), np.float32)
    if not fresh:
        head[:, 0], head[:, 1] = 0.001, -0.001
    nodes = [N("Gemm", ["x", "w"], ["a"]), N("Sigmoid", ["a"], ["h"]), N("Gemm", ["h", "head", "prior"], ["y"])]
    tensors = {"w": normal(4, 5), "head": head, "prior": np.array([0.7, 0.2, 0.1], np.float32)}
    tensors["w2"] = normal(5, 5)
    nodes[2:2] = [N("Gemm", ["h", "w2"], ["h2"]), N("Tanh", ["h2"], ["h3"])]
    nodes[-1].input[0] = "h3"
    model = small(nodes, tensors, (4,), (3,))
    card = Card("classify", tuple(Channel(c) for c in "abcd"), WindowSpec(1, 1, 1), labels=("x", "y", "z"))
    write_card(model, card)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    data = read_model(tmp_path / "m.onnx")
    assert [n.op_type for n in onnx.ModelProto.FromString(data).graph.node][-1] == "Gemm"
    x = normal(6, 4)
    np.testing.assert_allclose(run_ort(data, x), run_ort(model.SerializeToString(), x), rtol=1e-6)
