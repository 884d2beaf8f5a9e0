# SPDX-License-Identifier: Apache-2.0
"""Graphs that were exported for a fixed batch take any, with the results that the file as it came gives for each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from fedge_models.errors import ModelError
from fedge_models.graph.card import Card, Channel, WindowSpec, write_card
from fedge_models.graph.intake import read_model
from fedge_models.graph.trainable import TrainableGraph
from support.graphs import N, check_gradient, ints, named, normal, run_ort, small

H = 3  # width of what is recurrent

Case = tuple[list[onnx.NodeProto], dict[str, np.ndarray], tuple[int, ...], tuple[int, ...]]  # nodes, tensors, x, y


def taken(case: Case, folder: Path, batch: int = 1, opset: int = 18) -> tuple[onnx.ModelProto, bytes]:
    """The file as an exporter leaves it, and as it is taken in. batch: 0 for a variable one."""
    nodes, tensors, x, y = case
    model = small(nodes, tensors, x, y, opset)
    for value in (model.graph.input[0], model.graph.output[0]) if batch else ():
        value.type.tensor_type.shape.dim[0].dim_value = batch
    channels = tuple(Channel(f"c{i}") for i in range(x[0]))
    features = ("mean",) if len(x) == 1 else ()
    window = WindowSpec(1, x[-1] if len(x) > 1 else 1, 1)
    card = Card("regress", channels, window, features, targets=named(y), layout="channels_first")
    write_card(model, card)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    data = read_model(folder / "m.onnx")
    (folder / "again.onnx").write_bytes(data)
    assert read_model(folder / "again.onnx") == data
    return model, data


def one_by_one(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    return np.concatenate([run_ort(model.SerializeToString(), row[None]).reshape(1, -1) for row in x])


def recurrent(op: str, gates: int, *states: str) -> list[onnx.NodeProto]:
    layer = N(op, ["t", "w", "r", "b", "", *states], ["seq", "last"], hidden_size=H)
    return [N("Transpose", ["x"], ["t"], perm=[2, 0, 1]), layer]


def weights(gates: int) -> dict[str, np.ndarray]:
    return {"w": normal(1, gates * H, 2), "r": normal(1, gates * H, H), "b": normal(1, 2 * gates * H)}


HEADS = [  # as nn.MultiheadAttention is exported: (time, batch, width), then heads beside the batch
    N("MatMul", ["x", "w"], ["e"]),
    N("Transpose", ["e"], ["t"], perm=[1, 0, 2]),
    N("Reshape", ["t", "split"], ["s"]),
    N("Transpose", ["s"], ["q"], perm=[1, 0, 2]),
    N("Transpose", ["s"], ["k"], perm=[1, 2, 0]),
    N("MatMul", ["q", "k"], ["qk"]),
    N("Softmax", ["qk"], ["p"], axis=-1),
    N("MatMul", ["p", "q"], ["a"]),
    N("Transpose", ["a"], ["at"], perm=[1, 0, 2]),
    N("Reshape", ["at", "rows"], ["ar"]),
    N("Gemm", ["ar", "v"], ["o"]),
    N("Reshape", ["o", "back"], ["ob"]),
    N("Transpose", ["ob"], ["y"], perm=[1, 0, 2]),
]
W42 = {"w": normal(4, 2)}
CASES: dict[str, Case] = {
    "Reshape": (
        [N("Reshape", ["x", "s"], ["r"]), N("MatMul", ["r", "w"], ["y"])], {"s": ints(1, 4), **W42}, (4,), (2,)
    ),
    "Reshape with -1": (
        [N("Reshape", ["x", "s"], ["r"]), N("MatMul", ["r", "w"], ["y"])], {"s": ints(1, -1), **W42}, (2, 2), (2,)
    ),
    "CastLike": (  # as PyTorch writes a factor without its optimiser
        [
            N("CastLike", ["half", "x"], ["f"]),
            N("Mul", ["x", "f"], ["m"]),
            N("Reshape", ["m", "one"], ["r"]),
            N("Gemm", ["r", "a"], ["y"]),
        ],
        {"half": np.array([0.5]), "one": ints(1, 12), "a": normal(12, 2)}, (2, 6), (2,),
    ),
    "Split": (
        [N("Split", ["x"], ["a"], axis=0, num_outputs=1), N("MatMul", ["a", "w"], ["z"]),
         N("Reshape", ["z", "s"], ["y"])],
        {"s": ints(1, 2), **W42}, (4,), (2,),
    ),
    "Expand": (
        [N("Unsqueeze", ["x", "one"], ["u"]), N("Expand", ["u", "s"], ["e"]), N("MatMul", ["e", "w"], ["z"]),
         N("Reshape", ["z", "t"], ["y"])],
        {"one": ints(1), "s": ints(1, 3, 4), "t": ints(1, 6), **W42}, (4,), (6,),
    ),
    "Tile": (
        [N("Unsqueeze", ["x", "one"], ["u"]), N("Tile", ["u", "s"], ["e"]), N("MatMul", ["e", "w"], ["z"]),
         N("Reshape", ["z", "t"], ["y"])],
        {"one": ints(1), "s": ints(1, 3, 1), "t": ints(1, 6), **W42}, (4,), (6,),
    ),
    "heads beside the batch": (
        HEADS,
        {"split": ints(5, 2, 2), "rows": ints(5, 4), "back": ints(5, 1, 4), "w": normal(4, 4), "v": normal(4, 4)},
        (5, 4), (5, 4),
    ),
    "first token": (
        [N("Concat", ["token", "x"], ["c"], axis=1), N("MatMul", ["c", "w"], ["z"]),
         N("Gather", ["z", "at"], ["y"], axis=1)],
        {"token": normal(1, 1, 4), "at": np.array(0, np.int64), **W42}, (3, 4), (2,),
    ),
    "zero states of an LSTM": (
        [*recurrent("LSTM", 4, "/h0", "/h0"), N("Squeeze", ["last", "zero"], ["y"])],
        {"/h0": np.zeros((1, 1, H), np.float32), "zero": ints(0), **weights(4)}, (2, 6), (H,),
    ),
    "learnt state of a GRU": (
        [*recurrent("GRU", 3, "h0"), N("Squeeze", ["last", "zero"], ["y"])],
        {"h0": normal(1, 1, H), "zero": ints(0), **weights(3)}, (2, 6), (H,),
    ),
    "LSTM laid out by Reshape": (
        [*recurrent("LSTM", 4, "/h0", "/h0"), N("Transpose", ["seq"], ["m"], perm=[0, 2, 1, 3]),
         N("Reshape", ["m", "s"], ["o"]), N("Transpose", ["o"], ["y"], perm=[1, 0, 2])],
        {"/h0": np.zeros((1, 1, H), np.float32), "s": ints(6, 1, H), **weights(4)}, (2, 6), (6, H),
    ),
    "sizes computed from a Shape": (
        [N("Shape", ["x"], ["n"]), N("Slice", ["n", "a", "b"], ["two"]), N("Concat", ["lead", "two"], ["s"], axis=0),
         N("Reshape", ["x", "s"], ["r"]), N("MatMul", ["r", "w"], ["z"]), N("Reshape", ["z", "t"], ["y"])],
        {"a": ints(1), "b": ints(3), "lead": ints(1, 1), "t": ints(1, 6), **W42}, (3, 4), (6,),
    ),
    "Slice over the batch": (
        [N("Slice", ["x", "a", "b", "a"], ["c"]), N("MatMul", ["c", "w"], ["y"])],
        {"a": ints(0), "b": ints(1), **W42}, (4,), (2,),
    ),
    "Resize to sizes": (
        [N("Resize", ["x", "", "", "s"], ["r"]), N("Conv", ["r", "k"], ["y"])],
        {"s": ints(1, 2, 12), "k": normal(2, 2, 1)}, (2, 6), (2, 12),
    ),
    "result with time first": (
        [N("Transpose", ["x"], ["t"], perm=[1, 0, 2]), N("MatMul", ["t", "w"], ["y"])], W42, (3, 4), (3, 2)
    ),
    "result without its batch": ([N("MatMul", ["x", "w"], ["m"]), N("Squeeze", ["m"], ["y"])], W42, (4,), (2,)),
    "mean over groups": (
        [N("Reshape", ["x", "s"], ["g"]), N("ReduceMean", ["g", "two"], ["m"], keepdims=0),
         N("MatMul", ["m", "w"], ["y"])],
        {"s": ints(1, 4, 3), "two": ints(2), **W42}, (12,), (2,),
    ),
    "Einsum": ([N("Einsum", ["x", "w"], ["e"], equation="btc,ck->btk"), N("Reshape", ["e", "s"], ["y"])],
               {"s": ints(1, 6), **W42}, (3, 4), (6,)),
    "a learnt query of each head": (
        [N("Transpose", ["x"], ["t"], perm=[1, 0, 2]), N("Reshape", ["t", "split"], ["h"]),
         N("Transpose", ["h"], ["k"], perm=[1, 2, 0]), N("Transpose", ["h"], ["v"], perm=[1, 0, 2]),
         N("MatMul", ["query", "k"], ["a"]), N("Softmax", ["a"], ["p"], axis=2), N("MatMul", ["p", "v"], ["o"]),
         N("Reshape", ["o", "s"], ["r"]), N("MatMul", ["r", "w"], ["y"])],
        {"split": ints(5, 2, 2), "query": normal(2, 1, 2), "s": ints(1, 4), **W42}, (5, 4), (2,),
    ),
    "a factor of each head": (
        [N("Reshape", ["x", "split"], ["h"]), N("Mul", ["h", "f"], ["m"]), N("Reshape", ["m", "s"], ["r"]),
         N("MatMul", ["r", "w"], ["y"])],
        {"split": ints(2, 2), "f": normal(2, 1), "s": ints(1, 4), **W42}, (4,), (2,),
    ),
    "numbers of samples looked up": (
        [N("Cast", ["x"], ["c"], to=onnx.TensorProto.INT64), N("Unsqueeze", ["c", "last"], ["i"]),
         N("GatherND", ["table", "i"], ["g"]), N("Reshape", ["g", "s"], ["r"]), N("MatMul", ["r", "w"], ["y"])],
        {"last": ints(-1), "table": normal(20), "s": ints(1, 4), **W42}, (4,), (2,),
    ),
    "pooling to a size that does not divide": (
        [N("Transpose", ["x"], ["t"], perm=[2, 0, 1]), N("GatherND", ["t", "i"], ["g"]),
         N("ReduceMean", ["g", "one"], ["m"], keepdims=0), N("Transpose", ["m"], ["b"], perm=[1, 0, 2]),
         N("Reshape", ["b", "s"], ["r"]), N("MatMul", ["r", "a"], ["y"])],
        {"i": ints(0, 1, 2, 3, 4, 5).reshape(3, 2, 1), "one": ints(1), "s": ints(1, 6), "a": normal(6, 2)},
        (2, 7), (2,),
    ),
    "the best two experts": (
        [N("MatMul", ["x", "g"], ["z"]), N("TopK", ["z", "two"], ["best", "i"]), N("Softmax", ["best"], ["p"], axis=1),
         N("ScatterElements", ["none", "i", "p"], ["e"], axis=1), N("GatherElements", ["e", "turn"], ["f"], axis=1),
         N("Reshape", ["f", "s"], ["r"]), N("MatMul", ["r", "w"], ["y"])],
        {"g": normal(4, 4), "two": ints(2), "none": normal(1, 4), "turn": ints(3, 2, 1, 0)[None],
         "s": ints(1, 4), **W42},
        (4,), (2,),
    ),
    "STFT": (
        [N("STFT", ["x", "by", "window"], ["f"]), N("Reshape", ["f", "s"], ["r"]), N("MatMul", ["r", "a"], ["y"])],
        {"by": np.array(2), "window": 1 + np.abs(normal(4)), "s": ints(1, 30), "a": normal(30, 2)}, (12,), (2,),
    ),
    "a crop, and sizes of every dimension": (
        [N("Unsqueeze", ["x", "last"], ["u"]),
         N("Resize", ["u", "roi", "", "s"], ["r"], mode="linear", coordinate_transformation_mode="tf_crop_and_resize",
           extrapolation_value=0.3),
         N("Reshape", ["r", "t"], ["f"]), N("MatMul", ["f", "a"], ["y"])],
        {"last": ints(-1), "roi": np.array([0, 0, 0.1, 0, 1, 1, 1.2, 1], np.float32), "s": ints(1, 2, 4, 1),
         "t": ints(1, 8), "a": normal(8, 2)}, (2, 6), (2,),
    ),
    "sizes of an affine grid": (
        [N("Unsqueeze", ["x", "one"], ["p"]), N("Reshape", ["x", "rows"], ["f"]), N("MatMul", ["f", "a"], ["t"]),
         N("Reshape", ["t", "two"], ["theta"]), N("AffineGrid", ["theta", "size"], ["grid"]),
         N("GridSample", ["p", "grid"], ["g"]), N("Reshape", ["g", "rows"], ["y"])],
        {"one": ints(1), "rows": ints(1, 12), "a": 0.3 * normal(12, 6), "two": ints(1, 2, 3), "size": ints(1, 1, 3, 4)},
        (3, 4), (12,),
    ),
    "a learnt grid": (
        [N("Unsqueeze", ["x", "one"], ["p"]), N("Expand", ["theta", "lead"], ["e"]),
         N("AffineGrid", ["e", "size"], ["grid"]), N("GridSample", ["p", "grid"], ["g"]),
         N("Reshape", ["g", "s"], ["f"]), N("MatMul", ["f", "a"], ["y"])],
        {"one": ints(1), "theta": 0.3 * normal(1, 2, 3), "lead": ints(1, 2, 3), "size": ints(1, 1, 3, 4),
         "s": ints(1, 12), "a": normal(12, 2)}, (3, 4), (2,),
    ),
    "a part that is put into zeros": (
        [N("Transpose", ["x"], ["t"], perm=[1, 0, 2]), N("MatMul", ["t", "w"], ["m"]),
         N("ScatterND", ["zeros", "at", "m"], ["z"]), N("Transpose", ["z"], ["b"], perm=[1, 0, 2]),
         N("Reshape", ["b", "s"], ["y"])],
        {"zeros": np.zeros((5, 1, 2), np.float32), "at": ints(4, 0, 2).reshape(3, 1), "s": ints(1, 10), **W42},
        (3, 4), (10,),
    ),
    "a part that is overwritten": (
        [N("MatMul", ["x", "w"], ["m"]), N("Transpose", ["m"], ["t"], perm=[1, 2, 0]),
         N("ScatterND", ["t", "at", "v"], ["z"]), N("Transpose", ["z"], ["b"], perm=[2, 0, 1]),
         N("Reshape", ["b", "s"], ["y"])],
        {"at": ints(0, 1, 2, 0).reshape(2, 2), "v": normal(2, 1), "s": ints(1, 6), **W42}, (3, 4), (6,),
    ),
    "classes of samples": (
        [N("ArgMax", ["x"], ["i"], axis=1, keepdims=0), N("OneHot", ["i", "depth", "values"], ["h"]),
         N("Concat", ["h", "x"], ["c"], axis=1), N("Reshape", ["c", "s"], ["r"]), N("MatMul", ["r", "a"], ["y"])],
        {"depth": np.array(4), "values": np.array([0, 1], np.float32), "s": ints(1, 8), "a": normal(8, 2)}, (4,), (2,),
    ),
    "scores by a vector": (
        [N("MatMul", ["v", "x"], ["e"]), N("Softmax", ["e"], ["p"], axis=1), N("Reshape", ["p", "s"], ["r"]),
         N("MatMul", ["r", "a"], ["y"])],
        {"v": normal(2), "s": ints(1, 6), "a": normal(6, 2)}, (2, 6), (2,),
    ),
    "zero states that are cut out of those of two layers": (
        [N("Slice", ["/states", "zero", "one", "zero"], ["h0"]), *recurrent("LSTM", 4, "h0", "h0"),
         N("Squeeze", ["last", "zero"], ["y"])],
        {"/states": np.zeros((2, 1, H), np.float32), "zero": ints(0), "one": ints(1), **weights(4)}, (2, 6), (H,),
    ),
    "learnt states that are still zero, cut out of those of two layers": (
        [N("Slice", ["states", "zero", "one", "zero"], ["val_3"]), N("Expand", ["val_3", "s"], ["val_4"]),
         *recurrent("GRU", 3, "val_4"), N("Squeeze", ["last", "zero"], ["y"])],
        {"states": np.zeros((2, 1, H), np.float32), "zero": ints(0), "one": ints(1), "s": ints(1, 1, H), **weights(3)},
        (2, 6), (H,),
    ),
    "DFT": (
        [N("Unsqueeze", ["x", "last"], ["u"]), N("DFT", ["u"], ["f"], axis=2, onesided=1),
         N("Reshape", ["f", "s"], ["r"]), N("MatMul", ["r", "a"], ["y"])],
        {"last": ints(-1), "s": ints(1, 16), "a": normal(16, 2)}, (2, 6), (2,),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_batch_of_one_is_freed(name: str, tmp_path: Path) -> None:
    model, data = taken(CASES[name], tmp_path, opset=20 if "grid" in name else 18)
    x = normal(5, *CASES[name][2])
    expected, y = one_by_one(model, x), run_ort(data, x)
    np.testing.assert_allclose(y.reshape(5, -1), expected, rtol=1e-5, atol=1e-6)
    graph = TrainableGraph.load(data)
    graph.probe()
    np.testing.assert_allclose(graph.forward(x), y, rtol=1e-4, atol=1e-5)
    check_gradient(onnx.ModelProto.FromString(data), x)


def test_zero_states_are_no_parameters_and_learnt_ones_are(tmp_path: Path) -> None:
    _, data = taken(CASES["zero states of an LSTM"], tmp_path)
    assert {t.name for t in TrainableGraph.load(data).layout} == {"w", "r", "b"}
    _, data = taken(CASES["zero states that are cut out of those of two layers"], tmp_path)
    assert {t.name for t in TrainableGraph.load(data).layout} == {"w", "r", "b"}
    _, data = taken(CASES["learnt state of a GRU"], tmp_path)
    assert {t.name for t in TrainableGraph.load(data).layout} == {"w", "r", "b", "h0"}
    _, data = taken(CASES["learnt states that are still zero, cut out of those of two layers"], tmp_path)
    assert {t.name for t in TrainableGraph.load(data).layout} == {"w", "r", "b", "states"}


@pytest.mark.parametrize("batch", [3, 8])
def test_larger_batch_is_freed_as_well(batch: int, tmp_path: Path) -> None:
    nodes = [N("Reshape", ["x", "s"], ["r"]), N("MatMul", ["r", "w"], ["z"]), N("Reshape", ["z", "t"], ["y"])]
    case: Case = (nodes, {"s": ints(batch * 3, 4), "t": ints(batch, 6), **W42}, (3, 4), (6,))
    model, data = taken(case, tmp_path, batch)
    x = normal(batch, 3, 4)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(run_ort(data, x[:2]), session.run(None, {"x": x})[0][:2], rtol=1e-5, atol=1e-6)
    graph = TrainableGraph.load(data)
    graph.probe()
    assert any(f"a batch of {batch}" in note for note in graph.notes)


def test_constant_rows_of_a_larger_batch_that_are_the_same_are_one(tmp_path: Path) -> None:
    """What a network makes in the size of its example: a learnt token or state that is expanded, zeros."""
    nodes = [
        N("Expand", ["token", "s"], ["e"]), N("Concat", ["e", "x"], ["c"], axis=1), N("Add", ["c", "zeros"], ["a"]),
        N("Transpose", ["a"], ["t"], perm=[1, 0, 2]), N("Squeeze", ["last", "first"], ["y"]),
    ]  # fmt: skip
    nodes.insert(4, N("GRU", ["t", "w", "r", "", "", "h0"], ["", "last"], hidden_size=H))
    tensors = {"token": normal(1, 1, 4), "s": ints(5, 1, 4), "zeros": np.zeros((5, 1, 4), np.float32), "first": ints(0)}
    tensors |= {"w": normal(1, 3 * H, 4), "r": normal(1, 3 * H, H), "h0": np.full((1, 5, H), 0.5, np.float32)}
    model, data = taken((nodes, tensors, (3, 4), (H,)), tmp_path, 5)
    x = normal(5, 3, 4)
    np.testing.assert_allclose(run_ort(data, x[:2]), run_ort(model.SerializeToString(), x)[:2], rtol=1e-5, atol=1e-6)
    graph = TrainableGraph.load(data, "token,w,r,h0")
    assert {t.name: t.shape for t in graph.layout}["h0"] == (1, 1, H)  # what the module has
    check_gradient(onnx.ModelProto.FromString(data), x[:3], "token,w,r,h0")


@pytest.mark.parametrize("computed", [False, True])
def test_parts_of_each_sample_of_a_larger_batch_are_those_of_one(computed: bool, tmp_path: Path) -> None:
    """A learnt query of two heads, for each of three samples, as PyTorch stores it, or what is computed from it."""
    nodes, tensors, x, y = CASES["a learnt query of each head"]
    name, nodes = ("raw", [N("Tanh", ["raw"], ["query"]), *nodes]) if computed else ("query", nodes)
    tensors = {n: v for n, v in tensors.items() if n != "query"} | {"split": ints(5, 6, 2), "s": ints(3, 4)}
    tensors[name] = np.tile(normal(2, 1, 2), (3, 1, 1))
    model, data = taken((nodes, tensors, x, y), tmp_path, 3)
    batch = normal(3, *x)
    np.testing.assert_allclose(run_ort(data, batch[:2]), run_ort(model.SerializeToString(), batch)[:2], rtol=1e-5)
    assert {t.name: t.shape for t in TrainableGraph.load(data).layout}[name] == ((6, 1, 2) if computed else (2, 1, 2))
    check_gradient(onnx.ModelProto.FromString(data), batch)
    tensors[name] = normal(6, 1, 2)
    with pytest.raises(ModelError, match=r"exported for a batch of 3, which its nodes hold.*dynamic_shapes"):
        taken((nodes, tensors, x, y), tmp_path, 3)


@pytest.mark.parametrize(("name", "said"), [("onnx::GRU_7", True), ("/l/zeros", False)])
def test_zero_that_may_be_a_learnt_state_is_named(name: str, said: bool, tmp_path: Path) -> None:
    nodes = [*recurrent("GRU", 3, name), N("Squeeze", ["last", "zero"], ["y"])]
    case = (nodes, {name: np.zeros((1, 1, H), np.float32), "zero": ints(0), **weights(3)}, (2, 6), (H,))
    graph = TrainableGraph.load(taken(case, tmp_path)[1])
    assert any(n.startswith(f"state: {name} is zero") for n in graph.notes) is said
    assert {t.name for t in graph.layout} == {"w", "r", "b"}


def test_sizes_of_an_old_resize_hold_the_number_of_samples(tmp_path: Path) -> None:
    """Before opset 18 a Resize has no axes."""
    nodes = [N("Resize", ["x", "", "", "s"], ["r"], mode="linear"), N("Conv", ["r", "k"], ["y"])]
    model, data = taken((nodes, {"s": ints(1, 2, 9), "k": normal(2, 2, 1)}, (2, 6), (2, 9)), tmp_path, 1, 14)
    x = normal(3, 2, 6)
    np.testing.assert_allclose(run_ort(data, x), one_by_one(model, x), rtol=1e-5, atol=1e-6)
    check_gradient(onnx.ModelProto.FromString(data), x)


MIXED: dict[str, list[onnx.NodeProto]] = {
    "normalised over the batch": [N("Softmax", ["x"], ["p"], axis=0), N("MatMul", ["p", "w"], ["y"])],
    "less the mean of the batch": [
        N("ReduceMean", ["x", "first"], ["m"]), N("Sub", ["x", "m"], ["d"]), N("MatMul", ["d", "w"], ["y"])
    ],
    "the largest of all samples": [N("TopK", ["x", "one"], ["t", "i"], axis=0), N("MatMul", ["t", "w"], ["y"])],
    "the first sample": [N("GatherND", ["x", "number"], ["t"]), N("MatMul", ["t", "w"], ["y"])],
    "a running sum over samples": [N("CumSum", ["x", "first0"], ["c"]), N("MatMul", ["c", "w"], ["y"])],
}  # fmt: skip


@pytest.mark.parametrize("batch", [0, 1])
@pytest.mark.parametrize("name", MIXED)
def test_graph_that_mixes_samples_is_refused(name: str, batch: int, tmp_path: Path) -> None:
    tensors = {"one": ints(1), "number": ints(0)[None], "first": ints(0), "first0": np.array(0, np.int64), **W42}
    with pytest.raises(ModelError, match=r"first at node .* (it|or) calculates? over the samples"):
        taken((MIXED[name], tensors, (4,), (2,)), tmp_path, batch)


def test_node_at_which_samples_meet_is_named_behind_layouts_that_only_turn_them(tmp_path: Path) -> None:
    """A batch that is second, or rows of all windows together, are no mixing."""
    nodes = [
        N("Transpose", ["x"], ["t"], perm=[2, 0, 1]), N("Tanh", ["t"], ["h"]), N("Reshape", ["h", "rows"], ["r"]),
        N("Sigmoid", ["r"], ["s"]), N("ReduceMax", ["s"], ["largest"], axes=[0], keepdims=1, name="norm"),
        N("ReduceMean", ["x"], ["e"], axes=[2], keepdims=0), N("Div", ["e", "largest"], ["d"]),
        N("MatMul", ["d", "w"], ["y"]),
    ]  # fmt: skip
    with pytest.raises(ModelError, match=r"first at node 'norm' \(ReduceMax\): it calculates over the samples"):
        taken((nodes, {"rows": ints(-1, 4), **W42}, (4, 5), (2,)), tmp_path, 0, 17)


def test_graph_that_takes_samples_apart_says_how_to_export_it(tmp_path: Path) -> None:
    nodes = [N("Gather", ["x", "at"], ["a"], axis=0), N("Reshape", ["a", "s"], ["r"]), N("MatMul", ["r", "w"], ["y"])]
    tensors = {"at": np.array(0, np.int64), "s": ints(1, 4), **W42}
    with pytest.raises(ModelError, match=r"dynamic_shapes=\{'x': \{0: 'batch'\}\}"):
        TrainableGraph.load(taken((nodes, tensors, (4,), (2,)), tmp_path)[1]).probe()


def test_wrong_shapes_of_inner_values_are_left_out(tmp_path: Path) -> None:
    """ONNX Runtime loads no file whose declared shapes do not fit."""
    nodes = [
        N("Conv", ["x", "a"], ["h"]),
        N("Relu", ["h"], ["r"]),
        N("Conv", ["r", "b"], ["c"], dilations=[1]),
        N("ReduceMean", ["c"], ["y"], axes=[2], keepdims=0),
    ]
    model = small(nodes, {"a": normal(4, 3, 2), "b": normal(2, 4, 2)}, (3, 8), (2,))
    right = run_ort(model.SerializeToString(), x := normal(2, 3, 8))
    model.graph.value_info.extend(onnx.helper.make_tensor_value_info(n, 1, ["n", 5, 7, 9]) for n in "hrc")
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    data = read_model(tmp_path / "m.onnx")
    np.testing.assert_allclose(run_ort(data, x), right, rtol=1e-5)
    assert any("of inner values is wrong, and was left out" in n for n in TrainableGraph.load(data).notes)


@pytest.mark.parametrize("batch", [4, 5])
def test_batch_of_the_example_is_found_where_the_file_says_that_it_takes_any(batch: int, tmp_path: Path) -> None:
    """As TorchScript writes `view(4, -1)` of an example of four samples with `dynamic_axes`."""
    nodes = [N("Reshape", ["x", "s"], ["r"], name="view"), N("MatMul", ["r", "w"], ["y"])]
    model, data = taken((nodes, {"s": ints(batch, 6), "w": normal(6, 2)}, (2, 3), (2,)), tmp_path, 0)
    x = normal(batch, 2, 3)
    expected = run_ort(model.SerializeToString(), x)
    np.testing.assert_allclose(run_ort(data, x[:1]), expected[:1], rtol=1e-5)
    graph = TrainableGraph.load(data)
    np.testing.assert_allclose(graph.forward(x), expected, rtol=1e-5)
    assert f"batch: exported for a batch of {batch}; it takes any now, with the same results" in graph.notes


def test_file_that_runs_with_no_batch_names_the_node(tmp_path: Path) -> None:
    nodes = [N("Reshape", ["x", "s"], ["r"], name="view"), N("MatMul", ["r", "w"], ["y"])]
    with pytest.raises(ModelError, match=r"cannot run node 'view' \(Reshape\): .*requested shape:\{7,5\}"):
        taken((nodes, {"s": ints(7, 5), "w": normal(5, 2)}, (2, 3), (2,)), tmp_path, 0)
