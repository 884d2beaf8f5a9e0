# SPDX-License-Identifier: Apache-2.0
"""Networks of PyTorch that end in sigmoids are calibrated as they decide here: one for each label, or a single one."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from fedge_agent.learning.calibrate import calibrate
from fedge_agent.learning.mixture import Blend
from fedge_agent.learning.training import Data
from fedge_agent.samples.units import Summary
from fedge_models.graph.card import Card, Channel, WindowSpec, write_card
from fedge_models.graph.intake import read_model
from fedge_models.graph.trainable import TrainableGraph
from support.counterparts import counterpart

torch = counterpart("torch")
nn = torch.nn

CHANNELS = tuple(Channel(c) for c in "abcdef")
CARDS = {
    1: Card("classify", CHANNELS, WindowSpec(1, 1, 1), ("mean",), labels=("ok", "worn")),
    3: Card("multilabel", CHANNELS, WindowSpec(1, 1, 1), ("mean",), labels=("worn", "leak", "loose")),
}


def drawn(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows (n, 6), and which of three labels hold."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 6)).astype(np.float32)
    weights = np.random.default_rng(9).normal(size=(6, 3))
    return x, (rng.random((rows, 3)) < 1 / (1 + np.exp(1 - x @ weights))).astype(np.float32)


def too_sure(labels: int) -> Any:
    """A network that knows its 200 rows by heart."""
    torch.manual_seed(0)
    torch.set_num_threads(1)  # for batches so small, threads that wait for each other take most of the time
    net = nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, labels), nn.Sigmoid())
    x, y = (torch.tensor(part) for part in drawn(200, 0))
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(300):
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy(net(x), y[:, :labels]).backward()
        optimizer.step()
    return net.eval()


@pytest.mark.parametrize("labels", [1, 3])
def test_sigmoids_of_an_exported_network_are_calibrated(labels: int, tmp_path: Path) -> None:
    net, path, card = too_sure(labels), tmp_path / "m.onnx", CARDS[labels]
    axes = {"x": {0: "n"}, "y": {0: "n"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net, (torch.zeros(2, 6),), path, input_names=["x"], output_names=["y"], dynamic_axes=axes, dynamo=False
        )
    model = onnx.load(path)
    write_card(model, card)
    path.write_bytes(model.SerializeToString())
    graph = TrainableGraph.load(read_model(path))
    blend = Blend(graph, graph.params.copy())
    x, y = drawn(800, 1)
    known = Data(x, y if labels == 3 else y[:, 0].astype(np.int64), units=np.arange(800) // 100)
    found = calibrate(blend, known, known.part(np.zeros(800, np.bool_)), Summary("day", 20, 8))
    assert found is not None and found.calibration is not None
    new, holds = drawn(3000, 2)
    losses = []
    for logits in (blend.predict(new), found.calibration.applied(blend.predict(new))):
        z = logits if labels == 3 else (logits[:, 1] - logits[:, 0])[:, None]
        losses.append(np.logaddexp(0, np.where(holds[:, :labels] == 1, -z, z)).mean(axis=0))
    assert (losses[1] < 0.7 * losses[0]).all(), losses
