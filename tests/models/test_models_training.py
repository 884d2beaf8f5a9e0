"""Gradients against central differences, forward against ONNX Runtime, and the training loop's promises."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from fedge_models import losses, zoo
from fedge_models.card import Card, Channel, WindowSpec, write_card
from fedge_models.errors import ModelError
from fedge_models.graph import TrainableGraph
from fedge_models.ops.registry import OPERATORS
from fedge_models.training import TrainingConfig, auroc, evaluate, fit, macro_f1
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

RAW = Card("classify", (Channel("a"), Channel("b")), WindowSpec(10, 24, 8), labels=("ok", "bad", "worse"))
ANOMALY = Card("anomaly", (Channel("a"),), WindowSpec(10, 24, 8), ("mean",))
RNG = np.random.default_rng(7)


def load(model: onnx.ModelProto, trainable: str | None = None) -> TrainableGraph:
    return TrainableGraph.load(model.SerializeToString(), trainable)


def run_ort(model: bytes, x: np.ndarray) -> np.ndarray:
    import onnxruntime

    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


def small(nodes: list[Any], tensors: dict[str, np.ndarray], x: tuple[int, ...], y: tuple[int, ...]) -> onnx.ModelProto:
    """A graph of the given nodes from x to y."""
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", *s]) for n, s in (("x", x), ("y", y))]
    graph = helper.make_graph(
        nodes, "g", [values[0]], [values[1]], [numpy_helper.from_array(v, k) for k, v in tensors.items()]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    write_card(model, RAW)
    return model


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


N = helper.make_node
# Each operator between a trainable product before it and the output, so that its input gradient is checked too.
CASES: dict[str, tuple[list[Any], dict[str, np.ndarray], tuple[int, ...]]] = {
    "Gemm": (
        [N("Gemm", ["h", "w", "b"], ["y"], alpha=0.5, beta=2.0, transB=1)],
        {"w": normal(3, 12), "b": normal(3)},
        (3,),
    ),
    "MatMul": ([N("MatMul", ["h", "w"], ["y"])], {"w": normal(12, 3)}, (3,)),
    "Add": ([N("Add", ["h", "b"], ["y"])], {"b": normal(1, 12)}, (12,)),
    "Sub": ([N("Sub", ["b", "h"], ["y"])], {"b": normal(12)}, (12,)),
    "Mul": ([N("Mul", ["h", "b"], ["y"])], {"b": normal(12)}, (12,)),
    "Div": ([N("Div", ["h", "b"], ["y"])], {"b": 2 + np.abs(normal(12))}, (12,)),
    "Relu": ([N("Relu", ["h"], ["y"])], {}, (12,)),
    "LeakyRelu": ([N("LeakyRelu", ["h"], ["y"], alpha=0.2)], {}, (12,)),
    "Elu": ([N("Elu", ["h"], ["y"], alpha=0.7)], {}, (12,)),
    "Sigmoid": ([N("Sigmoid", ["h"], ["y"])], {}, (12,)),
    "Tanh": ([N("Tanh", ["h"], ["y"])], {}, (12,)),
    "Softmax": ([N("Softmax", ["h"], ["y"])], {}, (12,)),
    "Identity": ([N("Identity", ["h"], ["y"])], {}, (12,)),
    "Flatten": ([N("Reshape", ["h", "s"], ["r"]), N("Flatten", ["r"], ["y"])], {"s": ints(0, 3, 4)}, (12,)),
    "Reshape": ([N("Reshape", ["h", "s"], ["y"])], {"s": ints(0, 3, -1)}, (3, 4)),
    "Transpose": (
        [N("Reshape", ["h", "s"], ["r"]), N("Transpose", ["r"], ["y"], perm=[0, 2, 1])],
        {"s": ints(0, 3, 4)},
        (4, 3),
    ),
    "Squeeze": (
        [N("Reshape", ["h", "s"], ["r"]), N("Squeeze", ["r", "a"], ["y"])],
        {"s": ints(0, 1, 12), "a": ints(1)},
        (12,),
    ),
    "Unsqueeze": ([N("Unsqueeze", ["h", "a"], ["y"])], {"a": ints(1)}, (1, 12)),
    "Concat": ([N("Concat", ["h", "h"], ["y"], axis=1)], {}, (24,)),
    "ReduceMean": (
        [N("Reshape", ["h", "s"], ["r"]), N("ReduceMean", ["r"], ["y"], axes=[2], keepdims=0)],
        {"s": ints(0, 3, 4)},
        (3,),
    ),
    "Conv": (
        [N("Reshape", ["h", "s"], ["r"]), N("Conv", ["r", "w", "b"], ["y"], strides=[2], pads=[1, 2], dilations=[2])],
        {"s": ints(0, 2, 6), "w": normal(3, 2, 3), "b": normal(3)},
        (3, 3),
    ),
    "MaxPool": (
        [N("Reshape", ["h", "s"], ["r"]), N("MaxPool", ["r"], ["y"], kernel_shape=[3], strides=[2], pads=[1, 0])],
        {"s": ints(0, 2, 6)},
        (2, 3),
    ),
    "AveragePool": (
        [N("Reshape", ["h", "s"], ["r"]), N("AveragePool", ["r"], ["y"], kernel_shape=[3], strides=[2], pads=[1, 0])],
        {"s": ints(0, 2, 6)},
        (2, 3),
    ),
    "GlobalAveragePool": (
        [N("Reshape", ["h", "s"], ["r"]), N("GlobalAveragePool", ["r"], ["y"])],
        {"s": ints(0, 2, 6)},
        (2, 1),
    ),
}


def case(op_type: str) -> onnx.ModelProto:
    nodes, tensors, shape = CASES[op_type]
    first = N("Gemm", ["x", "w0", "b0"], ["h"])
    return small([first, *nodes], {"w0": normal(5, 12), "b0": normal(12), **tensors}, (5,), shape)


def test_every_operator_has_a_case() -> None:
    assert set(CASES) == set(OPERATORS)


@pytest.mark.parametrize("op_type", CASES)
def test_forward_equals_onnx_runtime(op_type: str) -> None:
    model, x = case(op_type), normal(4, 5)
    np.testing.assert_allclose(load(model).forward(x), run_ort(model.SerializeToString(), x), rtol=1e-5, atol=1e-5)


def numeric(graph: TrainableGraph, x: np.ndarray, weight: np.ndarray, index: int) -> float:
    """Central difference of sum(weight * y) by one parameter, accumulated in float64."""
    step, kept = 4e-3, graph.params[index]
    sums = []
    for sign in (1, -1):
        graph.params[index] = kept + sign * step
        sums.append(float((graph.forward(x).astype(np.float64) * weight).sum()))
    graph.params[index] = kept
    return (sums[0] - sums[1]) / (2 * step)


def check_gradient(graph: TrainableGraph, x: np.ndarray, count: int = 40) -> None:
    weight = RNG.normal(size=graph.forward(x).shape)
    graph.forward(x)
    graph.backward(weight.astype(np.float32))
    grad = graph.grad.copy()
    chosen = RNG.permutation(grad.size)[:count]
    got = np.array([numeric(graph, x, weight, i) for i in chosen])
    scale = np.abs(grad).max() + 1e-6
    # A kink (Relu, MaxPool) inside the step makes single differences meaningless: nearly all must agree.
    assert np.mean(np.abs(grad[chosen] - got) < 0.01 * scale) >= 0.9, (grad[chosen], got)


@pytest.mark.parametrize("op_type", CASES)
def test_gradient_equals_central_differences(op_type: str) -> None:
    check_gradient(load(case(op_type)), normal(4, 5))


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (zoo.mlp(RAW, 10), (10,)),
        (zoo.autoencoder(ANOMALY, 10, (6, 3)), (10,)),
        (zoo.cnn1d(RAW, (4, 6), (5, 3)), (2, 24)),
    ],
    ids=["mlp", "autoencoder", "cnn1d"],
)
def test_zoo_graphs(model: onnx.ModelProto, shape: tuple[int, ...]) -> None:
    onnx.checker.check_model(model, full_check=True)
    graph, x = load(model), normal(6, *shape)
    assert graph.input_shape == shape
    np.testing.assert_allclose(graph.forward(x), run_ort(model.SerializeToString(), x), rtol=1e-4, atol=1e-5)
    check_gradient(graph, x)


def test_shared_parameter_sums_its_gradients() -> None:
    nodes = [N("MatMul", ["x", "w"], ["h"]), N("Tanh", ["h"], ["t"]), N("MatMul", ["t", "w"], ["y"])]
    check_gradient(load(small(nodes, {"w": normal(4, 4)}, (4,), (4,))), normal(3, 4))


def test_frozen_tensors_stay_and_do_not_travel() -> None:
    graph = load(zoo.mlp(RAW, 10), "dense2.*")
    assert [t.name for t in graph.layout] == ["dense2.weight", "dense2.bias"]
    check_gradient(graph, normal(5, 10))


def test_weights_survive_a_trip_through_a_file() -> None:
    graph, x = load(zoo.mlp(RAW, 10)), normal(5, 10)
    graph.params += 0.1
    again = graph.model_bytes(graph.params)
    np.testing.assert_allclose(graph.forward(x), run_ort(again, x), rtol=1e-4, atol=1e-5)


def test_losses_have_the_gradients_they_say() -> None:
    logits, labels, weights = normal(5, 3), ints(0, 1, 2, 1, 0), np.array([1, 2, 3], np.float32)
    for w in (None, weights):
        _, grad = losses.cross_entropy(logits, labels, w)
        for i in (0, 7, 14):
            up, down = logits.astype(np.float64), logits.astype(np.float64)
            up.flat[i] += 1e-5
            down.flat[i] -= 1e-5
            slope = (losses.cross_entropy(up, labels, w)[0] - losses.cross_entropy(down, labels, w)[0]) / 2e-5
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


def test_operator_without_gradient_is_refused_by_name() -> None:
    model = small([N("Gemm", ["x", "w"], ["h"]), N("Erf", ["h"], ["y"], name="odd")], {"w": normal(4, 4)}, (4,), (4,))
    with pytest.raises(ModelError, match=r"'odd' \(Erf\)"):
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


@pytest.mark.parametrize("schemas", [True, False])
@given(data=st.data())
@settings(max_examples=400, deadline=None)
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
