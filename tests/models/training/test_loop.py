# SPDX-License-Identifier: Apache-2.0
"""Gradients against central differences, forward against ONNX Runtime, and the training loop's promises."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from fedge_models.errors import ModelError
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.training import losses
from fedge_models.training.config import TrainingConfig
from fedge_models.training.evaluation import auroc, evaluate, macro_f1
from fedge_models.training.loop import fit
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from support.examples import examples
from support.graphs import RAW, N, check_gradient, ints, load, normal, run_ort, small

ANOMALY = Card("anomaly", (Channel("a"),), WindowSpec(10, 24, 8), ("mean",))


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (zoo.mlp(RAW, 10), (10,)),
        (zoo.table(RAW, 10, (6, 4), 3), (10,)),
        (zoo.table(RAW, (5, 1), (6,), 4), (5, 1)),
        (zoo.autoencoder(ANOMALY, 10, (6, 3)), (10,)),
        (zoo.cnn1d(RAW, (4, 6), (5, 3)), (2, 24)),
        (zoo.cnn2d(RAW, (2, 13, 8), (4, 9)), (2, 13, 8)),
    ],
    ids=["mlp", "table", "table of rows", "autoencoder", "cnn1d", "cnn2d"],
)
def test_zoo_graphs(model: onnx.ModelProto, shape: tuple[int, ...]) -> None:
    onnx.checker.check_model(model, full_check=True)
    graph, x = load(model), normal(6, *shape)
    assert graph.input_shape == shape
    np.testing.assert_allclose(graph.forward(x), run_ort(model.SerializeToString(), x), rtol=1e-5, atol=1e-5)
    check_gradient(model, x)


def test_shared_parameter_sums_its_gradients() -> None:
    nodes = [N("MatMul", ["x", "w"], ["h"]), N("Tanh", ["h"], ["t"]), N("MatMul", ["t", "w"], ["y"])]
    check_gradient(small(nodes, {"w": normal(4, 4)}, (4,), (4,)), normal(3, 4))


def test_frozen_tensors_stay_and_do_not_travel() -> None:
    graph = load(zoo.mlp(RAW, 10), "dense2.*")
    assert [t.name for t in graph.layout] == ["dense2.weight", "dense2.bias"]
    check_gradient(zoo.mlp(RAW, 10), normal(5, 10), "dense2.*")


def test_losses_have_the_gradients_they_say() -> None:
    logits, labels, weights = normal(5, 3), ints(0, 1, 2, 1, 0), np.array([1, 2, 3], np.float32)
    for w in (None, weights):
        _, grad = losses.adjusted_cross_entropy(logits, labels, w)
        for i in (0, 7, 14):
            up: NDArray[Any] = logits.astype(np.float64)  # losses are typed for float32, and work in any precision
            down = up.copy()
            up.flat[i] += 1e-5
            down.flat[i] -= 1e-5
            slope = (
                losses.adjusted_cross_entropy(up, labels, w)[0] - losses.adjusted_cross_entropy(down, labels, w)[0]
            ) / 2e-5
            assert grad.flat[i] == pytest.approx(slope, abs=1e-5)


# --- the loop ---------------------------------------------------------------------------------------------------


def blobs(n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, n)
    return (rng.normal(size=(n, 10)) + 2 * np.eye(3, 10)[y]).astype(np.float32), y.astype(np.int64)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_training_learns(optimizer: str) -> None:
    graph, (x, y) = load(zoo.mlp(RAW, 10)), blobs()
    before = evaluate(graph, x, y)["accuracy"]
    report = fit(graph, x, y, TrainingConfig(optimizer=optimizer, learning_rate=0.01), np.random.default_rng(1))
    assert report.rows == 300 and not report.diverged and len(report.losses) == 5
    assert evaluate(graph, x, y)["accuracy"] > 0.85 > before


def test_training_is_deterministic() -> None:
    x, y = blobs()
    runs = []
    for _ in range(2):
        graph = load(zoo.mlp(RAW, 10))
        fit(graph, x, y, TrainingConfig(epochs=1), np.random.default_rng(3))
        runs.append(graph.params.copy())
    assert (runs[0] == runs[1]).all()


def test_autoencoder_learns_to_reconstruct() -> None:
    graph, (x, _) = load(zoo.autoencoder(ANOMALY, 10, (8, 4))), blobs()
    before = evaluate(graph, x, None)["loss"]
    fit(graph, x, None, TrainingConfig(epochs=30, learning_rate=0.01), np.random.default_rng(1))
    assert evaluate(graph, x, None)["loss"] < 0.7 * before


def test_proximal_term_keeps_the_weights_near() -> None:
    x, y = blobs()
    moved = []
    for mu in (0.0, 10.0):
        graph = load(zoo.mlp(RAW, 10))
        start = graph.params.copy()
        fit(graph, x, y, TrainingConfig(optimizer="sgd", learning_rate=0.01, proximal_mu=mu), np.random.default_rng(1))
        moved.append(float(np.linalg.norm(graph.params - start)))
    assert moved[1] < 0.5 * moved[0]


def test_rows_that_are_not_finite_are_dropped_and_counted() -> None:
    graph, (x, y) = load(zoo.mlp(RAW, 10)), blobs(64)
    x[3, 2], x[9, 0] = np.nan, np.inf
    report = fit(graph, x, y, TrainingConfig(epochs=1), np.random.default_rng(1))
    assert (report.rows, report.dropped) == (62, 2) and np.isfinite(graph.params).all()


def test_divergence_is_rolled_back_and_reported() -> None:
    graph, (x, y) = load(zoo.mlp(RAW, 10)), blobs()
    start = graph.params.copy()
    report = fit(graph, x, y, TrainingConfig(optimizer="sgd", learning_rate=1e6), np.random.default_rng(1))
    assert report.diverged and (graph.params == start).all()


def test_pause_is_called_before_each_batch() -> None:
    calls: list[int] = []
    x, y = blobs(100)
    fit(load(zoo.mlp(RAW, 10)), x, y, TrainingConfig(epochs=2), np.random.default_rng(1), lambda: calls.append(1))
    assert len(calls) == 2 * 4


def test_metrics_against_worked_examples() -> None:
    assert auroc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True])) == pytest.approx(0.75)
    assert auroc(np.array([1.0, 1.0]), np.array([False, True])) == 0.5
    assert macro_f1(ints(0, 0, 1, 1), ints(0, 1, 1, 1)) == pytest.approx((2 / 3 + 4 / 5) / 2)


def test_rows_of_the_wrong_shape_are_the_callers_mistake() -> None:
    with pytest.raises(ValueError, match="expects"):
        fit(load(zoo.mlp(RAW, 10)), normal(4, 9), ints(0, 0, 0, 0), TrainingConfig(), np.random.default_rng(1))


# --- hostile and unfit files ------------------------------------------------------------------------------------


def test_old_opset_is_refused() -> None:
    with pytest.raises(ModelError, match="has opset 12, expected 13 to"):
        load(small([N("MatMul", ["x", "w"], ["y"])], {"w": normal(4, 4)}, (4,), (4,), opset=12))


def test_operator_without_gradient_is_refused_by_name() -> None:
    model = small(
        [N("Gemm", ["x", "w"], ["h"]), N("Hardmax", ["h"], ["y"], name="odd")], {"w": normal(4, 4)}, (4,), (4,)
    )
    with pytest.raises(ModelError, match=r"'odd' \(Hardmax\)"):
        load(model)


@pytest.mark.parametrize("cut", [0, 1, 10, 200, -1, -20])
def test_truncated_file_is_refused(cut: int) -> None:
    data = zoo.mlp(RAW, 10).SerializeToString()
    with pytest.raises(ModelError):
        TrainableGraph.load(data[:cut])


def test_external_data_is_refused() -> None:
    model = zoo.mlp(RAW, 10)
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    with pytest.raises(ModelError, match="outside the file"):
        load(model)


@pytest.mark.parametrize("dims", [[1 << 40, 1 << 20], [-5], [1 << 20]])
def test_false_shape_claims_are_refused(dims: list[int]) -> None:
    model = zoo.mlp(RAW, 10)
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend(dims)
    with pytest.raises(ModelError, match=r"dense0\.weight"):
        load(model)


def test_missing_card_is_named() -> None:
    model = zoo.mlp(RAW, 10)
    del model.metadata_props[:]
    with pytest.raises(ModelError, match="no model card"):
        load(model)


def test_weights_that_are_not_finite_are_refused() -> None:
    model = zoo.mlp(RAW, 10)
    bad = numpy_helper.to_array(model.graph.initializer[1]).copy()
    bad[0] = np.nan
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(bad, model.graph.initializer[1].name))
    with pytest.raises(ModelError, match="not finite"):
        load(model)


def test_model_whose_names_are_not_utf8_is_refused() -> None:
    """On Python 3.10 onnx's checker then raises an exception without a word."""
    model = zoo.mlp(RAW, 10).SerializeToString()
    with pytest.raises(ModelError, match=r"not a valid ONNX model: ."):
        TrainableGraph.load(model.replace(b"dense0.weight", b"\x80ense0.weight", 1))


@pytest.mark.parametrize("schemas", [True, False])
@given(data=st.data())
@settings(max_examples=examples(400), deadline=None)
def test_damaged_model_file_is_refused_or_whole(schemas: bool, data: st.DataObject) -> None:
    model = bytearray(
        zoo.mlp(Card("classify", RAW.channels, RAW.window, ("mean",), labels=RAW.labels), 2, (3,)).SerializeToString()
    )
    for _ in range(data.draw(st.integers(1, 4))):
        model[data.draw(st.integers(0, len(model) - 1))] = data.draw(st.integers(0, 255))
    try:
        graph = TrainableGraph.load(bytes(model), schemas=schemas)
    except ModelError:
        return
    assert np.isfinite(graph.params).all()
