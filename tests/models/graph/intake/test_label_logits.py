# SPDX-License-Identifier: Apache-2.0
"""Networks of labels that may hold together are taken in with a logit for each, and keep their probabilities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from fedge_models.errors import ModelError
from fedge_models.graph.card import Card, Channel, WindowSpec, write_card
from fedge_models.graph.intake import read_model
from fedge_models.graph.trainable import TrainableGraph
from support.graphs import N, check_gradient, ints, normal, run_ort, small

LABELS = ("worn", "leak", "loose")
CARD = Card("multilabel", tuple(Channel(c) for c in "abcd"), WindowSpec(1, 1, 1), features=("mean",), labels=LABELS)
Z = N("Gemm", ["x", "w", "b"], ["z"])
CUTS = [N("Slice", ["z", f"{i}", f"{i + 1}", "one"], [f"z{i}"]) for i in range(3)]
ENDS = {
    "logits": [N("Identity", ["z"], ["y"])],
    "sigmoids": [N("Sigmoid", ["z"], ["y"])],
    "reshaped sigmoids": [N("Sigmoid", ["z"], ["s"]), N("Reshape", ["s", "sizes"], ["y"])],
    "a sigmoid for each": [
        *CUTS, *(N("Sigmoid", [f"z{i}"], [f"s{i}"]) for i in range(3)), N("Concat", ["s0", "s1", "s2"], ["y"], axis=1),
    ],
    "probabilities by a quotient": [
        N("Exp", ["z"], ["e"]), N("Add", ["e", "unit"], ["more"]), N("Div", ["e", "more"], ["p"]),
        N("Identity", ["p"], ["y"]),
    ],
    "a mean of sigmoids": [
        N("Sigmoid", ["z"], ["s"]), N("Add", ["s", "s"], ["sum"]), N("Mul", ["sum", "half"], ["y"])
    ],
    "cut out of pairs": [
        *CUTS, *(N("Sigmoid", [f"z{i}"], [f"s{i}"]) for i in range(3)),
        *(N("Sub", ["unit", f"s{i}"], [f"n{i}"]) for i in range(3)),
        *(N("Concat", [f"n{i}", f"s{i}"], [f"pair{i}"], axis=1) for i in range(3)),
        *(N("Slice", [f"pair{i}", "1", "2", "one"], [f"p{i}"]) for i in range(3)),
        N("Concat", ["p0", "p1", "p2"], ["y"], axis=1),
    ],
}  # fmt: skip


def network(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    tensors = {"w": normal(4, 3), "b": normal(3), "sizes": ints(-1, 3), "one": ints(1)}
    tensors |= {f"{i}": ints(i) for i in range(4)} | {
        "unit": np.ones((), np.float32),
        "half": np.full((), 0.5, np.float32),
    }
    read = {name for node in nodes for name in node.input} | {"w", "b"}
    return small([Z, *nodes], {k: v for k, v in tensors.items() if k in read}, (4,), (3,))


def taken(model: onnx.ModelProto, folder: Path) -> bytes:
    write_card(model, CARD)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    data = read_model(folder / "m.onnx")
    (folder / "again.onnx").write_bytes(data)
    assert read_model(folder / "again.onnx") == data  # both ends hash it
    return data


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


@pytest.mark.parametrize("end", ENDS)
def test_each_end_becomes_logits_of_the_same_probabilities(end: str, tmp_path: Path) -> None:
    model, x = network(*ENDS[end]), normal(6, 4)
    given = run_ort(model.SerializeToString(), x)
    data = taken(model, tmp_path)
    z = run_ort(data, x)
    np.testing.assert_allclose(sigmoid(z), sigmoid(given) if end == "logits" else given, atol=1e-5)
    graph = TrainableGraph.load(data)
    assert [t.name for t in graph.layout] == ["w", "b"] and graph.output_shape == (3,)
    assert any("logits" in note for note in graph.notes) == (end != "logits")
    np.testing.assert_allclose(graph.forward(x), z, rtol=1e-4, atol=1e-5)
    check_gradient(onnx.ModelProto.FromString(data), x)


def test_softmax_is_refused_because_its_labels_deny_each_other(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"ends in a Softmax, whose probabilities add up to one.*task = 'classify'"):
        taken(network(N("Softmax", ["z"], ["y"], axis=1)), tmp_path)


def heads(*names: str, sigmoids: bool = True) -> onnx.ModelProto:
    """A head of its own for each label."""
    nodes = [N("Gemm", ["x", f"w.{n}", f"b.{n}"], [f"z.{n}" if sigmoids else n]) for n in names]
    nodes += [N("Sigmoid", [f"z.{n}"], [n]) for n in names] if sigmoids else []
    tensors = {f"{k}.{n}": normal(*shape) for n in names for k, shape in (("w", (4, 1)), ("b", (1,)))}
    model = small(nodes, tensors, (4,), (1,))
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_tensor_value_info(n, 1, ["n", 1]) for n in names)
    return model


@pytest.mark.parametrize("sigmoids", [False, True])
def test_one_output_for_each_label_are_joined_in_the_cards_order(sigmoids: bool, tmp_path: Path) -> None:
    model, x = heads("loose", "worn", "leak", sigmoids=sigmoids), normal(6, 4)
    session = run_each(model, x)
    expected = np.concatenate([session[n] for n in LABELS], axis=1)
    data = taken(model, tmp_path)
    z = run_ort(data, x)
    np.testing.assert_allclose(sigmoid(z) if sigmoids else z, expected, atol=1e-5)
    notes = TrainableGraph.load(data).notes
    assert "output: one value for each label, joined in the order worn, leak, loose" in notes


def test_outputs_of_other_names_are_noted_with_their_labels(tmp_path: Path) -> None:
    data = taken(heads("a", "b", "c"), tmp_path)
    notes = TrainableGraph.load(data).notes
    assert "output: one value for each label, joined in the order worn (a), leak (b), loose (c)" in notes


def test_outputs_of_which_only_some_have_the_name_of_a_label_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"outputs are \['leak', 'b', 'c'\].*\['leak'\] are in both, and of the others it"
    ):
        taken(heads("leak", "b", "c"), tmp_path)


@pytest.mark.parametrize("kind", [onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16])
def test_outputs_of_other_floats_are_joined(kind: int, tmp_path: Path) -> None:
    model = heads(*LABELS, sigmoids=False)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind)
    for tensor in model.graph.initializer:
        tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor).astype(dtype), tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = kind
    x = normal(6, 4)
    expected = np.concatenate([*run_each(model, x.astype(dtype)).values()], axis=1)
    np.testing.assert_allclose(run_ort(taken(model, tmp_path), x), expected, atol=1e-2)


def run_each(model: onnx.ModelProto, x: np.ndarray) -> dict[str, np.ndarray]:
    names = [o.name for o in model.graph.output]
    found = {}
    for name in names:
        single = onnx.ModelProto.FromString(model.SerializeToString())
        kept = [o for o in single.graph.output if o.name == name]
        del single.graph.output[:]
        single.graph.output.extend(kept)
        found[name] = run_ort(single.SerializeToString(), x)
    return found


def test_sequence_of_pairs_of_probabilities_gives_the_second_of_each(tmp_path: Path) -> None:
    """As scikit-learn's MultiOutputClassifier is exported."""
    nodes = [Z, *CUTS, *(N("Sigmoid", [f"z{i}"], [f"s{i}"]) for i in range(3))]
    nodes += [N("Sub", ["unit", f"s{i}"], [f"n{i}"]) for i in range(3)]
    nodes += [N("Concat", [f"n{i}", f"s{i}"], [f"pair{i}"], axis=1) for i in range(3)]
    model, x = network(*nodes[1:], N("Concat", ["s0", "s1", "s2"], ["y"], axis=1)), normal(6, 4)
    expected = run_ort(model.SerializeToString(), x)
    model.graph.node[-1].CopyFrom(N("SequenceConstruct", ["pair0", "pair1", "pair2"], ["probabilities"]))
    del model.graph.output[:]
    pair = onnx.helper.make_tensor_type_proto(1, ["n", 2])
    model.graph.output.append(onnx.helper.make_value_info("probabilities", onnx.helper.make_sequence_type_proto(pair)))
    np.testing.assert_allclose(sigmoid(run_ort(taken(model, tmp_path), x)), expected, atol=1e-5)


def test_sequence_with_a_label_of_three_classes_is_refused(tmp_path: Path) -> None:
    nodes = [N("Softmax", ["z"], ["p0"]), N("Identity", ["p0"], ["p1"]), N("Identity", ["p0"], ["p2"])]
    model = network(*nodes, N("SequenceConstruct", ["p0", "p1", "p2"], ["all"]))
    del model.graph.output[:]
    three = onnx.helper.make_tensor_type_proto(1, ["n", None])
    model.graph.output.append(onnx.helper.make_value_info("all", onnx.helper.make_sequence_type_proto(three)))
    with pytest.raises(ModelError, match=r"gives \(3,\) probabilities for the label 'worn' \(p0\), expected two"):
        taken(model, tmp_path)


def test_classifier_of_sigmoids_says_how_several_labels_may_hold(tmp_path: Path) -> None:
    model = network(N("Sigmoid", ["z"], ["y"]))
    write_card(model, Card("classify", CARD.channels, CARD.window, CARD.features, LABELS))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    graph = TrainableGraph.load(read_model(tmp_path / "m.onnx"))
    assert any("task = 'multilabel' on the card" in note for note in graph.notes)
