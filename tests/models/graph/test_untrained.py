# SPDX-License-Identifier: Apache-2.0
"""A starter is marked as untrained until anybody changes a weight, with whatever tool."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from fedge_models import load, starter
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.training.config import TrainingConfig
from onnx import numpy_helper

CARD = Card("anomaly", (Channel("a"), Channel("b")), WindowSpec(1, 10, 5), ("mean", "std"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "m.onnx"
    starter(CARD, 4).save(path)
    return path


def test_a_starter_is_untrained_also_when_it_is_saved_again(file: Path) -> None:
    model = load(file)
    assert model.graph.untrained
    model.save(file)
    assert load(file).graph.untrained


def test_what_is_trained_is_not(file: Path) -> None:
    model = load(file)
    model.train(np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32), config=TrainingConfig(epochs=1))
    model.save(file)
    assert not load(file).graph.untrained


def test_a_weight_that_another_tool_wrote_makes_the_mark_wrong(file: Path) -> None:
    model = onnx.load(file)
    tensor = next(t for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT)
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * 2, tensor.name))
    onnx.save(model, file)
    assert not load(file).graph.untrained


def test_a_file_without_a_mark_counts_as_trained() -> None:
    assert not TrainableGraph.load(zoo.autoencoder(CARD, 4, (3,)).SerializeToString()).untrained
