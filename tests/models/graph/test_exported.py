# SPDX-License-Identifier: Apache-2.0
"""Classifiers as other tools export them: reduced to one output, with the same probabilities."""

from __future__ import annotations

import warnings
from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
from fedge_models.errors import ModelError
from fedge_models.graph.card import Card, Channel, ImageSpec, WindowSpec, write_card
from fedge_models.graph.intake import read_model
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.messages.quantize import spread
from fedge_models.training.config import TrainingConfig
from fedge_models.training.evaluation import evaluate
from fedge_models.training.loop import fit
from support.counterparts import counterpart
from support.graphs import N, ints, normal, run_ort, small

CARD = Card("classify", tuple(Channel(c) for c in "abcd"), WindowSpec(1, 1, 1), labels=("ok", "bad"))
RNG = np.random.default_rng(5)


def save(model: onnx.ModelProto, card: Card, path: Path) -> bytes:
    write_card(model, card)
    path.write_bytes(model.SerializeToString())
    return read_model(path)


@pytest.mark.parametrize("zipmap", [True, False])
@pytest.mark.parametrize("classes", [2, 3])
def test_classifier_of_scikit_learn_goes_on_training(classes: int, zipmap: bool, tmp_path: Path) -> None:
    counterpart("skl2onnx")
    from skl2onnx import to_onnx
    from sklearn.neural_network import MLPClassifier

    x = RNG.normal(size=(300, 4)).astype(np.float32)
    y = np.digitize(x[:, 0] * x[:, 1], [0.0, 0.7][: classes - 1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is not trained to the end here
        net = MLPClassifier((16,), max_iter=3, random_state=0).fit(x, y)
        model = to_onnx(net, x[:1], target_opset=17, options={} if zipmap else {id(net): {"zipmap": False}})
    labels = ("ok", "bad", "worse")[:classes]
    data = save(model, msgspec.structs.replace(CARD, labels=labels), tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    (served,) = session.run(None, {session.get_inputs()[0].name: x})
    np.testing.assert_allclose(served, net.predict_proba(x), rtol=1e-4, atol=1e-5)
    graph = TrainableGraph.load(data)
    assert graph.gives_probabilities
    before = evaluate(graph, x, y)
    fit(graph, x, y, TrainingConfig(epochs=60, learning_rate=0.01), np.random.default_rng(0))
    assert evaluate(graph, x, y)["accuracy"] > max(0.9, before["accuracy"])


def test_one_sigmoid_becomes_two_classes(tmp_path: Path) -> None:
    """As Keras writes a dense layer of one unit."""
    nodes = [N("MatMul", ["x", "w"], ["m"]), N("Add", ["m", "b"], ["z"]), N("Sigmoid", ["z"], ["y"])]
    model, x = small(nodes, {"w": normal(4, 1), "b": normal(1)}, (4,), (1,)), normal(7, 4)
    p = run_ort(model.SerializeToString(), x)
    data = save(model, CARD, tmp_path / "m.onnx")
    np.testing.assert_allclose(run_ort(data, x), np.hstack([1 - p, p]), rtol=1e-5, atol=1e-6)
    graph = TrainableGraph.load(data)
    assert [t.name for t in graph.layout] == ["w", "b"] and graph.gives_probabilities
    np.testing.assert_allclose(graph.logits(x)[:, 1], np.log(p / (1 - p))[:, 0], rtol=1e-3, atol=1e-4)


def test_channels_last_network_as_tf2onnx_writes_it(tmp_path: Path) -> None:
    nodes = [
        N("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        N("Conv", ["t", "k"], ["c"], auto_pad="SAME_UPPER", strides=[2, 2]),
        N("Transpose", ["c"], ["l"], perm=[0, 2, 3, 1]),
        N("Add", ["l", "kb"], ["a"]),
        N("Relu", ["a"], ["r"]),
        N("Reshape", ["r", "flat"], ["f"]),
        N("MatMul", ["f", "d"], ["m"]),
        N("Add", ["m", "db"], ["z"]),
        N("Softmax", ["z"], ["y"]),
    ]
    tensors = {"k": normal(3, 3, 3, 3), "kb": normal(3), "flat": ints(-1, 27), "d": normal(27, 2), "db": normal(2)}
    model, x = small(nodes, tensors, (6, 5, 3), (2,)), normal(4, 6, 5, 3)
    expected = run_ort(model.SerializeToString(), x)
    image = ImageSpec(6, 5, "rgb")
    card = msgspec.structs.replace(CARD, channels=(Channel("camera"),), image=image)
    data = save(model, card, tmp_path / "m.onnx")
    graph = TrainableGraph.load(data)
    assert [t.name for t in graph.layout] == ["k", "kb", "d", "db"] and graph.input_shape == image.shape
    x = np.moveaxis(x, -1, 1)  # as a gateway has pictures
    np.testing.assert_allclose(graph.forward(x), run_ort(data, x), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(run_ort(data, x), expected, rtol=1e-5, atol=1e-5)


def trained(**outputs: list[str]) -> onnx.ModelProto:
    nodes = [
        N("BatchNormalization", ["x", "s", "b", "m", "v"], ["n", *outputs.get("more", [])], training_mode=1),
        N("Dropout", ["n", "ratio", "on"], ["d", "mask"]),
        N("Gemm", ["d", "w"], ["g"]),
        N("Add", ["g", *outputs.get("add", ["c"])], ["y"]),
    ]
    tensors = {
        "s": normal(4),
        "b": normal(4),
        "m": normal(4),
        "v": 1 + normal(4) ** 2,
        "w": normal(4, 4),
        "c": normal(4),
    }
    return small(nodes, {**tensors, "ratio": np.array(0.5, np.float32), "on": np.array(True)}, (4,), (4,))


def test_network_exported_in_training_mode_serves_as_it_trains(tmp_path: Path) -> None:
    four = msgspec.structs.replace(CARD, labels=tuple("abcd"))
    data, x = save(trained(more=["mean", "var"]), four, tmp_path / "m.onnx"), normal(5, 4)
    np.testing.assert_allclose(run_ort(data, x), TrainableGraph.load(data).forward(x), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(run_ort(data, x[:1]), run_ort(data, x)[:1], rtol=1e-5, atol=1e-5)


def test_statistics_of_a_batch_that_are_used_are_refused(tmp_path: Path) -> None:
    four = msgspec.structs.replace(CARD, labels=tuple("abcd"))
    with pytest.raises(ModelError, match="'mean' is used elsewhere"):
        save(trained(more=["mean", "var"], add=["mean"]), four, tmp_path / "m.onnx")


def test_batch_that_an_exporter_fixed_may_be_any(tmp_path: Path) -> None:
    model, x = small([N("Gemm", ["x", "w"], ["y"])], {"w": normal(4, 2)}, (4,), (2,)), normal(5, 4)
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = 3
    data = save(model, CARD, tmp_path / "m.onnx")
    np.testing.assert_allclose(TrainableGraph.load(data).forward(x), run_ort(data, x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("patterns", ["*", "w,empty"])
def test_a_tensor_without_values_is_not_trained(patterns: str) -> None:
    """A layer that was pruned to no unit: its tensor has no spread that a grid could have a step of."""
    nodes = [N("Gemm", ["x", "w"], ["a"]), N("Gemm", ["x", "empty"], ["b"]), N("Concat", ["a", "b"], ["y"], axis=1)]
    model = small(nodes, {"w": normal(4, 3), "empty": normal(4, 0)}, (4,), (3,))
    graph, x = TrainableGraph.load(model.SerializeToString(), patterns), normal(5, 4)
    assert [tensor.name for tensor in graph.layout] == ["w"]
    np.testing.assert_allclose(graph.forward(x), run_ort(model.SerializeToString(), x), rtol=1e-5, atol=1e-6)
    fit(graph, x, np.array([0, 1, 2, 0, 1]), TrainingConfig(epochs=1), np.random.default_rng(0))
    assert spread(graph.params, graph.sizes, 0.5).shape == (1,)
