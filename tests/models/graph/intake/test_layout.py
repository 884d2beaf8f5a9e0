# SPDX-License-Identifier: Apache-2.0
"""Graphs of any layout are fed with a gateway's windows; card and graph agree, or both shapes are named."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
from fedge_models.errors import ModelError
from fedge_models.graph.card import Card, Channel, ImageSpec, WindowSpec, write_card
from fedge_models.graph.intake import read_model
from fedge_models.graph.intake.axes import time_first
from fedge_models.graph.intake.layout import DOUBT
from fedge_models.graph.notes import note, notes
from fedge_models.graph.rows import laid_out
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.model import Model
from support.graphs import N, check_gradient, ints, normal, run_ort, small

C, T, H = 3, 12, 4
LABELS = ("ok", "worn", "blocked")
Dims = tuple[int | str | None, ...]


def card(channels: int = C, length: int = T, task: str = "classify", **keys: object) -> Card:
    labels = LABELS if task == "classify" else ()
    names = tuple(Channel(f"c{i}") for i in range(channels))
    return Card(task, names, WindowSpec(10, length, 4), labels=labels, **keys)  # type: ignore[arg-type]


def taken(model: onnx.ModelProto, given: Card, folder: Path, dims: Dims | None = None) -> bytes:
    """The file as it is taken in; dims: what its input declares, with the batch, where that is something else."""
    if dims is not None:
        shape = model.graph.input[0].type.tensor_type.shape
        del shape.dim[:]
        for size in dims:
            key = {} if size is None else {"dim_param" if isinstance(size, str) else "dim_value": size}
            shape.dim.add(**key)
    write_card(model, given)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    data = read_model(folder / "m.onnx")
    (folder / "again.onnx").write_bytes(data)
    assert read_model(folder / "again.onnx") == data
    return data


def keras_conv() -> onnx.ModelProto:
    """Conv1D of Keras, on (time, channels)."""
    nodes = [
        N("Transpose", ["x"], ["t"], perm=[0, 2, 1]), N("Conv", ["t", "k"], ["c"]), N("Relu", ["c"], ["r"]),
        N("ReduceMean", ["r"], ["m"], axes=[2], keepdims=0), N("Gemm", ["m", "w"], ["y"]),
    ]  # fmt: skip
    return small(nodes, {"k": normal(H, C, 5), "w": normal(H, 3)}, (T, C), (3,))


def batch_first(op: str, gates: int) -> onnx.ModelProto:
    """A recurrent layer with batch_first, on (time, channels)."""
    tensors = {"w": normal(1, gates * H, C), "r": normal(1, gates * H, H), "h": normal(H, 3), "zero": ints(0)}
    nodes = [
        N("Transpose", ["x"], ["t"], perm=[1, 0, 2]), N(op, ["t", "w", "r"], ["", "last"], hidden_size=H),
        N("Squeeze", ["last", "zero"], ["s"]), N("MatMul", ["s", "h"], ["y"]),
    ]  # fmt: skip
    return small(nodes, tensors, (T, C), (3,))


def attention() -> onnx.ModelProto:
    """The head of a Transformer, on (time, channels)."""
    nodes = [
        N("MatMul", ["x", "e"], ["a"]), N("Transpose", ["a"], ["k"], perm=[0, 2, 1]), N("MatMul", ["a", "k"], ["s"]),
        N("Softmax", ["s"], ["p"], axis=-1), N("MatMul", ["p", "a"], ["o"]),
        N("ReduceMean", ["o"], ["m"], axes=[1], keepdims=0), N("MatMul", ["m", "w"], ["y"]),
    ]  # fmt: skip
    return small(nodes, {"e": 0.3 * normal(C, H), "w": normal(H, 3)}, (T, C), (3,))


NETS = {
    "Conv1D": keras_conv,
    "LSTM": lambda: batch_first("LSTM", 4),
    "GRU": lambda: batch_first("GRU", 3),
    "attention": attention,
}
DECLARED: dict[str, Dims | None] = {
    "as it is": None,
    "time open": ("n", None, C),
    "time by a name": ("n", "time", C),
    "everything open": ("n", None, None),
    "batch of one": (1, T, C),
}


@pytest.mark.parametrize("declared", DECLARED)
@pytest.mark.parametrize("name", NETS)
def test_windows_of_a_gateway_feed_a_network_of_time_first(name: str, declared: str, tmp_path: Path) -> None:
    model, x = NETS[name](), normal(5, T, C)
    expected = run_ort(model.SerializeToString(), x)
    data = taken(model, card(), tmp_path, DECLARED[declared])
    graph, windows = TrainableGraph.load(data), np.swapaxes(x, 1, 2)
    assert graph.input_shape == (C, T)
    np.testing.assert_allclose(run_ort(data, windows), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(graph.forward(windows), expected, rtol=1e-4, atol=1e-5)
    assert any("(time, channels)" in note for note in graph.notes)


def test_gradient_flows_through_the_turned_input(tmp_path: Path) -> None:
    data = taken(keras_conv(), card(), tmp_path)
    check_gradient(onnx.ModelProto.FromString(data), normal(4, C, T))


def test_channels_are_standardised_not_moments(tmp_path: Path) -> None:
    model = Model(taken(keras_conv(), card(), tmp_path))
    x = normal(50, T, C) * np.array([1, 10, 100], np.float32)
    scale = model.fit_scale(x)  # as Keras has them: turned
    assert scale.mean.shape == (C, 1)
    np.testing.assert_allclose(scale.scale.ravel(), [1, 10, 100], rtol=0.2)


def test_square_windows_are_read_as_the_graph_reads_them(tmp_path: Path) -> None:
    """As many samples as channels: only the first operators tell."""
    first = small([N("Transpose", ["x"], ["t"], perm=[0, 2, 1]), N("Conv", ["t", "k"], ["c"]),
                   N("Flatten", ["c"], ["f"]), N("Gemm", ["f", "w"], ["y"])],
                  {"k": normal(2, 5, 2), "w": normal(8, 3)}, (5, 5), (3,))  # fmt: skip
    plain = small([N("Conv", ["x", "k"], ["c"]), N("Flatten", ["c"], ["f"]), N("Gemm", ["f", "w"], ["y"])],
                  {"k": normal(2, 5, 2), "w": normal(8, 3)}, (5, 5), (3,))  # fmt: skip
    x = normal(2, 5, 5)
    for model, fed in ((first, np.swapaxes(x, 1, 2)), (plain, x)):
        expected = run_ort(model.SerializeToString(), x)
        np.testing.assert_allclose(run_ort(taken(model, card(5, 5), tmp_path), fed), expected, rtol=1e-5, atol=1e-6)


FORMS: dict[str, tuple[Card, tuple[int, ...], tuple[int, ...]]] = {  # card, what the graph takes, axes that lead there
    "one channel without its dimension": (card(1), (T,), (0, 1, 2)),
    "one channel, as Keras has it": (card(1), (T, 1), (0, 2, 1)),
    "as a picture of one colour": (card(), (1, C, T), (0, 1, 2)),
    "as a picture of one row": (card(), (C, 1, T), (0, 1, 2)),
    "colours last": (Card("classify", (Channel("camera"),), WindowSpec(1, 1, 1), labels=LABELS,
                          image=ImageSpec(4, 6, "rgb")), (4, 6, 3), (0, 2, 3, 1)),
    "grey without its dimension": (Card("classify", (Channel("camera"),), WindowSpec(1, 1, 1), labels=LABELS,
                                        image=ImageSpec(4, 6)), (4, 6), (0, 1, 2, 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_other_layouts_of_the_same_values_are_recognised(name: str, tmp_path: Path) -> None:
    given, takes, axes = FORMS[name]
    size = int(np.prod(takes))
    model = small([N("Flatten", ["x"], ["f"]), N("Gemm", ["f", "w"], ["y"])], {"w": normal(size, 3)}, takes, (3,))
    wanted = given.image.shape if given.image else (len(given.channels), given.window.length)
    x = normal(3, *wanted)
    expected = run_ort(model.SerializeToString(), np.transpose(x, axes).reshape(3, *takes))
    data = taken(model, given, tmp_path)
    assert TrainableGraph.load(data).input_shape == wanted
    np.testing.assert_allclose(run_ort(data, x), expected, rtol=1e-5, atol=1e-6)


def test_sequence_exported_with_time_before_the_batch(tmp_path: Path) -> None:
    tensors = {"w": normal(1, 4 * H, C), "r": normal(1, 4 * H, H), "h": normal(H, 3), "zero": ints(0)}
    nodes = [N("LSTM", ["x", "w", "r"], ["", "last"], hidden_size=H), N("Squeeze", ["last", "zero"], ["s"]),
             N("MatMul", ["s", "h"], ["y"])]  # fmt: skip
    model, x = small(nodes, tensors, (1, C), (3,)), normal(4, C, T)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = T
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = np.concatenate([session.run(None, {"x": np.moveaxis(row[None], -1, 0)})[0] for row in x])
    data = taken(model, card(), tmp_path)
    np.testing.assert_allclose(run_ort(data, x), expected, rtol=1e-5, atol=1e-6)


def test_reconstruction_is_turned_back(tmp_path: Path) -> None:
    """An LSTM autoencoder of Keras gives (time, channels); the error of a channel is needed in its row."""
    nodes = [N("MatMul", ["x", "e"], ["a"]), N("Tanh", ["a"], ["t"]), N("MatMul", ["t", "d"], ["y"])]
    for square in (False, True):  # of as many samples as channels, only a Transpose shows the layout
        length = C if square else T
        turns = [N("Transpose", ["x"], ["a0"], perm=[0, 2, 1]), N("Transpose", ["a0"], ["x0"], perm=[0, 2, 1])]
        first = [*turns, N("MatMul", ["x0", "e"], ["a"])] if square else nodes[:1]
        model = small([*first, *nodes[1:]], {"e": normal(C, 2), "d": normal(2, C)}, (length, C), (length, C))
        x = normal(4, length, C)
        expected = np.swapaxes(run_ort(model.SerializeToString(), x), 1, 2)
        data = taken(model, card(length=length, task="anomaly"), tmp_path)
        np.testing.assert_allclose(run_ort(data, np.swapaxes(x, 1, 2)), expected, rtol=1e-5, atol=1e-6)
        assert TrainableGraph.load(data).output_shape == (C, length)


def dense(takes: tuple[int, ...], gives: int = 3) -> onnx.ModelProto:
    nodes = [N("Flatten", ["x"], ["f"]), N("Gemm", ["f", "w"], ["y"])]
    return small(nodes, {"w": normal(int(np.prod(takes)), gives)}, takes, (gives,))


WRONG = {
    "other channels": (dense((6,)), card(4, 1), r"takes \(6,\).*4 channels and 1 samples, \(4, 1\)"),
    "a part of the channels": (dense((6,)), card(2, 1), r"takes \(6,\).*\(2, 1\)"),
    "another length": (dense((C, T)), card(C, T + 1), r"takes \(3, 12\).*\(3, 13\)"),
    "another length of one channel": (dense((1, T)), card(1, 3), r"takes \(1, 12\).*\(1, 3\)"),
    "a row of a window": (dense((C * T,)), card(), r"takes \(36,\).*\(3, 12\)"),
    "features": (dense((5,)), card(features=("mean", "bands:2")), r"takes \(5,\).*2 features of 3 channels.*\(9,\)"),
    "a picture": (dense((1, 8, 8)), Card("classify", (Channel("c"),), WindowSpec(1, 1, 1), labels=LABELS,
                                         image=ImageSpec(8, 9)), r"takes \(1, 8, 8\).*\(1, 8, 9\)"),
    "targets": (dense((C, T), 2), card(task="regress", targets=()), ""),
    "labels": (dense((C, T), 4), card(), r"gives \(4,\).*promises \(3,\)"),
    "a reconstruction": (dense((C, T), 7), card(task="anomaly"), r"gives \(7,\).*promises \(3, 12\)"),
}  # fmt: skip


@pytest.mark.parametrize("name", [n for n, case in WRONG.items() if case[2]])
def test_card_that_does_not_fit_the_graph_is_refused_with_both_shapes(name: str, tmp_path: Path) -> None:
    model, given, words = WRONG[name]
    with pytest.raises(ModelError, match=words):
        taken(model, given, tmp_path)


def test_card_with_one_channel_may_hold_the_place_of_a_table(tmp_path: Path) -> None:
    """Such a model is trained from a file of arrays; no gateway takes it, which `check` says."""
    assert TrainableGraph.load(taken(dense((6,)), card(1, 1), tmp_path)).input_shape == (6,)


def test_row_of_a_table_is_fed_as_it_is_but_for_operating_conditions(tmp_path: Path) -> None:
    """A window of one sample has no dimension of time to standardise over, except where conditions are looked for."""
    model, x = dense((C,)), normal(60, C)
    plain = Model(taken(model, card(C, 1), tmp_path))
    assert plain.graph.input_shape == (C,) and plain.fit_scale(x[..., None]).mean.shape == (C,)
    told = (Channel("c0", condition=0.5), Channel("c1"), Channel("c2"))
    recipes = Model(taken(model, msgspec.structs.replace(card(C, 1), channels=told), tmp_path))
    assert recipes.graph.input_shape == (C, 1) and recipes.fit_scale(x).conditions is not None
    assert np.isfinite(recipes.score(x)).all()


UNDECLARED: dict[str, tuple[list[onnx.NodeProto], tuple[int, ...], Card]] = {
    "output by a name": ([N("MatMul", ["f", "w"], ["y"])], (3,), card()),
    "squeezed to one value": (
        [N("MatMul", ["f", "one"], ["m"]), N("Squeeze", ["m", "last"], ["y"])], (1,), card(task="regress")
    ),
    "one value behind a sigmoid": (
        [N("MatMul", ["f", "one"], ["m"]), N("Squeeze", ["m", "last"], ["q"]), N("Sigmoid", ["q"], ["y"])], (1,),
        card(task="regress"),
    ),
    "labels in a column": ([N("MatMul", ["f", "w"], ["m"]), N("Unsqueeze", ["m", "last"], ["y"])], (3,), card()),
}  # fmt: skip


@pytest.mark.parametrize("dims", [(), ("n",), ("n", "k")], ids=str)
@pytest.mark.parametrize("name", UNDECLARED)
def test_shape_of_the_output_is_known_from_a_probe(name: str, dims: tuple[str, ...], tmp_path: Path) -> None:
    nodes, gives, given = UNDECLARED[name]
    tensors = {"w": normal(C * T, 3), "one": normal(C * T, 1), "last": ints(-1)}
    model, x = small([N("Flatten", ["x"], ["f"]), *nodes], tensors, (C, T), gives), normal(3, C, T)
    shape = model.graph.output[0].type.tensor_type.shape
    del shape.dim[:]
    for size in dims:
        shape.dim.add(dim_param=size)
    if not dims:
        model.graph.output[0].type.tensor_type.ClearField("shape")
    expected = run_ort(model.SerializeToString(), x)
    data = taken(model, given, tmp_path)
    graph = TrainableGraph.load(data)
    graph.probe()
    assert graph.output_shape == gives
    np.testing.assert_allclose(run_ort(data, x), expected.reshape(3, *gives), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("x", "shape", "expected"),
    [
        ((4, 3), (3, 1), (4, 3, 1)),
        ((4, 3, 1), (3,), (4, 3)),
        ((4, 12, 3), (3, 12), (4, 3, 12)),
        ((4, 8, 9, 3), (3, 8, 9), (4, 3, 8, 9)),
        ((4, 8, 9), (1, 8, 9), (4, 1, 8, 9)),
        ((4, 3, 12), (3, 12), (4, 3, 12)),
        ((4, 36), (3, 12), (4, 36)),
        ((4, 5, 5), (3, 5), (4, 5, 5)),
    ],
)
def test_recorded_rows_are_laid_out_where_it_is_plain(
    x: tuple[int, ...], shape: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    rows = normal(*x)
    made = laid_out(rows, shape)
    assert made.shape == expected and sorted(made.ravel()) == sorted(rows.ravel())


def shown(nodes: list[onnx.NodeProto], tensors: dict[str, np.ndarray], dims: tuple[int, ...] = (C, C)) -> bool | None:
    return time_first(small(nodes, tensors, dims, (3,)), "x", dims, (C, C))


TURN, BACK = N("Transpose", ["x"], ["t"], perm=[0, 2, 1]), N("Transpose", ["t"], ["u"], perm=[0, 2, 1])
KERNEL = {"k": normal(2, C, 1)}
GRU = N("GRU", ["u", "w", "r"], ["s"], hidden_size=H)
SHOWN: dict[str, tuple[bool | None, list[onnx.NodeProto], dict[str, np.ndarray]]] = {
    "a convolution": (False, [N("Conv", ["x", "k"], ["y"])], KERNEL),
    "a convolution of a turned window": (True, [TURN, N("Conv", ["t", "k"], ["y"])], KERNEL),
    "a convolution of a scaled window": (
        False, [N("Sub", ["x", "m"], ["a"]), N("Conv", ["a", "k"], ["y"])], {**KERNEL, "m": normal(C, 1)}
    ),
    "turned twice": (False, [TURN, BACK, N("Conv", ["u", "k"], ["y"])], KERNEL),
    "Conv1D of Keras, by way of two dimensions": (
        True,
        [N("Unsqueeze", ["x", "one"], ["a"]), N("Transpose", ["a"], ["t"], perm=[0, 3, 1, 2]),
         N("Conv", ["t", "k"], ["y"])],
        {"one": ints(1), "k": normal(2, C, 1, 2)},
    ),
    "a recurrent layer, its window turned for the batch": (
        True, [N("Transpose", ["x"], ["u"], perm=[1, 0, 2]), GRU], {}
    ),
    "a recurrent layer of a window (channels, time) turned twice": (
        False, [TURN, N("Transpose", ["t"], ["u"], perm=[1, 0, 2]), GRU], {}
    ),
    "batch normalisation": (False, [N("BatchNormalization", ["x", "g", "b", "m", "v"], ["y"])], {}),
    "a dense layer": (None, [N("MatMul", ["x", "w"], ["y"])], {"w": normal(C, 2)}),
    "all values in a row": (None, [N("Flatten", ["x"], ["y"])], {}),
    "a Transpose, and nothing behind it": (True, [TURN], {}),
    "a variable batch, whose size is asked for first": (True, [N("Shape", ["x"], ["sizes"]), TURN], {}),
}  # fmt: skip


@pytest.mark.parametrize("name", SHOWN)
def test_first_layer_that_knows_a_channel_shows_the_layout(name: str) -> None:
    """Of as many samples as channels, no dimension does."""
    expected, nodes, tensors = SHOWN[name]
    assert shown(nodes, tensors) is expected


BY_MOMENT = normal(C, 3)


def dense_by_moment() -> onnx.ModelProto:
    """A dense layer of each row of a square window, and the mean over the rows."""
    nodes = [
        N("MatMul", ["x", "w"], ["a"]),
        N("Tanh", ["a"], ["t"]),
        N("ReduceMean", ["t"], ["y"], axes=[1], keepdims=0),
    ]
    return small(nodes, {"w": BY_MOMENT}, (C, C), (3,))


def test_square_window_that_nothing_shows_is_refused_until_the_card_says_its_layout(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r'as many samples as channels.*layout = "time_first".*"channels_first"'):
        taken(dense_by_moment(), card(C, C), tmp_path)
    x = normal(4, C, C)
    expected = run_ort(dense_by_moment().SerializeToString(), x)
    for layout, fed in (("time_first", np.swapaxes(x, 1, 2)), ("channels_first", x)):
        data = taken(dense_by_moment(), card(C, C, layout=layout), tmp_path)
        np.testing.assert_allclose(run_ort(data, fed), expected, rtol=1e-5, atol=1e-6)


def test_square_window_with_a_dimension_of_one_is_refused_too(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"takes \(1, 3, 3\), as many samples as channels"):
        taken(dense((1, C, C)), card(C, C), tmp_path)
    assert TrainableGraph.load(taken(dense((1, C, C)), card(C, C, layout="time_first"), tmp_path)).input_shape == (C, C)


def test_square_window_that_was_taken_in_before_the_card_could_say_it_is_left_alone(tmp_path: Path) -> None:
    model = dense_by_moment()
    note(model, f"{DOUBT} (3), taken as (channels, time): nothing shows another")
    data = taken(model, card(C, C), tmp_path)
    assert [n for n in notes(onnx.ModelProto.FromString(data)) if n.startswith(DOUBT)]
    x = normal(4, C, C)
    np.testing.assert_allclose(
        run_ort(data, x), run_ort(dense_by_moment().SerializeToString(), x), rtol=1e-5, atol=1e-6
    )
