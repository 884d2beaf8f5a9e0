# SPDX-License-Identifier: Apache-2.0
"""What benchmarks/training.py trains: four graphs, random rows, and an epoch of fedge on them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.training.config import TrainingConfig
from fedge_models.training.loop import fit

BATCH, RATE = 32, 0.001
EPOCHS = 5  # of one training, the default of TrainingConfig
Epochs = Callable[[], object]  # trains; how many epochs is up to each


def card(outputs: int, channels: int = 1, length: int = 1) -> Card:
    """Return a card for a classifier."""
    names = tuple(Channel(f"c{i}") for i in range(channels))
    return Card("classify", names, WindowSpec(1, length, 1), labels=tuple(f"l{i}" for i in range(outputs)))


# Name to model, shape of a sample, classes, rows of an epoch.
GRAPHS: dict[str, tuple[Callable[[], Any], tuple[int, ...], int, int]] = {
    "mlp_small": (lambda: zoo.mlp(card(4), 32, (64, 32)), (32,), 4, 2048),
    "mlp_wide": (lambda: zoo.mlp(card(10), 128, (256, 128)), (128,), 10, 2048),
    "cnn1d": (lambda: zoo.cnn1d(card(4, 3, 256), (16, 32), (7, 5)), (3, 256), 4, 1024),
    "cnn2d": (lambda: zoo.cnn2d(card(7), (1, 64, 64), (8, 16, 32)), (1, 64, 64), 7, 512),
}
SIZES = {"mlp_small": (32, 64, 32, 4), "mlp_wide": (128, 256, 128, 10)}  # the same, for the peers


def data(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return random rows and labels."""
    _, shape, classes, rows = GRAPHS[name]
    rng = np.random.default_rng(0)
    return rng.normal(size=(rows, *shape)).astype(np.float32), rng.integers(0, classes, rows)


def store(name: str, folder: Path) -> None:
    """Write model and data, which a process that starts from nothing reads."""
    (folder / "model.onnx").write_bytes(GRAPHS[name][0]().SerializeToString())
    for part, array in zip("xy", data(name), strict=True):
        np.save(folder / f"{part}.npy", array)


def stored(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read the data that `store` wrote."""
    return np.load(folder / "x.npy"), np.load(folder / "y.npy")


def ours(model: bytes, x: np.ndarray, y: np.ndarray, optimizer: str) -> Epochs:
    """Return one training of fedge, of EPOCHS epochs."""
    graph = TrainableGraph.load(model, schemas=False)
    config = TrainingConfig(batch=BATCH, epochs=EPOCHS, optimizer=optimizer, learning_rate=RATE, proximal_mu=0.0)
    return lambda: fit(graph, x, y, config, np.random.default_rng(0))
