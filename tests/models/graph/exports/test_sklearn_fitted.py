# SPDX-License-Identifier: Apache-2.0
"""Models of scikit-learn that are fitted and not trained by gradients, as skl2onnx writes them: a sentence for each."""

from __future__ import annotations

from pathlib import Path

import pytest
from fedge_models.errors import ModelError
from fedge_models.graph.card import Card
from fedge_models.graph.intake import read_model
from fedge_models.model import Model
from support.counterparts import counterpart

skl2onnx = counterpart("skl2onnx")
counterpart("sklearn")

from sklearn import (  # noqa: E402
    cluster,
    discriminant_analysis,
    gaussian_process,
    mixture,
    naive_bayes,
    neighbors,
    preprocessing,
)
from support.exports.pipelines import (  # noqa: E402
    CHANNELS,
    FEATURES,
    THREE,
    TWO,
    VALUE,
    WINDOW,
    Making,
    X,
    exported,
    make,
)

SAMPLES, AT_ONCE = "these samples must not leave a site", "is fitted, not trained by gradients"
LEARNT = {
    "neighbours": (neighbors.KNeighborsClassifier, THREE, SAMPLES),
    "a value of neighbours": (neighbors.KNeighborsRegressor, VALUE, SAMPLES),
    "neighbours behind a scaler": (
        lambda: make(preprocessing.StandardScaler(), neighbors.KNeighborsClassifier()), TWO, SAMPLES),
    "a Gaussian process": (gaussian_process.GaussianProcessRegressor, VALUE, SAMPLES),
    "naive Bayes": (naive_bayes.GaussianNB, THREE, AT_ONCE),
    "naive Bayes of steps": (naive_bayes.BernoulliNB, TWO, AT_ONCE),
    "quadratic discriminants": (discriminant_analysis.QuadraticDiscriminantAnalysis, TWO, AT_ONCE),
}  # fmt: skip
DETECTORS = {
    "local outliers": (lambda: neighbors.LocalOutlierFactor(novelty=True), SAMPLES),
    "clusters": (lambda: cluster.KMeans(3, n_init=1), "Train an autoencoder instead"),
    "a mixture": (mixture.GaussianMixture, "Train an autoencoder instead"),
}


def check(path: Path, card: Card, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        Model(read_model(path, card)).graph.probe()


@pytest.mark.parametrize("name", LEARNT)
def test_fitted_model_is_refused_with_what_to_train(name: str, tmp_path: Path) -> None:
    made, y, words = LEARNT[name]
    _, card = exported(made, y, tmp_path / "net.onnx")
    check(tmp_path / "net.onnx", card, f"{words}.*Train")


@pytest.mark.parametrize("name", DETECTORS)
def test_detector_of_outliers_is_no_reconstruction(name: str, tmp_path: Path) -> None:
    made: Making
    made, words = DETECTORS[name]
    (tmp_path / "net.onnx").write_bytes(skl2onnx.to_onnx(made().fit(X), X[:1]).SerializeToString())
    check(tmp_path / "net.onnx", Card("anomaly", CHANNELS, WINDOW, FEATURES), words)
