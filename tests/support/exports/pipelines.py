# SPDX-License-Identifier: Apache-2.0
"""Pipelines of scikit-learn as skl2onnx writes them by default: they train, or are refused as what they are."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from fedge_models.graph.card import Card, Channel, Target, WindowSpec
from fedge_models.graph.intake import read_model
from fedge_models.messages.quantize import Floats
from fedge_models.model import Model
from fedge_models.training.config import TrainingConfig

from support.counterparts import counterpart

from .parts import Found, found

skl2onnx = counterpart("skl2onnx")
counterpart("sklearn")

from sklearn import (  # noqa: E402
    compose,
    decomposition,
    ensemble,
    feature_selection,
    impute,
    linear_model,
    multiclass,
    multioutput,
    neural_network,
    pipeline,
    preprocessing,
    svm,
    tree,
)

CHANNELS, WINDOW, FEATURES = tuple(Channel(f"c{i}") for i in range(4)), WindowSpec(100, 64, 64), ("mean", "std", "max")
RNG = np.random.default_rng(0)
SURE = 8.0  # logits beyond which a probability is nearly 0 or 1
X = RNG.normal(size=(60, 12)).astype(np.float32)
X[:, 3] = np.arange(60) % 3  # a recipe, by its number
X[:, 4] = 200 + 30 * X[:, 4]  # far from zero, as measured values are
THREE, TWO, VALUE = X[:, :3].argmax(axis=1), (X[:, 0] > 0).astype(int), X[:, 0] + 0.5 * X[:, 1]
SEVERAL, VALUES = (X[:, :3] > (0, 0.5, 1)).astype(int), np.stack([VALUE, X[:, 2]], axis=1)
make = pipeline.make_pipeline
Making = Callable[[], Any]
PART = "Pipelines of scikit-learn"  # of the page, and its heading


def mlp(kind: Any, **more: Any) -> Any:
    return kind(hidden_layer_sizes=(8,), max_iter=30, random_state=0, **more)


def one_hot() -> Any:
    return preprocessing.OneHotEncoder(handle_unknown="ignore", sparse_output=False)


def columns(of_recipe: Any) -> Any:
    """Measured columns scaled, the recipe encoded."""
    measured = [c for c in range(12) if c != 3]
    return compose.ColumnTransformer([("n", preprocessing.StandardScaler(), measured), ("c", of_recipe, [3])])


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
    "scaler and perceptron, two values": (
        lambda: make(preprocessing.StandardScaler(), mlp(neural_network.MLPRegressor)), VALUES),
    "a ridge for each value": (lambda: multioutput.MultiOutputRegressor(linear_model.Ridge()), VALUES),
    "scaler and perceptron, labels together": (
        lambda: make(preprocessing.StandardScaler(), mlp(neural_network.MLPClassifier)), SEVERAL),
    "a logistic regression for each label": (
        lambda: multioutput.MultiOutputClassifier(linear_model.LogisticRegression()), SEVERAL),
    "one against the rest, labels together": (
        lambda: multiclass.OneVsRestClassifier(linear_model.LogisticRegression()), SEVERAL),
    "largest and perceptron": (lambda: make(preprocessing.MaxAbsScaler(), mlp(neural_network.MLPClassifier)), TWO),
    "range with bounds and perceptron": (
        lambda: make(preprocessing.MinMaxScaler(clip=True), mlp(neural_network.MLPClassifier)), TWO),
    "missing values, scaler and perceptron": (
        lambda: make(impute.SimpleImputer(), preprocessing.StandardScaler(), mlp(neural_network.MLPClassifier)), TWO),
    "powers of two, scaler and logistic regression": (
        lambda: make(
            preprocessing.PolynomialFeatures(2), preprocessing.StandardScaler(), linear_model.LogisticRegression()
        ), THREE),
    "bins and perceptron": (
        lambda: make(preprocessing.KBinsDiscretizer(4, encode="onehot-dense"), mlp(neural_network.MLPClassifier)), TWO),
    "best columns and perceptron": (
        lambda: make(feature_selection.SelectKBest(k=4), mlp(neural_network.MLPClassifier)), TWO),
    "columns that vary and perceptron": (
        lambda: make(feature_selection.VarianceThreshold(), mlp(neural_network.MLPClassifier)), TWO),
    "power transform and perceptron": (
        lambda: make(preprocessing.PowerTransformer(), mlp(neural_network.MLPClassifier)), TWO),
    "whitened components and perceptron": (
        lambda: make(decomposition.PCA(5, whiten=True), mlp(neural_network.MLPClassifier)), TWO),
    "a recipe, one of three": (lambda: make(columns(one_hot()), mlp(neural_network.MLPClassifier)), TWO),
    "a recipe by its order": (
        lambda: make(columns(preprocessing.OrdinalEncoder()), mlp(neural_network.MLPClassifier)), TWO),
    "some columns as they are": (
        lambda: make(
            compose.ColumnTransformer([("n", preprocessing.StandardScaler(), [4, 5])], remainder="passthrough"),
            linear_model.LogisticRegression(),
        ), TWO),
}  # fmt: skip
NOT_TRAINED: dict[str, tuple[Making, Any]] = {
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
    if y is VALUE or y is VALUES:
        targets = (Target("t"),) if y is VALUE else (Target("t"), Target("u"))
        return net, Card("regress", CHANNELS, WINDOW, FEATURES, targets=targets)
    if y is SEVERAL:
        return net, Card("multilabel", CHANNELS, WINDOW, FEATURES, labels=("worn", "leak", "loose"))
    return net, Card("classify", CHANNELS, WINDOW, FEATURES, labels=("a", "b", "c")[: len(set(y))])


ALL = {**TRAINED, **NOT_TRAINED}


def outcome(name: str) -> Found:
    """What comes of a pipeline."""
    with tempfile.TemporaryDirectory(prefix="fedge-") as folder:
        return found(lambda: hold(name, Path(folder)))


def hold(name: str, folder: Path) -> None:
    """Assert that its output is scikit-learn's, that it trains, and what it gives then in ONNX Runtime."""
    made, y = ALL[name]
    net, card = exported(made, y, folder / "net.onnx")
    model = Model(read_model(folder / "net.onnx", card))
    model.graph.probe()
    theirs = net.predict(X) if model.card.task == "regress" else net.predict_proba(X)
    if isinstance(theirs, list):  # no and yes of each label
        theirs = np.stack([pair[:, 1] for pair in theirs], axis=1)
    assert model.card.scaling == "file"  # what the gateway measures is what the pipeline was fitted to
    np.testing.assert_allclose(model.predict(X), theirs.reshape(len(X), -1), rtol=1e-3, atol=1e-4)
    before = model.graph.params.copy()
    assert not model.train(X, y, TrainingConfig(epochs=3, batch=20)).diverged
    assert not np.array_equal(before, model.graph.params)
    session = onnxruntime.InferenceSession(model.to_bytes(), providers=["CPUExecutionProvider"])
    (served,) = session.run(None, {session.get_inputs()[0].name: X})
    with np.errstate(all="ignore"):  # NaN that a later step replaces
        _same(model.card, model.graph.forward(X), served)


def _same(card: Card, ours: Floats, served: Floats) -> None:
    """Assert that outputs (n, k) are the same.

    A file that ends in probabilities is made to give their logits. Of a probability of 2e-5 that multiplies the last
    bit of a sigmoid in float32, which runtimes and processors compute differently, by 5e4: it is compared as such.
    """
    is_sure = np.abs(served) > SURE if card.task in ("classify", "multilabel") else np.zeros(served.shape, np.bool_)
    np.testing.assert_allclose(ours[~is_sure], served[~is_sure], rtol=1e-4, atol=1e-5)
    one, other = (1 / (1 + np.exp(-logits[is_sure].astype(np.float64))) for logits in (ours, served))
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)
