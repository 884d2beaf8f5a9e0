# SPDX-License-Identifier: Apache-2.0
"""Networks of Keras 3 train as in TensorFlow: outputs, gradients, whole and by the head, on pictures of a folder.

The files are made by tests/vectors/keras.
"""

from __future__ import annotations

from pathlib import Path
from shutil import copy

import onnx
import pytest
from fedge_models.graph.intake import read_model
from fedge_models.model import Model
from support.exports import parts
from support.exports.keras_files import CASES, FOLDER, PART, card, given, hold, trained, versions
from support.exports.recordings import card_file, pictures, trained_parameters


@pytest.mark.parametrize("name", CASES)
def test_network_of_keras_trains_as_in_tensorflow(name: str) -> None:
    hold(name)


@pytest.mark.parametrize("name", CASES)
def test_network_has_as_many_parameters_as_in_keras(name: str) -> None:
    """A bias of an LSTM is one there, and ONNX has two."""
    assert Model(read_model(FOLDER / f"{name}.onnx", card(CASES[name], given(name).x))).graph.params.size == (
        given(name).values.size
    )


@pytest.mark.parametrize("name", CASES)
def test_head_of_a_network_of_keras_trains_alone(name: str) -> None:
    assert 0 < trained(name, CASES[name].head) < trained(name, "*")


@pytest.mark.parametrize("name", ["conv2d", "inverted"])
def test_network_with_colours_last_trains_on_a_folder_of_pictures(name: str, tmp_path: Path) -> None:
    case, file = CASES[name], Path(copy(FOLDER / f"{name}.onnx", tmp_path))
    data = pictures(case.labels, tmp_path / "camera")
    given_card = card_file(card(case, given(name).x), tmp_path / "card.toml")
    whole, alone = (trained_parameters(file, given_card, data, patterns) for patterns in ("*", case.head))
    assert 0 < alone < whole


def test_gru_of_keras_is_a_loop_whose_steps_share_their_weights() -> None:
    assert "Loop" in {n.op_type for n in onnx.load(FOLDER / "gru.onnx").graph.node}
    graph = Model(read_model(FOLDER / "gru.onnx", card(CASES["gru"], given("gru").x))).graph
    assert len(graph.layout) == 5  # three of the layer and two of the head, and no copies
    assert any(n.startswith("loops: 1 Loop became the steps that it always has") for n in graph.notes)


def test_page_lists_every_network_of_keras_with_its_outcome() -> None:
    text = parts.PAGE.read_text("utf-8")
    said = {row[0]: row[1:3] for row in parts.rows(text, PART)}
    assert said == {case.text: [parts.TRAINS, parts.TRAINS] for case in CASES.values()}, "run: make exports-page"
    assert parts.versions(text, PART) == versions()


def test_every_file_of_keras_is_tried() -> None:
    assert {path.stem for path in FOLDER.glob("*.onnx")} == set(CASES)
