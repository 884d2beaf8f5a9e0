# SPDX-License-Identifier: Apache-2.0
"""A model file as a user gives it: cards, data beside the file, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from fedge_models.errors import ConfigError, ModelError
from fedge_models.graph import zoo
from fedge_models.graph.intake import MAX_IR, bounded_memory, read_model, with_weights
from fedge_models.graph.trainable import TrainableGraph
from onnx.external_data_helper import convert_model_to_external_data
from support.graphs import RAW, load, normal, run_ort

CARD = """
task = "classify"
channels = [{ name = "a", unit = "g" }, { name = "b" }]
window = { rate_hz = 10, length = 24, hop = 8 }
labels = ["ok", "bad", "worse"]
"""


def bare(path: Path) -> onnx.ModelProto:
    """A file as an exporter leaves it: no card."""
    model = zoo.mlp(RAW, (2, 24))
    del model.metadata_props[:]
    path.write_bytes(model.SerializeToString())
    return model


def test_card_and_trainable_tensors_are_given_beside_the_file(tmp_path: Path) -> None:
    bare(tmp_path / "m.onnx")
    (tmp_path / "card.toml").write_text(CARD)
    with pytest.raises(ModelError, match="no model card"):
        TrainableGraph.load(read_model(tmp_path / "m.onnx"))
    graph = TrainableGraph.load(read_model(tmp_path / "m.onnx", tmp_path / "card.toml", "dense2.*"))
    assert graph.card.labels == ("ok", "bad", "worse")
    assert [t.name for t in graph.layout] == ["dense2.weight", "dense2.bias"]


def test_wrong_key_of_a_card_is_named_with_the_nearest(tmp_path: Path) -> None:
    bare(tmp_path / "m.onnx")
    (tmp_path / "card.toml").write_text(CARD.replace("labels", "lables"))
    with pytest.raises(ConfigError, match=r"card\.toml.*lables.*labels"):
        read_model(tmp_path / "m.onnx", tmp_path / "card.toml")


def test_file_that_is_whole_is_left_as_it_is(tmp_path: Path) -> None:
    data = zoo.mlp(RAW, (2, 24)).SerializeToString()
    (tmp_path / "m.onnx").write_bytes(data)
    assert read_model(tmp_path / "m.onnx") == data


def test_newest_ir_is_written_older_so_that_gateways_can_load_it(tmp_path: Path) -> None:
    model = zoo.mlp(RAW, (2, 24))
    model.ir_version = onnx.IR_VERSION
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    assert onnx.ModelProto.FromString(read_model(tmp_path / "m.onnx")).ir_version <= MAX_IR


def test_weights_beside_the_model_are_taken_in(tmp_path: Path) -> None:
    model, x = zoo.mlp(RAW, (2, 24)), normal(4, 2, 24)
    expected = load(model).forward(x).copy()
    onnx.save_model(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.onnx.data", size_threshold=0)
    with pytest.raises(ModelError, match="outside the file"):
        TrainableGraph.load((tmp_path / "m.onnx").read_bytes())
    data = read_model(tmp_path / "m.onnx")
    np.testing.assert_array_equal(TrainableGraph.load(data).forward(x), expected)
    np.testing.assert_allclose(run_ort(data, x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "deeper/../../secret", "", "link"])
def test_data_path_outside_the_models_folder_is_refused(location: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(1 << 16))
    folder = tmp_path / "models"
    (folder / "deeper").mkdir(parents=True)
    (folder / "deeper" / "w").write_bytes(bytes(1 << 16))
    (folder / "link").symlink_to(tmp_path / "secret")
    model = zoo.mlp(RAW, (2, 24))
    convert_model_to_external_data(model, location="w", size_threshold=0)
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        del tensor.external_data[:]
        tensor.external_data.add(key="location", value=location)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="outside the model's own folder"):
        read_model(folder / "m.onnx")


def test_weights_that_were_not_copied_say_which_file_is_wanted_and_where(tmp_path: Path) -> None:
    onnx.save_model(
        zoo.mlp(RAW, (2, 24)), tmp_path / "m.onnx", save_as_external_data=True, location="w.data", size_threshold=0
    )
    (tmp_path / "w.data").unlink()
    expected = rf"lies in a file of its own, 'w.data', expected in {tmp_path}, and it is not there. Copy it there"
    with pytest.raises(ModelError, match=expected):
        read_model(tmp_path / "m.onnx")


def test_pipe_instead_of_the_weights_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    onnx.save_model(
        zoo.mlp(RAW, (2, 24)), tmp_path / "m.onnx", save_as_external_data=True, location="w", size_threshold=0
    )
    (tmp_path / "w").unlink()
    os.mkfifo(tmp_path / "w")
    with pytest.raises(ModelError, match=r"'w' beside the model cannot be read: .*a named pipe; expected a file"):
        read_model(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("key", "value"), [("length", "-1"), ("offset", "-5"), ("length", str(1 << 41)), ("offset", "x")]
)
def test_false_extent_of_outside_data_is_refused(key: str, value: str, tmp_path: Path) -> None:
    onnx.save_model(
        zoo.mlp(RAW, (2, 24)), tmp_path / "m.onnx", save_as_external_data=True, location="w", size_threshold=0
    )
    model = onnx.ModelProto.FromString((tmp_path / "m.onnx").read_bytes())
    for entry in model.graph.initializer[0].external_data:
        if entry.key == key:
            entry.value = value
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=r"dense0\.weight"):
        read_model(tmp_path / "m.onnx")


@pytest.mark.parametrize("size", [(256 << 20) + 1, 1 << 40])
def test_file_over_the_cap_is_refused_unread(tmp_path: Path, size: int) -> None:
    with (tmp_path / "m.onnx").open("wb") as file:
        file.truncate(size)
    with bounded_memory(1 << 30, "m.onnx"), pytest.raises(ModelError, match="the most that it may have"):
        read_model(tmp_path / "m.onnx")


def test_memory_is_bounded_only_within() -> None:
    with pytest.raises(ModelError, match="needs more than 64 MiB"), bounded_memory(64 << 20, "m.onnx"):
        np.ones(1 << 28)
    assert np.ones(1 << 24).sum() == 1 << 24


def test_weights_are_put_into_the_file() -> None:
    model, x = zoo.mlp(RAW, (2, 24)), normal(4, 2, 24)
    graph = load(model)
    graph.params += np.float32(0.1)
    again = with_weights(model.SerializeToString(), graph.initializers(graph.params))
    np.testing.assert_allclose(run_ort(again, x), graph.forward(x), rtol=1e-5, atol=1e-5)
