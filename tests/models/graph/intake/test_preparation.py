# SPDX-License-Identifier: Apache-2.0
"""What a network does to its input, and behind its last layer, is not trained by `*`; a learnt gain there is.

Files of PyTorch's older exporter, which tells no buffer from a parameter: names and places decide.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fedge_models.graph.intake import read_model
from fedge_models.graph.trainable import TrainableGraph
from support.graphs import N, normal, small

ORTHOGONAL = np.linalg.qr(normal(4, 4))[0][:, :3]


def row(size: int = 4) -> np.ndarray:
    return 1 + np.abs(normal(size))


def taken(
    folder: Path, nodes: list[Any], tensors: dict[str, np.ndarray], inside: int = 4, producer: str = "pytorch"
) -> TrainableGraph:
    """Nodes from x to `p` (of `inside` columns), then a layer and its Tanh; or from the layer's y0 to y."""
    ends = any("y" in n.output for n in nodes)
    layer = [N("Gemm", ["x" if ends else "p", "l.weight", "l.bias"], ["y0" if ends else "h"])]
    layer += [] if ends else [N("Tanh", ["h"], ["y"])]
    weights = {"l.weight": normal(inside, 3), "l.bias": normal(3)}
    given = {"/one": np.array(1, np.float32), "/factor": np.array(0.1, np.float32), "last": np.array([-1])}
    model = small([*layer, *nodes] if ends else [*nodes, *layer], {**weights, **tensors, **given}, (4,), (3,))
    model.producer_name = producer
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    data = read_model(folder / "m.onnx")
    (folder / "again.onnx").write_bytes(data)
    assert read_model(folder / "again.onnx") == data
    return TrainableGraph.load(data)


SUB, DIV = N("Sub", ["x", "m"], ["c"]), N("Div", ["c", "s"], ["p"])
LOG = [N("Abs", ["x"], ["e"]), N("Add", ["e", "/one"], ["f"]), N("Log", ["f"], ["g"])]
SCALED: dict[str, list[Any]] = {
    "a difference and a quotient": [SUB, DIV],
    "a range of two rows": [SUB, N("Sub", ["s", "m2"], ["r"]), N("Div", ["c", "r"], ["p"])],
    "a root of a row": [SUB, N("Add", ["s", "/one"], ["v"]), N("Sqrt", ["v"], ["r"]), N("Div", ["c", "r"], ["p"])],
    "behind a logarithm": [*LOG, N("Sub", ["g", "m"], ["c"]), DIV],
    "behind one factor": [N("Mul", ["x", "/factor"], ["e"]), N("Sub", ["e", "m"], ["c"]), DIV],
    "an inverse": [SUB, N("Mul", ["c", "s"], ["p"])],
    "a curve of a sensor before it": [
        *[N("Mul", ["x", "s2"], ["e"]), N("Add", ["e", "m2"], ["f"]), N("Sub", ["f", "m"], ["c"]), DIV]
    ],
    "behind products of channels": [N("Mul", ["x", "x"], ["e"]), N("Sub", ["e", "m"], ["c"]), DIV],
}


@pytest.mark.parametrize("name", SCALED)
def test_scaler_is_no_parameter_wherever_it_stands_before_the_first_weight(name: str, tmp_path: Path) -> None:
    read = {n for node in SCALED[name] for n in node.input}
    rows = {n: row() for n in ("m", "s", "m2", "s2") if n in read}
    graph = taken(tmp_path, SCALED[name], rows)
    assert {t.name for t in graph.layout} == {"l.weight", "l.bias"}
    assert {*graph.card.constants} == {*rows} and graph.card.scaling == "file"
    assert any("is a factor of the input, as of a scaler; this is a guess" in n for n in graph.notes)


def test_scaler_behind_features_is_no_parameter(tmp_path: Path) -> None:
    nodes = [N("ReduceMean", ["x"], ["e"], axes=[1], keepdims=1), N("Sub", ["x", "e"], ["f"])]
    graph = taken(tmp_path, [*nodes, N("Sub", ["f", "m"], ["c"]), DIV], {"m": row(), "s": row()})
    assert graph.card.constants == ("m", "s")


MUL, ADD = N("Mul", ["x", "u"], ["c"]), N("Add", ["c", "v"], ["p"])
LEARNT: dict[str, list[Any]] = {
    "a gate": [N("Mul", ["x", "u"], ["p"])],
    "a gain and a shift": [MUL, ADD],
    "a shift": [N("Add", ["x", "v"], ["p"])],
    "behind a normalisation": [
        N("ReduceMean", ["x"], ["e"], axes=[1], keepdims=1), N("Sub", ["x", "e"], ["f"]), N("Mul", ["f", "u"], ["c"]),
        ADD,
    ],
    "of a Sequential": [N("Mul", ["x", "0.u"], ["p"])],
    "a gain through a step": [N("Sigmoid", ["u"], ["s"]), N("Mul", ["x", "s"], ["p"])],
}  # fmt: skip


@pytest.mark.parametrize("name", LEARNT)
def test_gain_that_a_module_may_have_learnt_is_trained(name: str, tmp_path: Path) -> None:
    read = {n for node in LEARNT[name] for n in node.input}
    rows = {n: row() for n in ("u", "v", "0.u") if n in read}
    graph = taken(tmp_path, LEARNT[name], rows)
    assert {t.name for t in graph.layout} == {*rows, "l.weight", "l.bias"} and graph.card.constants == ()


@pytest.mark.parametrize(("name", "trained"), [("gamma", True), ("theta", True), ("x_min", False), ("scaler.k", False)])
def test_name_decides_where_it_says_something(name: str, trained: bool, tmp_path: Path) -> None:
    graph = taken(tmp_path, [N("Sub", ["x", name], ["p"])], {name: row()})
    assert (name in {t.name for t in graph.layout}) is trained
    graph = taken(tmp_path, [N("Mul", ["x", name], ["p"])], {name: row()})
    assert (name in {t.name for t in graph.layout}) is trained


def test_centres_along_a_new_dimension_are_parameters(tmp_path: Path) -> None:
    nodes = [N("Unsqueeze", ["x", "last"], ["wide"]), N("Sub", ["wide", "m"], ["s"]), N("Tanh", ["s"], ["t"])]
    graph = taken(tmp_path, [*nodes, N("ReduceMean", ["t"], ["p"], axes=[-1], keepdims=0)], {"m": row(5)})
    assert "m" in {t.name for t in graph.layout}


def test_what_fills_gaps_and_limits_before_a_scaler_are_no_parameters(tmp_path: Path) -> None:
    nodes = [N("IsNaN", ["x"], ["e"]), N("Where", ["e", "f", "x"], ["g"]), N("Max", ["g", "low"], ["t"])]
    rows = {n: row() for n in ("m", "s", "f", "low")}
    graph = taken(tmp_path, [*nodes, N("Sub", ["t", "m"], ["c"]), DIV], rows)
    assert {*graph.card.constants} == {*rows}
    assert any("f is a limit of the input, or what fills its gaps" in n for n in graph.notes)


@pytest.mark.parametrize("producer", ["pytorch", "another"])
def test_axes_of_a_pca_are_no_parameters_and_a_layer_behind_a_scaler_is(producer: str, tmp_path: Path) -> None:
    nodes = [SUB, N("MatMul", ["c", "axes"], ["e"]), N("Div", ["e", "d"], ["p"])]
    graph = taken(tmp_path, nodes, {"m": row(), "axes": ORTHOGONAL.astype(np.float32), "d": row(3)}, 3, producer)
    assert graph.card.constants == ("m", "axes", "d")
    assert any("axes is the axes of a PCA of the input" in n for n in graph.notes)
    graph = taken(tmp_path, nodes, {"m": row(), "axes": normal(4, 3), "d": row(3)}, 3, producer)
    assert "axes" in {t.name for t in graph.layout} and "d" in {t.name for t in graph.layout}


@pytest.mark.parametrize(
    ("names", "producer", "trained"),
    [
        (("y_std", "y_mean"), "pytorch", False),
        (("high", "low"), "pytorch", False),
        (("ys", "ym"), "pytorch", True),  # no word says what they are
        (("gamma", "beta"), "pytorch", True),
        (("ys", "ym"), "another", False),
        (("gamma", "beta"), "another", True),
        (("out/mul/ReadVariableOp", "out/add/ReadVariableOp"), "tf2onnx", True),
    ],
)
def test_names_tell_an_unscaler_of_targets_from_what_is_learnt(
    names: tuple[str, str], producer: str, trained: bool, tmp_path: Path
) -> None:
    nodes = [N("Mul", ["y0", names[0]], ["e"]), N("Add", ["e", names[1]], ["y"])]
    graph = taken(tmp_path, nodes, {n: row(3) for n in names}, producer=producer)
    assert names_of(graph) == {"l.weight", "l.bias", *(names if trained else ())}
    assert trained or any("as of what brings targets back into units" in n for n in graph.notes)


def names_of(graph: TrainableGraph) -> set[str]:
    return {t.name for t in graph.layout}


@pytest.mark.parametrize(("behind", "trained"), [("2.shift", False), ("2.other", True)])
def test_rows_behind_are_an_unscaler_if_a_scaler_in_front_calls_its_own_so(
    behind: str, trained: bool, tmp_path: Path
) -> None:
    """As in a Sequential of one scaler, the network, and a module of the same kind."""
    nodes = [N("Mul", ["e", "2.scale"], ["f"]), N("Add", ["f", behind], ["y"])]
    front = [N("Sub", ["x", "0.shift"], ["c"]), N("Div", ["c", "0.scale"], ["p"])]
    front.append(N("Gemm", ["p", "1.weight", "1.bias"], ["e"]))
    model = small([*front, *nodes], {"0.shift": row(), "0.scale": row(), "1.weight": normal(4, 3), "1.bias": normal(3),
                                     "2.scale": row(3), behind: row(3)}, (4,), (3,))  # fmt: skip
    model.producer_name = "pytorch"
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    graph = TrainableGraph.load(read_model(tmp_path / "m.onnx"))
    assert names_of(graph) == {"1.weight", "1.bias", *(["2.scale", behind] if trained else [])}
    if trained:
        assert any("by its name alone: 2.scale, 2.other" in n for n in graph.notes)


def test_range_behind_a_sigmoid_is_an_unscaler(tmp_path: Path) -> None:
    nodes = [N("Sigmoid", ["y0"], ["s"]), N("Sub", ["hi", "lo"], ["r"]), N("Mul", ["s", "r"], ["e"])]
    graph = taken(tmp_path, [*nodes, N("Add", ["e", "lo"], ["y"])], {"hi": row(3), "lo": row(3)})
    assert names_of(graph) == {"l.weight", "l.bias"}


def test_bias_of_a_product_is_no_unscaler_whatever_its_name(tmp_path: Path) -> None:
    nodes = [N("MatMul", ["y0", "m"], ["e"]), N("Add", ["e", "y_mean"], ["y"])]
    graph = taken(tmp_path, nodes, {"m": normal(3, 3), "y_mean": row(3)})
    assert "y_mean" in names_of(graph)


@pytest.mark.parametrize(("names", "trained"), [(("mean", "std"), False), (("loc", "s"), True)])
def test_statistics_inside_a_network_are_known_by_their_names_only(
    names: tuple[str, str], trained: bool, tmp_path: Path
) -> None:
    nodes = [N("Sub", ["y0", names[0]], ["e"]), N("Div", ["e", names[1]], ["f"]), N("Tanh", ["f"], ["g"])]
    nodes.append(N("Gemm", ["g", "o.weight", "o.bias"], ["y"]))
    graph = taken(tmp_path, nodes, {n: row(3) for n in names} | {"o.weight": normal(3, 3), "o.bias": normal(3)})
    assert (names_of(graph) >= {*names}) is trained


def test_weight_and_bias_that_no_layer_reads_so_may_be_buffers_and_are_named(tmp_path: Path) -> None:
    nodes = [N("Relu", ["x"], ["r"]), N("Mul", ["r", "i.weight"], ["m"]), N("Add", ["m", "i.bias"], ["p"])]
    graph = taken(tmp_path, nodes, {"i.weight": row(), "i.bias": row()})
    assert {"i.weight", "i.bias"} <= names_of(graph)
    assert any("by its name alone: i.weight, i.bias train as parameters" in n for n in graph.notes)


def test_weight_and_bias_of_a_normalisation_as_arithmetic_are_not_named(tmp_path: Path) -> None:
    nodes = [N("ReduceMean", ["x"], ["e"], axes=[1], keepdims=1), N("Div", ["x", "e"], ["r"])]
    nodes += [N("Mul", ["r", "i.weight"], ["m"]), N("Add", ["m", "i.bias"], ["p"])]
    assert not any("by its name" in n for n in taken(tmp_path, nodes, {"i.weight": row(), "i.bias": row()}).notes)
