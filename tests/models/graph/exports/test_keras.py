# SPDX-License-Identifier: Apache-2.0
"""Networks exported by Keras 3, which is tf2onnx: time before channels, colours last; made by tests/vectors/keras."""

from __future__ import annotations

from pathlib import Path
from shutil import copy
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime
import pytest
from fedge_models.graph.card import Card, Channel, ImageSpec, Task, WindowSpec
from fedge_models.graph.intake import read_model
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.model import Model
from fedge_models.training.config import TrainingConfig
from numpy.typing import NDArray
from support.exports.by_value import by_value
from support.exports.recordings import card_file, pictures, trained_parameters
from support.paths import ROOT

FOLDER = ROOT / "tests/vectors/keras"
FEATURES = ("mean", "std", "max")


class Case(NamedTuple):
    """What the card says of a network, and the share of its parameters that stand in the file with their values."""

    found: float
    task: Task = "classify"
    labels: tuple[str, ...] = ("ok", "worn", "blocked")
    shared: tuple[str, ...] = ()


CASES = {
    "mlp": Case(0.85),
    "sigmoid": Case(1.0, labels=("ok", "bad")),
    "autoencoder": Case(1.0, "anomaly"),
    "conv1d": Case(1.0),
    "conv1d_norm": Case(0.3),
    "lstm": Case(1.0),
    "gru": Case(0.85),
    "gru_unrolled": Case(0.8),
    "bilstm": Case(1.0),
    "lstm_autoencoder": Case(0.9, "anomaly"),
    "attention": Case(0.99),
    "conv2d": Case(1.0),
    "inverted": Case(0.5),
}


class Given(NamedTuple):
    """What Keras gave: rows and outputs as a gateway has them; values and gradients of all variables."""

    x: NDArray[np.float32]
    y: NDArray[np.float32]
    w: NDArray[np.float32]
    values: NDArray[np.float32]
    grads: NDArray[np.float32]


def given(name: str) -> Given:
    with np.load(FOLDER / f"{name}.npz") as file:
        return Given(*(file[k] for k in Given._fields))


def turned(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Channels before time, or before height and width."""
    return np.moveaxis(x, -1, 1)


def card(case: Case, x: NDArray[np.float32]) -> Card:
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
        shared=case.shared,
    )


def probabilities(z: NDArray[np.float32]) -> NDArray[np.float32]:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def expected(case: Case, found: Given, logits: bool) -> NDArray[np.float32]:
    """Keras' output as a gateway sees it: probabilities of each class, or the reconstruction."""
    if case.task == "anomaly":
        return turned(found.y)
    if len(case.labels) == 2:
        return np.concatenate([1 - found.y, found.y], axis=1)
    return probabilities(found.y) if logits else found.y


def backward(graph: TrainableGraph, case: Case, found: Given, rows: NDArray[np.float32]) -> None:
    """Fill the gradient of the loss sum(w * y) that the file holds, y being what Keras gives."""
    if case.task == "anomaly" or not graph.gives_probabilities:
        graph.forward(rows)
        graph.backward(np.asarray(turned(found.w) if case.task == "anomaly" else found.w, graph.params.dtype))
        return
    p = probabilities(graph.logits(rows))
    w = np.concatenate([np.zeros_like(found.w), found.w], axis=1) if len(case.labels) == 2 else found.w
    graph.backward(np.asarray(p * (w - (w * p).sum(axis=1, keepdims=True)), graph.params.dtype))


@pytest.mark.parametrize("name", CASES)
def test_network_of_keras_trains_as_in_tensorflow(name: str) -> None:
    case, found, path = CASES[name], given(name), FOLDER / f"{name}.onnx"
    data, rows = read_model(path, card(case, found.x)), turned(found.x)
    model = Model(data)
    model.graph.probe()
    assert model.graph.input_shape == rows.shape[1:]
    logits = not model.graph.gives_probabilities
    y = model.graph.logits(rows).copy() if case.task == "classify" else model.graph.forward(rows).copy()
    got = probabilities(y) if case.task == "classify" else y
    np.testing.assert_allclose(got, expected(case, found, logits), rtol=1e-4, atol=1e-5)

    graph = TrainableGraph.load(data, dtype=np.float64)
    backward(graph, case, found, rows)
    place, known = by_value(found.values, graph.params.astype(np.float32))
    theirs, ours = found.grads[place[known]], graph.grad[known]
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4 * np.abs(found.grads).max())
    assert known.sum() >= case.found * found.values.size, (known.sum(), found.values.size)

    targets = None if case.task == "anomaly" else np.arange(len(rows)) % len(case.labels)
    before = model.graph.params.copy()
    assert not model.train(rows, targets, TrainingConfig(epochs=2, batch=3)).diverged
    assert not np.array_equal(before, model.graph.params)
    session = onnxruntime.InferenceSession(model.to_bytes(), providers=["CPUExecutionProvider"])
    (served,) = session.run(None, {session.get_inputs()[0].name: rows})
    np.testing.assert_allclose(model.graph.forward(rows), served, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "head"), [("conv2d", "*dense*"), ("inverted", "*dense*")])
def test_network_with_colours_last_trains_on_a_folder_of_pictures(name: str, head: str, tmp_path: Path) -> None:
    case, file = CASES[name], Path(copy(FOLDER / f"{name}.onnx", tmp_path))
    data = pictures(case.labels, tmp_path / "camera")
    given_card = card_file(card(case, given(name).x), tmp_path / "card.toml")
    whole, alone = (trained_parameters(file, given_card, data, patterns) for patterns in ("*", head))
    assert 0 < alone < whole


def test_gru_of_keras_is_a_loop_whose_steps_share_their_weights() -> None:
    assert "Loop" in {n.op_type for n in onnx.load(FOLDER / "gru.onnx").graph.node}
    graph = Model(read_model(FOLDER / "gru.onnx", card(CASES["gru"], given("gru").x))).graph
    assert len(graph.layout) == 5  # three of the layer and two of the head, and no copies
    assert any(n.startswith("loops: 1 Loop became the steps that it always has") for n in graph.notes)
