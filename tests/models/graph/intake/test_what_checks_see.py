# SPDX-License-Identifier: Apache-2.0
"""A large constant, a scaler or flat ends of activations hide nothing from the checks, or it is said that they do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from fedge_models import load
from fedge_models.errors import ModelError
from fedge_models.graph.card import Card, Channel, WindowSpec, write_card
from fedge_models.graph.closeness import close, differ
from fedge_models.graph.intake import read_model
from fedge_models.graph.intake.compare import check_same
from fedge_models.graph.probing import own_range, samples
from fedge_models.graph.serve_check import check_served
from fedge_models.graph.trainable import TrainableGraph
from onnx import helper
from support.graphs import N, ints, normal, run_ort, small

CARD = Card("regress", tuple(Channel(c) for c in "abcd"), WindowSpec(1, 1, 1), scaling="file")
MIXING = "it (calculates|may hold)"
MEAN, DEVIATION = np.array([1500, -40, 0.02, 9e4], np.float32), np.array([20, 3, 1e-3, 700], np.float32)
RNG = np.random.default_rng(3)  # of its own: what is seen depends on the weights
W = {n: RNG.normal(size=s).astype(np.float32) for n, s in (("w", (4, 5)), ("b", 5), ("v", (5, 1)), ("c", 1))}
MIX = [
    N("Tanh", ["h"], ["t"]), N("ReduceMean", ["t"], ["m"], axes=[0], keepdims=1), N("Sub", ["t", "m"], ["z"]),
]  # fmt: skip
LAYERS = [N("Gemm", ["s", "w", "b"], ["h"]), *MIX, N("Gemm", ["z", "v", "c"], ["y"])]


def saved(model: onnx.ModelProto, folder: Path, batch: int = 0) -> Path:
    for value in (model.graph.input[0], model.graph.output[0]) if batch else ():
        value.type.tensor_type.shape.dim[0].dim_value = batch
    write_card(model, CARD)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    return folder / "m.onnx"


def taken(path: Path) -> TrainableGraph:
    """The file as it is taken in; a file that was taken in is left as it is."""
    data = read_model(path)
    (path.parent / "again.onnx").write_bytes(data)
    assert read_model(path.parent / "again.onnx") == data
    return TrainableGraph.load(data)


def started(*steps: onnx.NodeProto, more: dict[str, np.ndarray] | None = None, opset: int = 17) -> onnx.ModelProto:
    """A graph that mixes its samples, behind some steps from x to s."""
    return small([*steps, *LAYERS], {**W, **(more or {})}, (4,), (1,), opset)


@pytest.mark.parametrize("batch", [0, 1, 8])
def test_mixing_is_seen_behind_a_large_bias(batch: int, tmp_path: Path) -> None:
    model = started(N("Identity", ["x"], ["s"]), more={"v": 10 * W["v"], "c": np.array([5000], np.float32)})
    with pytest.raises(ModelError, match=MIXING):
        read_model(saved(model, tmp_path, batch))


def test_mixing_is_seen_in_the_smaller_of_two_outputs(tmp_path: Path) -> None:
    """Revolutions, about 3000, beside a share, about 0.5; only the share is mixed."""
    head = [N("Gemm", ["t", "r", "r0"], ["rpm"]), N("Gemm", ["z", "v", "half"], ["share"])]
    nodes = [N("Gemm", ["x", "w", "b"], ["h"]), *MIX, *head, N("Concat", ["rpm", "share"], ["y"], axis=1)]
    tensors = {**W, "r": 300 * W["v"][::-1], "r0": np.array([3000], np.float32), "half": np.array([0.5], np.float32)}
    with pytest.raises(ModelError, match=MIXING):
        read_model(saved(small(nodes, tensors, (4,), (2,)), tmp_path))


def test_right_regressor_in_units_of_the_plant_is_taken(tmp_path: Path) -> None:
    nodes = [N("Gemm", ["x", "w", "b"], ["h"]), N("Tanh", ["h"], ["z"]), N("Gemm", ["z", "v", "c"], ["y"])]
    model = small(nodes, {**W, "c": np.array([5000], np.float32)}, (4,), (1,))
    made = load(saved(model, tmp_path))
    x = normal(8, 4)
    np.testing.assert_allclose(made.graph.forward(x), run_ort(made.to_bytes(), x), rtol=1e-6)
    assert not made.graph.notes


SCALERS: dict[str, tuple[list[onnx.NodeProto], dict[str, np.ndarray]]] = {
    "mean and deviation": ([N("Sub", ["x", "mean"], ["c0"]), N("Div", ["c0", "deviation"], ["s"])], {}),
    "factor and shift": (
        [N("Mul", ["x", "factor"], ["c0"]), N("Add", ["shift", "c0"], ["s"])],
        {"factor": 1 / DEVIATION, "shift": -MEAN / DEVIATION},
    ),
    "BatchNormalization": (
        [N("BatchNormalization", ["x", "one", "zero", "mean", "variance"], ["s"], epsilon=1e-12)],
        {"one": np.ones(4, np.float32), "zero": np.zeros(4, np.float32), "variance": DEVIATION**2},
    ),
    "two groups of columns": (
        [
            N("Split", ["x", "sizes"], ["x1", "x2"], axis=1),
            N("Sub", ["x1", "m1"], ["c1"]), N("Div", ["c1", "d1"], ["s1"]),
            N("Sub", ["x2", "m2"], ["c2"]), N("Div", ["c2", "d2"], ["s2"]),
            N("Concat", ["s1", "s2"], ["s"], axis=1),
        ],
        {"sizes": ints(1, 3), "m1": MEAN[:1], "m2": MEAN[1:], "d1": DEVIATION[:1], "d2": DEVIATION[1:]},
    ),
    "laid out": (
        [
            N("Reshape", ["x", "to"], ["r"]), N("Transpose", ["r"], ["t0"], perm=[0, 2, 1]),
            N("Sub", ["t0", "m3"], ["c3"]), N("Div", ["c3", "d3"], ["s3"]),
            N("Transpose", ["s3"], ["s4"], perm=[0, 2, 1]), N("Reshape", ["s4", "back"], ["s"]),
        ],
        {
            "to": ints(-1, 2, 2), "back": ints(-1, 4),
            "m3": MEAN.reshape(2, 2).T.copy(), "d3": DEVIATION.reshape(2, 2).T.copy(),
        },
    ),
}  # fmt: skip


def scaled(how: str) -> onnx.ModelProto:
    steps, more = SCALERS[how]
    read = {n for node in steps for n in node.input}
    tensors = {"mean": MEAN, "deviation": DEVIATION, **more}
    return started(*steps, more={k: v for k, v in tensors.items() if k in read})


@pytest.mark.parametrize("how", SCALERS)
def test_samples_lie_where_the_file_takes_them(how: str) -> None:
    found = own_range(scaled(how), "x", (4,))
    assert found is not None
    np.testing.assert_allclose(found.centre, MEAN, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.scale, DEVIATION, rtol=1e-2)
    z = (samples((4,), 500, 0, found) - MEAN) / DEVIATION
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=0.2)
    np.testing.assert_allclose(z.std(axis=0), 1, atol=0.2)


@pytest.mark.parametrize("batch", [0, 8])
@pytest.mark.parametrize("how", SCALERS)
def test_mixing_is_seen_behind_a_scaler(how: str, batch: int, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=MIXING):
        read_model(saved(scaled(how), tmp_path, batch))


def test_mixing_is_seen_behind_a_scaler_of_scikit_learn(tmp_path: Path) -> None:
    scaler = N("Scaler", ["x"], ["s"], domain="ai.onnx.ml", offset=MEAN.tolist(), scale=(1 / DEVIATION).tolist())
    model = started(scaler)
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    with pytest.raises(ModelError, match=MIXING):
        read_model(saved(model, tmp_path))


def test_file_without_a_scaler_is_tried_with_large_values_too(tmp_path: Path) -> None:
    """Its first layer knows that values are about 300: normal ones leave each Relu at zero."""
    first = {"w": np.abs(W["w"]), "b": np.full(5, -60, np.float32)}
    nodes = [N("Gemm", ["x", "w", "b"], ["a"]), N("Relu", ["a"], ["h"]), *MIX, N("Gemm", ["z", "v", "c"], ["y"])]
    with pytest.raises(ModelError, match=MIXING):
        read_model(saved(small(nodes, {**W, **first}, (4,), (1,)), tmp_path))


def test_mixing_in_front_of_an_output_that_is_always_zero_is_refused(tmp_path: Path) -> None:
    nodes = [*LAYERS[:-1], N("Gemm", ["z", "v", "c"], ["g"]), N("Relu", ["g"], ["y"])]
    model = small([N("Identity", ["x"], ["s"]), *nodes], {**W, "c": np.array([-90], np.float32)}, (4,), (1,))
    with pytest.raises(ModelError, match=r"first at node 'ReduceMean'"):
        read_model(saved(model, tmp_path))


@pytest.mark.parametrize(("factor", "bias", "what"), [(1, -9e4, "the same"), (1e30, 0, "infinity or NaN")])
def test_file_that_gives_the_same_for_all_samples_says_so(
    factor: float, bias: float, what: str, tmp_path: Path
) -> None:
    big = {"w": W["w"] * np.float32(factor), "v": W["v"] * np.float32(factor), "c": np.array([bias], np.float32)}
    nodes = [N("Gemm", ["x", "w", "b"], ["h"]), N("Gemm", ["h", "v", "c"], ["g"]), N("Relu", ["g"], ["y"])]
    if factor > 1:
        nodes = [*nodes[:2], N("Mul", ["g", "zero"], ["k"]), N("Sub", ["k", "g"], ["y"])]
        big["zero"] = np.zeros(1, np.float32)
    graph = taken(saved(small(nodes, {**W, **big}, (4,), (1,)), tmp_path))
    assert sum(n.startswith(f"check: it gives {what} for all samples that were tried") for n in graph.notes) == 1


def test_logarithm_of_what_is_measured_is_tried_with_positive_values(tmp_path: Path) -> None:
    nodes = [N("Log", ["x"], ["l"]), N("Gemm", ["l", "w", "b"], ["h"]), N("Gemm", ["h", "v", "c"], ["y"])]
    graph = taken(saved(small(nodes, W, (4,), (1,)), tmp_path))
    assert not any(n.startswith("check") for n in graph.notes)


def test_difference_of_numpy_and_onnx_runtime_is_seen_behind_a_bias_and_a_scaler(tmp_path: Path) -> None:
    """Held by handing over the graph of other weights."""
    steps, _ = SCALERS["mean and deviation"]
    nodes = [*steps, LAYERS[0], N("Tanh", ["h"], ["z"]), LAYERS[-1]]
    tensors = {**W, "v": 10 * W["v"], "mean": MEAN, "deviation": DEVIATION, "c": np.array([5000], np.float32)}
    data = read_model(saved(small(nodes, tensors, (4,), (1,)), tmp_path))
    graph = TrainableGraph.load(data, "w,b,v")
    check_served(data, graph, "m.onnx")
    graph.params[:20] *= np.float32(1.2)  # w
    with pytest.raises(ModelError, match=r"m\.onnx: ONNX Runtime, .* and NumPy, .* differ"):
        check_served(data, graph, "m.onnx")


def test_conversion_is_held_by_how_far_samples_are_apart() -> None:
    before = {"y": np.array([[5000.0], [5004.0]], np.float32)}
    check_same(before, {"y": before["y"] + np.float32(0.0005)}, "it", "m.onnx")
    with pytest.raises(ModelError, match="changes what it computes"):
        check_same(before, {"y": before["y"] * np.float32(1.0001)}, "it", "m.onnx")
    small_ones = {"y": np.array([[1e-6], [3e-6]], np.float32)}
    with pytest.raises(ModelError, match="changes what it computes"):
        check_same(small_ones, {"y": small_ones["y"] * 2}, "it", "m.onnx")


def test_results_are_close_up_to_rounding_only() -> None:
    y = 5000 + normal(2, 3)
    assert close(y + np.float32(1e-3), y) and not close(y + np.float32(0.2), y)
    assert not close(y, y[:1]) and close(np.array([[np.nan], [1]]), np.array([[np.nan], [1]]))
    assert not close(np.array([[np.nan], [1]]), np.array([[2], [1]]))
    assert differ(y) and not differ(np.full((2, 3), np.inf)) and not differ(y[[0, 0]])
