# SPDX-License-Identifier: Apache-2.0
"""Networks of Keras 3, as its `export` writes them (tests/vectors/keras): they train as in TensorFlow."""

from __future__ import annotations

import json
from typing import NamedTuple

import numpy as np
import onnxruntime
from fedge_models.graph.card import Card, Channel, ImageSpec, Task, WindowSpec
from fedge_models.graph.intake import read_model
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.model import Model
from fedge_models.training.config import TrainingConfig
from numpy.typing import NDArray

from support.paths import ROOT

from .by_value import by_value
from .parts import TRAINS, Found, found

FOLDER = ROOT / "tests/vectors/keras"
PART = "Networks of Keras"  # of the page, and its heading
FEATURES = ("mean", "std", "max")
Floats = NDArray[np.float32]


class Case(NamedTuple):
    """What the card says of a network, its head, and the share of its parameters that stand in the file as they are."""

    text: str
    found: float
    head: str = "*dense*"
    task: Task = "classify"
    labels: tuple[str, ...] = ("ok", "worn", "blocked")


CASES = {
    "mlp": Case("MLP, BatchNormalization and Dropout, Softmax", 0.85, "*dense_1_2*"),
    "sigmoid": Case("MLP, one sigmoid", 1.0, "*dense_3*", labels=("ok", "bad")),
    "autoencoder": Case("autoencoder", 1.0, "*dense_5*", "anomaly"),
    "conv1d": Case("Conv1D net, Softmax", 1.0),
    "conv1d_norm": Case("Conv1D net, BatchNormalization, SeparableConv1D with dilation", 0.3),
    "lstm": Case("LSTM, Softmax", 1.0),
    "gru": Case("GRU", 0.85),
    "gru_unrolled": Case("GRU with unroll=True", 0.8),
    "bilstm": Case("Bidirectional LSTM", 1.0),
    "lstm_autoencoder": Case("LSTM autoencoder with RepeatVector", 0.9, "*time_distributed*", "anomaly"),
    "attention": Case("MultiHeadAttention and LayerNormalization", 0.99, "*dense_13*"),
    "conv2d": Case("Conv2D net, Softmax", 1.0),
    "inverted": Case("DepthwiseConv2D, BatchNormalization and a shortcut", 0.5),
}


class Given(NamedTuple):
    """What Keras gave: rows and outputs as a gateway has them; values and gradients of all variables."""

    x: Floats
    y: Floats
    w: Floats
    values: Floats
    grads: Floats


def versions() -> dict[str, str]:
    """The tools that wrote the files."""
    made: dict[str, str] = json.loads((FOLDER / "versions.json").read_text("utf-8"))
    return made


def given(name: str) -> Given:
    """What Keras gave for a network."""
    with np.load(FOLDER / f"{name}.npz") as file:
        return Given(*(file[k] for k in Given._fields))


def card(case: Case, x: Floats) -> Card:
    """The card as its user would write it."""
    shape = x.shape[1:]
    count = {1: shape[0] // len(FEATURES), 2: shape[-1], 3: 1}[len(shape)]
    length = {1: 64, 2: shape[0], 3: 1}[len(shape)]
    image = ImageSpec(shape[0], shape[1], "rgb" if shape[2] == 3 else "grey") if len(shape) == 3 else None
    return Card(
        case.task,
        tuple(Channel(f"c{i}") for i in range(count)),
        WindowSpec(100, length, length),
        features=FEATURES if len(shape) == 1 else (),
        labels=case.labels if case.task == "classify" else (),
        image=image,
    )


def outcome(name: str) -> tuple[Found, Found]:
    """What comes of a network trained whole, and by its head."""
    whole = found(lambda: hold(name))
    return whole, found(lambda: trained(name, CASES[name].head)) if whole.verdict == TRAINS else whole


def hold(name: str) -> None:
    """Assert that outputs and gradients are Keras', and that it trains."""
    case, theirs, path = CASES[name], given(name), FOLDER / f"{name}.onnx"
    data, rows = read_model(path, card(case, theirs.x)), turned(theirs.x)
    model = Model(data)
    model.graph.probe()
    assert model.graph.input_shape == rows.shape[1:]
    y = model.graph.logits(rows).copy() if case.task == "classify" else model.graph.forward(rows).copy()
    got = _probabilities(y) if case.task == "classify" else y
    wanted = _expected(case, theirs, not model.graph.gives_probabilities)
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)
    _same_gradients(data, case, theirs, rows)
    trained(name, "*")


def trained(name: str, patterns: str) -> int:
    """Assert that a network trains by these patterns, and what it gives then in ONNX Runtime; how many parameters."""
    case, path = CASES[name], FOLDER / f"{name}.onnx"
    x = given(name).x
    model, rows = Model(read_model(path, card(case, x), patterns)), turned(x)
    targets = None if case.task == "anomaly" else np.arange(len(rows)) % len(case.labels)
    before = model.graph.params.copy()
    assert not model.train(rows, targets, TrainingConfig(epochs=2, batch=3)).diverged, "training diverged"
    assert not np.array_equal(before, model.graph.params), "training changed nothing"
    session = onnxruntime.InferenceSession(model.to_bytes(), providers=["CPUExecutionProvider"])
    (served,) = session.run(None, {session.get_inputs()[0].name: rows})
    np.testing.assert_allclose(model.graph.forward(rows), served, rtol=1e-4, atol=1e-5)
    return before.size


def turned(x: Floats) -> Floats:
    """Channels before time, or before height and width."""
    return np.moveaxis(x, -1, 1)


def _probabilities(z: Floats) -> Floats:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def _expected(case: Case, theirs: Given, logits: bool) -> Floats:
    """Keras' output as a gateway sees it: probabilities of each class, or the reconstruction."""
    if case.task == "anomaly":
        return turned(theirs.y)
    if len(case.labels) == 2:
        return np.concatenate([1 - theirs.y, theirs.y], axis=1)
    return _probabilities(theirs.y) if logits else theirs.y


def _same_gradients(data: bytes, case: Case, theirs: Given, rows: Floats) -> None:
    graph = TrainableGraph.load(data, dtype=np.float64)
    _backward(graph, case, theirs, rows)
    place, known = by_value(theirs.values, graph.params.astype(np.float32))
    np.testing.assert_allclose(
        graph.grad[known], theirs.grads[place[known]], rtol=1e-3, atol=1e-4 * np.abs(theirs.grads).max()
    )
    assert known.sum() >= case.found * theirs.values.size, (known.sum(), theirs.values.size)


def _backward(graph: TrainableGraph, case: Case, theirs: Given, rows: Floats) -> None:
    """Fill the gradient of the loss sum(w * y) that the file holds, y being what Keras gives."""
    if case.task == "anomaly" or not graph.gives_probabilities:
        graph.forward(rows)
        graph.backward(np.asarray(turned(theirs.w) if case.task == "anomaly" else theirs.w, graph.params.dtype))
        return
    p = _probabilities(graph.logits(rows))
    w = np.concatenate([np.zeros_like(theirs.w), theirs.w], axis=1) if len(case.labels) == 2 else theirs.w
    graph.backward(np.asarray(p * (w - (w * p).sum(axis=1, keepdims=True)), graph.params.dtype))
