# SPDX-License-Identifier: Apache-2.0
"""What a graph gives for a sample is what its card promises: in one layout, or refused with both shapes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from fedge_models.errors import ModelError
from fedge_models.graph.card import Card, Channel, ImageSpec, WindowSpec, write_card
from fedge_models.graph.intake import check_fed, read_model
from fedge_models.graph.trainable import TrainableGraph
from support.graphs import N, ints, named, normal, run_ort, small

C, T = 3, 12
WINDOW = WindowSpec(10, T, 6)
CHANNELS = tuple(Channel(f"c{i}") for i in range(C))


def card(task: Any, targets: int = 0, labels: int = 0) -> Card:
    names = tuple(f"l{i}" for i in range(labels))
    return Card(task, CHANNELS, WINDOW, targets=named((targets,)), labels=names, layout="channels_first")


def giving(shape: tuple[int, ...], x: tuple[int, ...] = (C, T)) -> onnx.ModelProto:
    """A dense network whose values are reshaped last."""
    values = int(np.prod(shape))
    nodes = [N("Flatten", ["x"], ["f"]), N("MatMul", ["f", "w"], ["m"]), N("Reshape", ["m", "s"], ["y"])]
    return small(nodes, {"w": normal(int(np.prod(x)), values), "s": ints(-1, *shape)}, x, shape)


def taken(model: onnx.ModelProto, given: Card, folder: Path) -> bytes:
    write_card(model, given)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    data = read_model(folder / "m.onnx")
    (folder / "again.onnx").write_bytes(data)
    assert read_model(folder / "again.onnx") == data
    return data


@pytest.mark.parametrize("shape", [(12, 5), (T, 2), (2, 1, 3), (1, 5, 4)], ids=str)
def test_matrix_that_no_target_names_is_refused_with_both_shapes(shape: tuple[int, ...], tmp_path: Path) -> None:
    words = rf"gives \({', '.join(map(str, shape))}\) for a sample, but the card \(regress\) names no targets"
    with pytest.raises(ModelError, match=rf"{words}.*list {np.prod(shape)} targets on it"):
        taken(giving(shape), card("regress"), tmp_path)
    assert TrainableGraph.load(taken(giving(shape), card("regress", int(np.prod(shape))), tmp_path)).output_shape


@pytest.mark.parametrize("shape", [(5,), (5, 1), (1, 5), (1, 5, 1)], ids=str)
def test_row_of_values_without_names_trains_from_arrays_and_is_not_for_gateways(
    shape: tuple[int, ...], tmp_path: Path
) -> None:
    graph = TrainableGraph.load(taken(giving(shape), card("regress"), tmp_path))
    assert graph.output_shape == (5,)
    said = "targets: gives 5 values for a sample, and the card names no targets, so it trains from arrays"
    assert any(n.startswith(said) for n in graph.notes)
    with pytest.raises(ModelError, match=f"m.onnx: {said}"):
        check_fed(graph.card, graph.input_shape, graph.output_shape, "m.onnx")
    told = TrainableGraph.load(taken(giving(shape), card("regress", 5), tmp_path))
    check_fed(told.card, told.input_shape, told.output_shape, "m.onnx")
    assert not any(n.startswith("targets") for n in told.notes)


@pytest.mark.parametrize("shape", [(1,), (1, 1), (1, 1, 1)], ids=str)
def test_one_value_needs_no_name(shape: tuple[int, ...], tmp_path: Path) -> None:
    graph = TrainableGraph.load(taken(giving(shape), card("regress"), tmp_path))
    check_fed(graph.card, graph.input_shape, graph.output_shape, "m.onnx")
    assert graph.output_shape == (1,)


WRONG = {
    "a class for each moment": ((T, 3), card("classify", labels=3), r"\(12, 3\).*\(3,\); end .* the 12 samples"),
    "classes for each moment, times first": ((4, T), card("classify", labels=4), r"\(4, 12\).*\(4,\); end the network"),
    "as many values as labels by chance": ((2, 2), card("classify", labels=4), r"\(2, 2\).*\(4,\); change the card"),
    "labels of two places": ((2, 2), card("multilabel", labels=4), r"\(2, 2\).*\(4,\)"),
    "a value for each moment": ((T, 2), card("regress"), r"\(12, 2\).*or end the network with the last, or the mean"),
    "another number of targets": ((4,), card("regress", 3), r"\(4,\).*promises \(3,\)"),
    "another reconstruction of as many values": ((2, 18), card("anomaly"), r"\(2, 18\).*promises \(3, 12\)"),
    "an encoding": ((6,), card("anomaly"), r"\(6,\).*promises \(3, 12\)"),
    "one channel of three": ((T, 1), card("anomaly"), r"\(12, 1\).*promises \(3, 12\)"),
}


@pytest.mark.parametrize("name", WRONG)
def test_output_that_the_card_does_not_promise_is_refused_with_both_shapes(name: str, tmp_path: Path) -> None:
    shape, given, words = WRONG[name]
    with pytest.raises(ModelError, match=f"gives {words}"):
        taken(giving(shape), given, tmp_path)


@pytest.mark.parametrize("shape", [(C, T), (C * T,), (C, 1, T), (T, C), (1, T, C), (T, 1, C)], ids=str)
def test_reconstruction_is_laid_out_as_the_window(shape: tuple[int, ...], tmp_path: Path) -> None:
    """(time, channels) is turned; a reshape alone would put the values of one channel into another."""
    model, x = giving(shape), normal(4, C, T)
    found = run_ort(model.SerializeToString(), x)
    expected = found.reshape(4, T, C).transpose(0, 2, 1) if tuple(n for n in shape if n > 1) == (T, C) else found
    data = taken(model, card("anomaly"), tmp_path)
    np.testing.assert_allclose(run_ort(data, x), expected.reshape(4, C, T), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(TrainableGraph.load(data).forward(x), run_ort(data, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 6, 4), (6, 4, 3)], ids=str)
def test_picture_is_reconstructed_with_the_colours_first(shape: tuple[int, ...], tmp_path: Path) -> None:
    image = ImageSpec(6, 4, "rgb")
    given = Card("anomaly", (Channel("camera"),), WindowSpec(1, 1, 1), image=image)
    model, x = giving(shape, image.shape), normal(2, 3, 6, 4)
    found = run_ort(model.SerializeToString(), x)
    expected = found if shape[0] == 3 else found.transpose(0, 3, 1, 2)
    np.testing.assert_allclose(run_ort(taken(model, given, tmp_path), x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("keepdims", [0, 1])
def test_one_result_for_all_samples_is_refused(keepdims: int, tmp_path: Path) -> None:
    """As `.mean()` without a dimension gives it."""
    nodes = [
        N("Flatten", ["x"], ["f"]),
        N("MatMul", ["f", "w"], ["m"]),
        N("ReduceMean", ["m"], ["y"], keepdims=keepdims),
    ]
    model = small(nodes, {"w": normal(C * T, 2)}, (C, T), (1,))
    if not keepdims:
        model.graph.output[0].type.tensor_type.ClearField("shape")
    words = r"at node .*ReduceMean" if keepdims else r"gives \(\) for two samples, expected a row for each"
    with pytest.raises(ModelError, match=words):
        taken(model, card("regress"), tmp_path)
