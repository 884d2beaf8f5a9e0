# SPDX-License-Identifier: Apache-2.0
"""Tensors whose names an exporter made up get those of their layers, so that `head.*` trains the whole layer."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from fedge_models.errors import ModelError
from fedge_models.graph.card import Card, Channel, WindowSpec, write_card
from fedge_models.graph.intake import read_model
from fedge_models.graph.intake.layers import module
from fedge_models.graph.intake.provenance import joint_name
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.training.personal import local_tensors
from onnx import helper
from support.graphs import N, normal, run_ort, small

CARD = Card("regress", tuple(Channel(c) for c in "abcd"), WindowSpec(1, 1, 1), features=("mean",))
SIGNATURE, FOLDED = "pkg.torch.export.ExportedProgram.graph_signature", "pkg.onnxscript.optimizer.folded_from"


def taken(model: onnx.ModelProto, folder: Path, card: Card = CARD) -> TrainableGraph:
    write_card(model, card)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    data = read_model(folder / "m.onnx")
    (folder / "again.onnx").write_bytes(data)
    assert read_model(folder / "again.onnx") == data  # both ends hash it
    x = normal(3, 4)
    np.testing.assert_allclose(run_ort(data, x), run_ort(model.SerializeToString(), x), rtol=1e-6)
    return TrainableGraph.load(data)


def trained(graph: TrainableGraph) -> set[str]:
    return {t.name for t in graph.layout}


def perceptron(weight: str, name: str = "", bias: str = "head.bias", scopes: str = "") -> onnx.ModelProto:
    """A layer of eight and a head whose weight has the name that an exporter gave it."""
    nodes = [
        N("Gemm", ["x", "body.weight", "body.bias"], ["a"]),
        N("Tanh", ["a"], ["h"]),
        N("MatMul", ["h", weight], ["p"], name=name),
        N("Add", [bias, "p"], ["y"]),
    ]
    if scopes:
        nodes[2].metadata_props.add(key="pkg.torch.onnx.name_scopes", value=scopes)
    tensors = {"body.weight": normal(4, 8), "body.bias": normal(8), weight: normal(8, 2), bias: normal(2)}
    return small(nodes, tensors, (4,), (2,))


def test_bias_behind_a_copy_names_the_weight_in_front_of_it(tmp_path: Path) -> None:
    """Read again, the file would else become another one: the bias has its name by then, and the copy is gone."""
    nodes = [
        N("MatMul", ["x", "onnx::MatMul_7"], ["p"]),
        N("Identity", ["val_3"], ["copy"]),
        N("Add", ["p", "copy"], ["y"], name="/head/Add"),
    ]
    graph = taken(small(nodes, {"onnx::MatMul_7": normal(4, 2), "val_3": normal(2)}, (4,), (2,)), tmp_path)
    assert trained(graph) == {"head.weight", "head.bias"}


def test_bias_that_a_quantiser_reshapes_has_the_name_of_its_layer(tmp_path: Path) -> None:
    """As ONNX Runtime's dynamic quantisation leaves the bias of a Conv."""
    nodes = [
        N("Gemm", ["x", "body.weight", "body.bias"], ["a"]),
        N("Unsqueeze", ["a", "axes"], ["u"]),
        N("Conv", ["u", "c1.weight"], ["c"], name="/c1/Conv"),
        N("Reshape", ["onnx::Conv_27", "shape"], ["b"]),
        N("Add", ["c", "b"], ["d"], name="/c1/Conv_bias_add"),
        N("ReduceMean", ["d"], ["y"], axes=[2], keepdims=0),
    ]
    tensors = {"body.weight": normal(4, 8), "body.bias": normal(8), "c1.weight": normal(2, 1, 3)}
    sizes = {"axes": np.array([1]), "shape": np.array([1, -1, 1])}
    graph = taken(small(nodes, {**tensors, **sizes, "onnx::Conv_27": normal(2)}, (4,), (2,)), tmp_path)
    assert trained(graph) == {*tensors, "c1.bias"}


def test_module_that_is_no_list_of_names_is_none() -> None:
    node = N("MatMul", ["x", "w"], ["y"])
    node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value="{1: 2, 3: 4}")
    assert module(node) == ""


def told(model: onnx.ModelProto, folded: dict[str, list[str]], **kinds: str) -> onnx.ModelProto:
    """Write what PyTorch's exporter writes of the origin of tensors."""
    lines = [f"p_{i}: {kind} target='{name}' persistent=True" for i, (name, kind) in enumerate(kinds.items())]
    helper.set_model_props(model, {})
    model.graph.metadata_props.add(key=SIGNATURE, value="\n# inputs\n" + "\n".join([*lines, "x: USER_INPUT\n"]))
    for name, sources in folded.items():
        value = model.graph.value_info.add(name=name)
        value.metadata_props.add(key=FOLDED, value=repr(sources))
    return model


@pytest.mark.parametrize("weight", ["onnx::MatMul_34", "val_12", "57"])
def test_weight_of_a_product_is_named_by_the_bias_behind(weight: str, tmp_path: Path) -> None:
    card = msgspec.structs.replace(CARD, trainable="head.*")
    graph = taken(perceptron(weight), tmp_path, card)
    assert trained(graph) == {"head.weight", "head.bias"}
    assert f"named by their layers: head.weight (was {weight}); a weight of a MatMul is the transpose" in graph.notes[0]


@pytest.mark.parametrize(
    ("name", "scopes", "expected"),
    [
        ("/blocks/blocks.1/out/MatMul", "", "blocks.1.out.weight"),
        ("node_MatMul_7", "['', 'blocks', 'blocks.1', 'blocks.1.out', 'linear']", "blocks.1.out.weight"),
        ("model/dense/MatMul", "", "model/dense/MatMul/weight"),  # TensorFlow
        ("/MatMul", "", "onnx::MatMul_34"),  # of no module
        ("node_MatMul_7", "['', 'linear']", "onnx::MatMul_34"),
        ("node_MatMul_7", "no list", "onnx::MatMul_34"),
    ],
)
def test_weight_without_a_bias_is_named_by_its_module(name: str, scopes: str, expected: str, tmp_path: Path) -> None:
    graph = taken(perceptron("onnx::MatMul_34", name, "shift", scopes), tmp_path)
    assert trained(graph) == {"body.weight", "body.bias", expected, "shift"}


def test_bias_of_another_layer_which_was_equal_gives_no_name(tmp_path: Path) -> None:
    model = perceptron("val_3", "n", "layers.0.bias", "['', 'layers', 'layers.1', 'linear']")
    assert "layers.1.weight" in trained(taken(model, tmp_path))


def test_names_that_somebody_gave_stay(tmp_path: Path) -> None:
    for name in ("W", "dense/kernel:0", "validate", "constants_of_motion_2", "Parameter34"):
        expected = {"body.weight", "body.bias", "head.bias", name}
        assert trained(taken(perceptron(name, "/head/MatMul"), tmp_path)) == expected


def test_name_that_is_taken_gets_a_number(tmp_path: Path) -> None:
    model = perceptron("onnx::MatMul_34")
    model.graph.initializer[0].name = model.graph.node[0].input[1] = "head.weight"
    assert {"head.weight", "head.weight.2"} < trained(taken(model, tmp_path))


def test_origin_that_the_exporter_tells_is_the_name(tmp_path: Path) -> None:
    model = told(perceptron("permute", bias="shift"), {"permute": ["prototypes"]}, prototypes="PARAMETER")
    assert "prototypes" in trained(taken(model, tmp_path))


def test_input_whose_shape_was_known_is_no_function_of_a_weight(tmp_path: Path) -> None:
    """The exporter lists it among what it has computed the weight from."""
    model = told(perceptron("val_7", bias="shift"), {"val_7": ["val_1", "x", "table"]}, table="PARAMETER")
    graph = taken(model, tmp_path)
    assert "table" in trained(graph) and not any("computed by the exporter" in n for n in graph.notes)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["out.weight"], "out.weight"),
        (["lstm.bias_hh_l0", "lstm.bias_ih_l0"], "lstm.bias_l0"),
        (["lstm.weight_ih_l1", "lstm.weight_ih_l1_reverse"], "lstm.weight_ih_l1"),
        (["gru.bias_hh_l0", "gru.bias_hh_l0_reverse", "gru.bias_ih_l0", "gru.bias_ih_l0_reverse"], "gru.bias_l0"),
        (["0.parametrizations.weight.original0", "0.parametrizations.weight.original1"], "0.weight"),
        (["net.conv.weight_g", "net.conv.weight_v"], "net.conv.weight"),
        (["attn.q.weight", "attn.k.weight"], "attn.weight"),
        (["q.weight", "k.weight"], ""),
    ],
)
def test_what_several_parameters_became_has_what_their_names_share(names: list[str], expected: str) -> None:
    assert joint_name(names) == expected


def test_recurrent_layers_of_one_module_are_numbered(tmp_path: Path) -> None:
    sizes = {"onnx::RNN_1": (1, 3, 4), "onnx::RNN_2": (1, 3, 3), "onnx::RNN_3": (1, 3, 3), "onnx::RNN_4": (1, 3, 3)}
    nodes = [
        N("Unsqueeze", ["x", "zero"], ["s"]),
        N("RNN", ["s", "onnx::RNN_1", "onnx::RNN_2"], ["", "h1"], name="/layer/RNN", hidden_size=3),
        N("RNN", ["h1", "onnx::RNN_3", "onnx::RNN_4"], ["", "h2"], name="/layer/RNN_1", hidden_size=3),
        N("Squeeze", ["h2", "zero"], ["y"]),
    ]
    tensors = {name: normal(*shape) for name, shape in sizes.items()} | {"zero": np.array([0])}
    graph = taken(small(nodes, tensors, (4,), (3,)), tmp_path)
    assert trained(graph) == {f"layer.weight_{kind}_l{n}" for kind in ("ih", "hh") for n in (0, 1)}


def test_name_as_it_was_in_the_file_still_means_the_tensor(tmp_path: Path) -> None:
    card = msgspec.structs.replace(CARD, trainable="onnx::MatMul_34,head.bias", local="onnx::MatMul_34")
    graph = taken(perceptron("onnx::MatMul_34"), tmp_path, card)
    assert trained(graph) == {"head.weight", "head.bias"}
    assert (graph.card.trainable, graph.card.local) == ("head.weight,head.bias", "head.weight")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("/encoder/layers.0/linear1/MatMul", "encoder.layers.0.linear1"),
        ("/features/features.0/features.0.1/Conv", "features.0.1"),
        ("/0/inner/inner.2/Conv", "0.inner.2"),
        ("MatMul_3", ""),
    ],
)
def test_module_of_a_node_is_called_as_in_the_state_dict(name: str, expected: str) -> None:
    assert module(N("MatMul", ["a", "b"], ["c"], name=name)) == expected


def test_pattern_that_trains_a_bias_and_not_its_weight_is_noted(tmp_path: Path) -> None:
    card = msgspec.structs.replace(CARD, trainable="head.*")
    graph = taken(perceptron("W"), tmp_path, card)
    expected = "trainable: 'head.*' trains head.bias (2 values), but not the weight of that layer, W (16 values)"
    assert any(n.startswith(expected) for n in graph.notes)
    for wanted in ("head.*,W", "*.bias,head.bias", "*"):  # all of it, biases on purpose, everything
        graph = taken(perceptron("W"), tmp_path, msgspec.structs.replace(CARD, trainable=wanted))
        assert not any(n.startswith("trainable: ") for n in graph.notes), wanted


def test_pattern_that_matches_nothing_is_noted_or_refused(tmp_path: Path) -> None:
    card = msgspec.structs.replace(CARD, trainable="body.*,haed.*")
    text = "trainable: 'haed.*' matches no tensor of the file; did you mean 'head."
    assert any(text in n for n in taken(perceptron("onnx::MatMul_34"), tmp_path, card).notes)
    with pytest.raises(ModelError, match=r"no float initializer matches trainable 'haed\.\*'; did you mean 'head\."):
        taken(perceptron("W"), tmp_path, msgspec.structs.replace(CARD, trainable="haed.*"))


@pytest.mark.parametrize(
    ("local", "expected"),
    [
        ("val_1*", {"head.weight", "val_13"}),
        ("val_1[3]", {"val_13"}),
        ("val_1[2]", {"head.weight"}),
        ("val_13, val_12", {"head.weight", "val_13"}),
        ("[!b]*", {"head.weight", "head.bias", "val_13"}),
    ],
)
def test_pattern_of_what_stays_means_the_tensors_that_it_matched_in_the_file(
    local: str, expected: set[str], tmp_path: Path
) -> None:
    """`val_12` gets the name of its layer, and `val_13` keeps its own."""
    model = perceptron("val_12")
    model.graph.node[-1].output[0] = "z"
    model.graph.node.append(N("Mul", ["z", "val_13"], ["y"]))
    model.graph.initializer.append(onnx.numpy_helper.from_array(normal(2), "val_13"))
    graph = taken(model, tmp_path, msgspec.structs.replace(CARD, local=local))
    assert {*local_tensors(graph)} == expected


def test_scalar_behind_an_identity_stays_where_it_is_read(tmp_path: Path) -> None:
    model = perceptron("W")
    model.graph.node[-1].output[0] = "z"
    model.graph.node.extend([N("Identity", ["two"], ["again"]), N("Mul", ["z", "again"], ["y"])])
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(2, np.float32), "two"))
    assert "W" in trained(taken(model, tmp_path))


def test_weight_of_a_gemm_is_named_by_its_bias_and_through_an_identity(tmp_path: Path) -> None:
    """As optimisers write it, who join the product and the addition and drop the names of nodes."""
    nodes = [
        N("Identity", ["onnx::MatMul_4"], ["again"]),
        N("Gemm", ["x", "again", "layers.0.linear1.bias"], ["h"]),
        N("Tanh", ["h"], ["y"]),
    ]
    model = small(nodes, {"onnx::MatMul_4": normal(4, 3), "layers.0.linear1.bias": normal(3)}, (4,), (3,))
    assert trained(taken(model, tmp_path)) == {"layers.0.linear1.weight", "layers.0.linear1.bias"}


def test_prefix_of_a_merged_file_stays_before_the_name(tmp_path: Path) -> None:
    model = perceptron("net/onnx::MatMul_34", "net//blocks/blocks.1/MatMul", "shift")
    assert "net/blocks.1.weight" in trained(taken(model, tmp_path))
