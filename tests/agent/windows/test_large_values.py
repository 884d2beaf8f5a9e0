# SPDX-License-Identifier: Apache-2.0
"""A gateway's windows, features and stored samples of large values with small changes are those of float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from fedge_agent.config.schema import TagConfig
from fedge_agent.learning.training_set import TrainingSet
from fedge_agent.samples.sample_table import Sample
from fedge_agent.samples.store import SampleStore
from fedge_agent.types import Batch, Reading, Window
from fedge_agent.windows.assembler import Assembler
from fedge_agent.windows.features import Preparation
from fedge_models.graph.card import Card, Channel, WindowSpec
from fedge_models.training import standardise
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

S = 10**9
CARD = Card("anomaly", (Channel("a"),), WindowSpec(1, 5, 5), ("mean", "std", "slope", "max"), derive={"d": "diff(a)"})


def windows(values: NDArray[np.float64]) -> list[Window]:
    made = Assembler("pump", {"a": TagConfig(source="s", tag="a")}, [], 1.0, 5, 5, 3.0, 0.0)
    return [w for i, v in enumerate(values.tolist()) for w in made.push(Batch("s", [Reading("a", i * S, v)], i * S, 0))]


def wanted(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The features by NumPy, of windows (n, length)."""
    d = np.diff(x, axis=-1)
    d, t = np.concatenate([d[:, :1], d], axis=-1), np.linspace(-0.5, 0.5, x.shape[1])
    rows = np.stack([x, d], axis=1)
    middle = rows - rows.mean(axis=-1, keepdims=True)
    made = [rows.mean(axis=-1), rows.std(axis=-1), middle @ t / (t @ t), rows.max(axis=-1)]
    return np.stack(made, axis=-1).reshape(len(x), -1)


@given(level=st.sampled_from([0.0, 1.2e6, 1.7e9]), seed=st.integers(0, 100))
def test_features_of_readings_are_those_of_float64(level: float, seed: int) -> None:
    x = level + np.cumsum(np.random.default_rng(seed).uniform(0, 0.05, 40))
    made = windows(x)
    live = np.array([Preparation(CARD)(w.values) for w in made])
    of_files = Preparation(CARD)(np.array([w.values for w in made]))
    np.testing.assert_array_equal(live, of_files)
    np.testing.assert_allclose(live, wanted(x[: 5 * len(made)].reshape(-1, 5)), rtol=1e-9, atol=1e-9)
    assert len(made) >= 7


def test_samples_are_stored_as_finely_as_their_scale_needs(tmp_path: Path) -> None:
    store = SampleStore(tmp_path / "samples.sqlite", {"m": 1000})
    x = 1.7e9 + np.random.default_rng(0).normal(size=(100, 3))
    for i, row in enumerate(x):
        store.put(Sample("m", "pump", i * S, store.as_stored("m", row), None, False))
    store.put(Sample("m", "pump", 200 * S, store.as_stored("m", np.array([1.0, 2.0, 0.5])), None, False))
    store.start()
    store.stop()
    again = SampleStore(tmp_path / "samples.sqlite", {"m": 1000})
    found = again.rows("m", (3,), None, wide=True).x
    np.testing.assert_array_equal(found, [*x, [1.0, 2.0, 0.5]])
    assert again.rows("m", (3,), None).x.dtype == np.float32
    assert again.as_stored("m", np.array([1.0, 2.0])).dtype == np.float32
    data = TrainingSet("m", CARD, (3,), again, {}, None)
    scale = standardise.fit(data.to_scale()[:100])
    np.testing.assert_allclose(scale(x), (x - x.mean(axis=0)) / x.std(axis=0), atol=1e-3)
    again.is_fine("m", not scale.is_wide)
    assert scale.is_wide and again.as_stored("m", x[0]).dtype == np.float64
    again.is_fine("m", True)
    assert again.as_stored("m", x[0]).dtype == np.float32
    again.stop()
