# SPDX-License-Identifier: Apache-2.0
"""Pipelines of scikit-learn as skl2onnx writes them by default: they train, or are refused as what they are."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from fedge_models.errors import ModelError
from fedge_models.graph.card import Card, Channel, Target, WindowSpec
from fedge_models.graph.intake import read_model
from fedge_models.model import Model
from fedge_models.training.config import TrainingConfig
from support.counterparts import counterpart

skl2onnx = counterpart("skl2onnx")
counterpart("sklearn")

from sklearn import (  # noqa: E402
    decomposition,
    ensemble,
    linear_model,
    neural_network,
    pipeline,
    preprocessing,
    svm,
    tree,
)

CHANNELS, WINDOW, FEATURES = tuple(Channel(f"c{i}") for i in range(4)), WindowSpec(100, 64, 64), ("mean", "std", "max")
RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 12)).astype(np.float32)
THREE, TWO, VALUE = X[:, :3].argmax(axis=1), (X[:, 0] > 0).astype(int), X[:, 0] + 0.5 * X[:, 1]
make = pipeline.make_pipeline
Making = Callable[[], Any]


def mlp(kind: Any, **more: Any) -> Any:
    return kind(hidden_layer_sizes=(8,), max_iter=30, random_state=0, **more)


TRAINED: dict[str, tuple[Making, Any]] = {
    "perceptron, three classes": (lambda: mlp(neural_network.MLPClassifier), THREE),
    "perceptron, two classes": (lambda: mlp(neural_network.MLPClassifier, activation="tanh"), TWO),
    "scaler and perceptron": (
        lambda: make(preprocessing.StandardScaler(), mlp(neural_network.MLPClassifier)), THREE),
    "range and perceptron": (lambda: make(preprocessing.MinMaxScaler(), mlp(neural_network.MLPClassifier)), TWO),
    "scaler and logistic regression": (
        lambda: make(preprocessing.StandardScaler(), linear_model.LogisticRegression()), THREE),
    "logistic regression, two classes": (linear_model.LogisticRegression, TWO),
    "components and logistic regression": (
        lambda: make(decomposition.PCA(5), linear_model.LogisticRegression()), THREE),
    "length one and logistic regression": (
        lambda: make(preprocessing.Normalizer(), linear_model.LogisticRegression()), THREE),
    "perceptron, a value": (lambda: mlp(neural_network.MLPRegressor), VALUE),
    "scaler and ridge": (lambda: make(preprocessing.RobustScaler(), linear_model.Ridge()), VALUE),
}  # fmt: skip
REFUSED: dict[str, tuple[Making, Any]] = {
    "forest": (lambda: ensemble.RandomForestClassifier(5, random_state=0), THREE),
    "boosted trees": (lambda: ensemble.GradientBoostingRegressor(n_estimators=5), VALUE),
    "a tree": (lambda: make(preprocessing.StandardScaler(), tree.DecisionTreeClassifier()), TWO),
    "a kernel": (svm.SVR, VALUE),
}


def exported(made: Making, y: Any, path: Path) -> tuple[Any, Card]:
    """The fitted pipeline, its file at `path`, and the card that goes with it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is not trained to the end
        net = made().fit(X, y)
    path.write_bytes(skl2onnx.to_onnx(net, X[:1]).SerializeToString())
    if y is VALUE:
        return net, Card("regress", CHANNELS, WINDOW, FEATURES, targets=(Target("t"),))
    return net, Card("classify", CHANNELS, WINDOW, FEATURES, labels=("a", "b", "c")[: len(set(y))])


@pytest.mark.parametrize("name", TRAINED)
def test_pipeline_trains(name: str, tmp_path: Path) -> None:
    made, y = TRAINED[name]
    net, card = exported(made, y, tmp_path / "net.onnx")
    model = Model(read_model(tmp_path / "net.onnx", card))
    model.graph.probe()
    theirs = net.predict(X) if y is VALUE else net.predict_proba(X)
    np.testing.assert_allclose(_given(model), theirs.reshape(len(X), -1), rtol=1e-3, atol=1e-4)
    before = model.graph.params.copy()
    assert not model.train(X, y, TrainingConfig(epochs=3, batch=20)).diverged
    assert not np.array_equal(before, model.graph.params)
    session = onnxruntime.InferenceSession(model.to_bytes(), providers=["CPUExecutionProvider"])
    (served,) = session.run(None, {session.get_inputs()[0].name: X})
    np.testing.assert_allclose(model.graph.forward(X), served, rtol=1e-4, atol=1e-5)


def _given(model: Model) -> Any:
    """Probabilities, or values."""
    if model.card.task == "regress":
        return model.graph.forward(X)
    z = model.graph.logits(X)
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_gradient_is_refused_by_its_name(name: str, tmp_path: Path) -> None:
    made, y = REFUSED[name]
    _, card = exported(made, y, tmp_path / "net.onnx")
    with pytest.raises(ModelError, match=r"(?i)tree|kernel|SVM"):
        Model(read_model(tmp_path / "net.onnx", card)).graph.probe()
