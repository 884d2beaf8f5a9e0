# SPDX-License-Identifier: Apache-2.0
"""Tensors that an exporter merged because they were equal train apart; those that are one on purpose train as one."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from fedge_models.errors import ModelError
from fedge_models.graph.card import Card, Channel, WindowSpec, write_card
from fedge_models.graph.intake import read_model
from fedge_models.graph.trainable import TrainableGraph
from support.graphs import N, check_gradient, normal, run_ort, small

CARD = Card(
    "classify", tuple(Channel(c) for c in "abcdef"), WindowSpec(1, 1, 1), features=("mean",), labels=("x", "y", "z")
)
HEAD = N("Gemm", ["n", "head.weight"], ["y"], transB=1)
ONES, ZEROS = np.ones(6, np.float32), np.zeros(6, np.float32)


def taken(model: onnx.ModelProto, folder: Path, card: Card = CARD) -> bytes:
    write_card(model, card)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    data = read_model(folder / "m.onnx")
    (folder / "again.onnx").write_bytes(data)
    assert read_model(folder / "again.onnx") == data  # both ends hash it
    return data


def network(*nodes: onnx.NodeProto, **tensors: np.ndarray) -> onnx.ModelProto:
    return small([*nodes, HEAD], {**tensors, "head.weight": normal(3, 6)}, (6,), (3,))


def trained(data: bytes) -> list[str]:
    return [t.name for t in TrainableGraph.load(data).layout]


def normalised(*names: str) -> onnx.NodeProto:
    return N("BatchNormalization", ["x", *names], ["n"])


FRESH = {
    "the mean is an Identity of the bias": [
        N("Identity", ["bn.bias"], ["bn.running_mean"]),
        N("Identity", ["bn.weight"], ["bn.running_var"]),
        normalised("bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"),
    ],
    "one tensor is scale and variance": [normalised("bn.weight", "bn.bias", "bn.bias", "bn.weight")],
}


@pytest.mark.parametrize("how", FRESH)
def test_fresh_batch_norm_trains_scale_and_bias_and_never_its_statistics(how: str, tmp_path: Path) -> None:
    model = network(*FRESH[how], **{"bn.weight": ONES, "bn.bias": ZEROS})
    data = taken(model, tmp_path)
    assert set(trained(data)) == {"bn.weight", "bn.bias", "head.weight"}
    check_gradient(onnx.ModelProto.FromString(data), normal(5, 6))
    x = normal(4, 6)
    np.testing.assert_allclose(run_ort(data, x), run_ort(model.SerializeToString(), x), rtol=1e-6)


@pytest.mark.parametrize("how", FRESH)
def test_updated_statistics_move_nothing_but_themselves(how: str, tmp_path: Path) -> None:
    card = msgspec.structs.replace(CARD, batch_norm="updated")
    data = taken(network(*FRESH[how], **{"bn.weight": ONES, "bn.bias": ZEROS}), tmp_path, card)
    graph = TrainableGraph.load(data)
    assert {"bn.running_mean", "bn.running_var"} < set(trained(data)) and graph.shared == ()
    before = graph.params.copy()
    graph.training(np.random.default_rng(0))
    graph.forward(normal(16, 6) + 3)
    moved = {t.name for t in graph.layout if (graph.params[t.start : t.stop] != before[t.start : t.stop]).any()}
    assert moved == {"bn.running_mean", "bn.running_var"}


def tiled(parted: bool, op: str = "Tile") -> list[onnx.NodeProto]:
    """An InstanceNorm of PyTorch that tracks statistics: of a fresh one, a Tile makes scale and variance at once."""
    names = (
        [f"in.{n}" for n in ("weight", "bias", "running_mean", "running_var")] if parted else ["in.weight", "in.bias"]
    )
    nodes = [
        N(op, [n] + ["once"] * (op != "Identity"), [f"{n}.tiled"], name=f"/in/{op}_{i}") for i, n in enumerate(names)
    ]
    given = [f"{n}.tiled" for n in names] + ([] if parted else ["in.bias.tiled", "in.weight.tiled"])
    return [*nodes, N("BatchNormalization", ["x", *given], ["n"], name="/in/BatchNormalization")]


@pytest.mark.parametrize("statistics", ["frozen", "updated"])
@pytest.mark.parametrize("parted", [False, True], ids=["fresh", "trained"])
def test_statistics_that_are_tiled_first_are_not_trained(parted: bool, statistics: str, tmp_path: Path) -> None:
    tensors = {"in.weight": ONES, "in.bias": ZEROS, "once": np.array([1])}
    tensors |= {"in.running_mean": normal(6), "in.running_var": 1 + normal(6) ** 2} if parted else {}
    card = msgspec.structs.replace(CARD, batch_norm=statistics)
    data = taken(network(*tiled(parted), **tensors), tmp_path, card)
    graph = TrainableGraph.load(data)
    assert {t.name for t in graph.layout} == {"in.weight", "in.bias", "head.weight"}
    assert any("are not updated" in n for n in graph.notes) is (statistics == "updated")
    if statistics == "frozen":
        check_gradient(onnx.ModelProto.FromString(data), normal(5, 6))
    x = normal(4, 6)
    np.testing.assert_allclose(graph.forward(x), run_ort(data, x), rtol=1e-4, atol=1e-5)


def test_statistics_that_are_reshaped_first_are_not_trained(tmp_path: Path) -> None:
    tensors = {"in.weight": ONES, "in.bias": ZEROS, "once": np.array([6]), "in.running_mean": normal(6),
               "in.running_var": 1 + normal(6) ** 2}  # fmt: skip
    data = taken(network(*tiled(True, "Reshape"), **tensors), tmp_path)
    assert set(trained(data)) == {"in.weight", "in.bias", "head.weight"}


def twice(identity: bool) -> onnx.ModelProto:
    second = "l1.weight" if identity else "l0.weight"
    nodes = [N("MatMul", ["x", "l0.weight"], ["a"]), N("Tanh", ["a"], ["h"]), N("MatMul", ["h", second], ["n"])]
    if identity:
        nodes.insert(0, N("Identity", ["l0.weight"], ["l1.weight"]))
    return network(*nodes, **{"l0.weight": normal(6, 6)})


@pytest.mark.parametrize("identity", [True, False])
def test_two_layers_that_were_equal_train_apart_and_are_named(identity: bool, tmp_path: Path) -> None:
    data = taken(twice(identity), tmp_path)
    graph = TrainableGraph.load(data)
    copy = "l1.weight" if identity else "l0.weight.2"
    assert set(trained(data)) == {"l0.weight", copy, "head.weight"} and graph.shared == ()
    assert any(copy in n and 'shared = ["l0.weight"]' in n for n in graph.notes)
    check_gradient(onnx.ModelProto.FromString(data), normal(5, 6))


@pytest.mark.parametrize("identity", [True, False])
def test_what_the_card_lists_as_shared_stays_one_tensor(identity: bool, tmp_path: Path) -> None:
    data = taken(twice(identity), tmp_path, msgspec.structs.replace(CARD, shared=("l0.*",)))
    graph = TrainableGraph.load(data)
    assert set(trained(data)) == {"l0.weight", "head.weight"} and graph.shared == ("l0.weight",)
    check_gradient(onnx.ModelProto.FromString(data), normal(5, 6))


def test_batch_norm_shares_nothing_though_the_card_lists_it(tmp_path: Path) -> None:
    model = network(N("Add", ["x", "zero"], ["s"]), N("BatchNormalization", ["s", "one", "zero", "zero", "one"], ["n"]),
                    one=ONES, zero=ZEROS)  # fmt: skip
    data = taken(model, tmp_path, msgspec.structs.replace(CARD, shared=("zero",)))
    batch_norm = next(n for n in onnx.ModelProto.FromString(data).graph.node if n.op_type == "BatchNormalization")
    assert len(set(batch_norm.input)) == 5 and "zero" not in batch_norm.input
    said = "the card lists it under shared, which keeps together what reads one parameter, and these are several"
    assert any(n.startswith("untied: zero ") and n.endswith(said) for n in TrainableGraph.load(data).notes)


@pytest.mark.parametrize(("modules", "copies"), [(("a", "a"), 0), (("a", "b"), 1)])
def test_parts_of_one_tensor_in_one_module_stay_one(modules: tuple[str, str], copies: int, tmp_path: Path) -> None:
    """An attention's `in_proj_weight`, cut by what the file computes of a shape."""
    nodes = [N("Shape", ["x"], ["s"]), N("Gather", ["s", "second"], ["width"])]
    nodes.append(N("Add", ["width", "width"], ["all"]))
    nodes += [
        N("Slice", ["a.w", "first", "width"], ["p0"], name=f"/{modules[0]}/Slice"),
        N("Slice", ["a.w", "width", "all"], ["p1"], name=f"/{modules[1]}/Slice_1"),
        *[N("MatMul", ["x", "p0"], ["m"]), N("Tanh", ["m"], ["h"]), N("MatMul", ["h", "p1"], ["n"])],
    ]
    tensors = {"a.w": normal(12, 6), "first": np.array([0]), "second": np.array([1])}
    data = taken(network(*nodes, **tensors), tmp_path)
    assert len([n for n in trained(data) if n != "head.weight"]) == 1 + copies
    said = "a.w is read by 2 Slice and stays one tensor: they take different parts of it"
    assert any(said in n for n in TrainableGraph.load(data).notes) is (copies == 0)
    check_gradient(onnx.ModelProto.FromString(data), normal(5, 6))


def tied(first: np.ndarray, second: np.ndarray) -> onnx.ModelProto:
    """An encoder and its transpose as decoder, as PyTorch's newer exporter stores them: twice."""
    nodes = [N("MatMul", ["x", "encoder.weight"], ["a"]), N("Tanh", ["a"], ["h"]), N("MatMul", ["h", "val_3"], ["n"])]
    return network(*nodes, **{"val_3": second, "encoder.weight": first})


@pytest.mark.parametrize(
    ("glob", "kept"), [("encoder.*", "encoder.weight"), ("*", "encoder.weight"), ("val_3", "val_3")]
)
def test_transposed_copy_that_the_card_lists_as_shared_is_tied(glob: str, kept: str, tmp_path: Path) -> None:
    weight = normal(6, 4)
    model = tied(weight, np.ascontiguousarray(weight.T))
    data = taken(model, tmp_path, msgspec.structs.replace(CARD, shared=(glob,)))
    graph = TrainableGraph.load(data)
    assert set(trained(data)) == {kept, "head.weight"} and graph.shared == (kept,)
    assert any(f"was a transposed copy of {kept}" in n for n in graph.notes)
    check_gradient(onnx.ModelProto.FromString(data), normal(5, 6))
    x = normal(4, 6)
    np.testing.assert_allclose(run_ort(data, x), run_ort(model.SerializeToString(), x), rtol=1e-5, atol=1e-6)


def test_transposed_copy_that_the_card_does_not_list_trains_apart_and_is_named(tmp_path: Path) -> None:
    weight = normal(6, 4)
    data = taken(tied(weight, np.ascontiguousarray(weight.T)), tmp_path)
    assert set(trained(data)) == {"encoder.weight", "val_3", "head.weight"}
    assert any("val_3 is a transposed copy of encoder.weight" in n for n in TrainableGraph.load(data).notes)


@pytest.mark.parametrize("second", [normal(4, 6), np.zeros((4, 6), np.float32)])
def test_other_matrices_are_no_transposed_copies(second: np.ndarray, tmp_path: Path) -> None:
    data = taken(tied(normal(6, 4) if second.any() else np.zeros((6, 4), np.float32), second), tmp_path)
    assert not any("transposed" in n for n in TrainableGraph.load(data).notes)


def test_shared_tensor_that_is_read_once_is_named(tmp_path: Path) -> None:
    data = taken(tied(normal(6, 4), normal(4, 6)), tmp_path, msgspec.structs.replace(CARD, shared=("encoder.weight",)))
    assert any("'encoder.weight' has no effect" in n for n in TrainableGraph.load(data).notes)


def test_shared_tensor_that_is_not_there_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"shared lists 'l0\.wieght'.*l0\.weight"):
        taken(twice(True), tmp_path, msgspec.structs.replace(CARD, shared=("l0.wieght",)))


def test_layer_that_a_module_repeats_is_a_loop_over_time_and_stays_one(tmp_path: Path) -> None:
    """A cell in a Python loop: every step reads the same weights."""
    nodes = [N("MatMul", [f"h{i}" if i else "x", "w"], [f"h{i + 1}"], name=f"/cell/MatMul_{i}") for i in range(5)]
    data = taken(network(*nodes, N("Tanh", ["h5"], ["n"]), w=0.4 * normal(6, 6)), tmp_path)
    assert set(trained(data)) == {"w", "head.weight"}
    assert any("w is read by 5 MatMul and stays one" in n for n in TrainableGraph.load(data).notes)
    check_gradient(onnx.ModelProto.FromString(data), normal(5, 6))


def test_equal_biases_of_one_module_are_no_loop(tmp_path: Path) -> None:
    """Four gates written by hand, with biases of zero: one module reads the merged tensor four times."""
    nodes = [N("MatMul", ["x", f"w{i}"], [f"m{i}"], name=f"/cell/MatMul_{i}") for i in range(4)]
    nodes += [N("Add", [f"m{i}", "cell.b0"], [f"g{i}"], name=f"/cell/Add_{i}") for i in range(4)]
    nodes += [N("Sum", [f"g{i}" for i in range(4)], ["s"]), N("Tanh", ["s"], ["n"])]
    tensors = {f"w{i}": normal(6, 6) for i in range(4)} | {"cell.b0": ZEROS}
    assert len(trained(taken(network(*nodes, **tensors), tmp_path))) == 4 + 4 + 1


def test_calls_of_a_cell_that_the_exporter_numbers_are_a_loop_too(tmp_path: Path) -> None:
    names = ["/cell/MatMul", *(f"/cell_{i}/MatMul" for i in range(1, 5))]
    nodes = [N("MatMul", [f"h{i}" if i else "x", "cell.w"], [f"h{i + 1}"], name=n) for i, n in enumerate(names)]
    data = taken(network(*nodes, N("Tanh", ["h5"], ["n"]), **{"cell.w": 0.4 * normal(6, 6)}), tmp_path)
    assert set(trained(data)) == {"cell.w", "head.weight"}


def test_what_a_weight_is_computed_from_stays_one(tmp_path: Path) -> None:
    """Weight normalisation (Salimans and Kingma 2016): the direction is read for its length, and as itself."""
    nodes = [
        N("ReduceL2", ["v"], ["length"], axes=[1], keepdims=1),
        N("Div", ["v", "length"], ["unit"]),
        N("Mul", ["unit", "g"], ["w"]),
        N("MatMul", ["x", "w"], ["n"]),
    ]
    data = taken(network(*nodes, v=normal(6, 6), g=1 + normal(6, 1) ** 2), tmp_path)
    assert set(trained(data)) == {"v", "g", "head.weight"}
    check_gradient(onnx.ModelProto.FromString(data), normal(5, 6))


def test_copies_are_named_by_the_module_that_reads_them(tmp_path: Path) -> None:
    """As torch's exporter merges the fresh biases of two layers: patterns find each under the name of its layer."""
    names = ["/enc/layers.0/linear/Add", "/enc/layers.1/linear/Add"]
    nodes = [N("Add", ["x", "enc.layers.0.linear.bias"], ["a"], name=names[0])]
    nodes += [N("Tanh", ["a"], ["h"]), N("Add", ["h", "enc.layers.0.linear.bias"], ["n"], name=names[1])]
    data = taken(network(*nodes, **{"enc.layers.0.linear.bias": normal(6)}), tmp_path)
    names = [t.name for t in TrainableGraph.load(data, "enc.layers.1.*").layout]
    assert names == ["enc.layers.1.linear.bias"]


@pytest.mark.parametrize("count", [2, 5])
@pytest.mark.parametrize("copied", [False, True], ids=["one tensor", "a copy of it"])
@pytest.mark.parametrize("roi", [0, 6], ids=["empty", "filled"])
def test_sizes_that_several_nodes_read_are_no_question(roi: int, copied: bool, count: int, tmp_path: Path) -> None:
    """As a simplifier merges what Resize reads: a region of interest, which may be empty, and scales."""
    nodes = [N("Reshape", ["x", "shape"], ["r0"]), *[N("Identity", ["roi"], ["again"])] * copied]
    for i in range(count):
        nodes.append(N("Resize", [f"r{i}", "again" if copied and i else "roi", "scales"], [f"r{i + 1}"]))
    nodes += [N("Reshape", [f"r{count}", "flat"], ["f"]), N("MatMul", ["f", "w"], ["n"])]
    tensors = {"roi": np.zeros(roi, np.float32), "scales": np.array([1, 1, 2], np.float32),
               "shape": np.array([-1, 1, 6]), "flat": np.array([-1, 6 * 2**count])}  # fmt: skip
    model = network(*nodes, **tensors, w=normal(6 * 2**count, 6))
    data = taken(model, tmp_path)
    graph = TrainableGraph.load(data)
    assert set(trained(data)) == {"w", "head.weight"}
    assert not any(n.startswith(("untied: ", "shared: ")) for n in graph.notes)
    x = normal(4, 6)
    np.testing.assert_allclose(graph.forward(x), run_ort(model.SerializeToString(), x), rtol=1e-4, atol=1e-5)


def unrolled(steps: int = 5, layers: str = "a", bias: np.ndarray = ZEROS, state: str = "x") -> list[onnx.NodeProto]:
    """Simple recurrent layers as Keras writes them with unroll=True, one after the other: no module in the names."""
    nodes = []
    for layer in layers:
        for t in range(steps):
            given = f"x{t}" if layer == layers[0] else f"{layers[layers.index(layer) - 1]}{t}"
            before = f"{layer}{t - 1}" if t else state
            nodes += [
                N("MatMul", [given, f"{layer}.kernel"], [f"{layer}{t}.i"], name=f"rnn/cell_{t}/MatMul_{layer}"),
                N("MatMul", [before, f"{layer}.recurrent"], [f"{layer}{t}.r"], name=f"rnn/cell_{t}/MatMul_1{layer}"),
                N("Add", [f"{layer}{t}.i", f"{layer}{t}.r"], [f"{layer}{t}.s"]),
                N("Add", [f"{layer}{t}.s", "bias"], [f"{layer}{t}.b"]),
                N("Tanh", [f"{layer}{t}.b"], [f"{layer}{t}"]),
            ]
    return nodes


def pieces(steps: int = 5) -> list[onnx.NodeProto]:
    return [N("Mul", ["x", f"f{t}"], [f"x{t}"]) for t in range(steps)]


def factors(steps: int = 5) -> dict[str, np.ndarray]:
    return {f"f{t}": np.array(t + 1, np.float32) for t in range(steps)}


def kernels(layers: str) -> dict[str, np.ndarray]:
    return {f"{a}.{kind}": 0.3 * normal(6, 6) for a in layers for kind in ("kernel", "recurrent")}


@pytest.mark.parametrize("bias", [ZEROS, 0.1 * np.arange(6, dtype=np.float32)], ids=["fresh", "trained"])
def test_unrolled_layer_of_keras_keeps_one_kernel_and_one_bias(bias: np.ndarray, tmp_path: Path) -> None:
    nodes = [*pieces(), *unrolled(bias=bias), N("Identity", ["a4"], ["n"])]
    data = taken(network(*nodes, bias=bias, **kernels("a"), **factors()), tmp_path)
    assert set(trained(data)) == {"a.kernel", "a.recurrent", "bias", "head.weight"}
    notes = TrainableGraph.load(data).notes
    assert any("a.kernel is read by 5 MatMul and stays one tensor: an unrolled loop" in n for n in notes)
    check_gradient(onnx.ModelProto.FromString(data), normal(5, 6))


def test_two_unrolled_layers_have_a_bias_each_though_both_were_zero(tmp_path: Path) -> None:
    nodes = [*pieces(), *unrolled(layers="ab"), N("Add", ["b4", "bias"], ["n"])]
    data = taken(network(*nodes, bias=ZEROS, **kernels("ab"), **factors()), tmp_path)
    names = {"a.kernel", "a.recurrent", "b.kernel", "b.recurrent", "bias", "bias.2", "bias.3", "head.weight"}
    assert set(trained(data)) == names  # the third is added behind the loops


FORGETS = np.repeat(np.array([0, 1, 0], np.float32), 2)


def test_two_unrolled_layers_have_a_bias_each_though_both_forget_alike(tmp_path: Path) -> None:
    """As the bias of a fresh LSTM of Keras: not constant, and the same in every layer."""
    nodes = [*pieces(), *unrolled(layers="ab"), N("Identity", ["b4"], ["n"])]
    data = taken(network(*nodes, bias=FORGETS, **kernels("ab"), **factors()), tmp_path)
    names = {"a.kernel", "a.recurrent", "b.kernel", "b.recurrent", "bias", "bias.2", "head.weight"}
    assert set(trained(data)) == names
    check_gradient(onnx.ModelProto.FromString(data), normal(5, 6))


def stacked(layers: int, name: str) -> onnx.ModelProto:
    """LSTMs of two units, one behind the other, whose biases were equal; a sample is a window of three steps."""
    nodes = [N("Reshape", ["x", "steps"], ["windows"]), N("Transpose", ["windows"], ["x0"], perm=[1, 0, 2])]
    tensors, given = {"steps": np.array([-1, 3, 2]), "axis": np.array([1]), "flat": np.array([-1, 6])}, "x0"
    for i in range(layers):
        read = [given, f"g.weight_ih_l{i}", f"g.weight_hh_l{i}", "g.bias_l0"]
        nodes.append(N("LSTM", read, [f"y{i}"], hidden_size=2, name=name.format(i)))
        nodes.append(N("Squeeze", [f"y{i}", "axis"], [given := f"h{i}"]))
        tensors |= {n: normal(1, 8, 2) for n in read[1:3]}
    nodes += [N("Transpose", [given], ["t"], perm=[1, 0, 2]), N("Reshape", ["t", "flat"], ["n"])]
    bias = np.repeat(np.array([[0, 0, 1, 0, 0, 0, 0, 0]], np.float32), 2, axis=1)
    return network(*nodes, **{**tensors, "g.bias_l0": bias})


@pytest.mark.parametrize("name", ["/g/LSTM_{}", "LSTM__{}"], ids=["of one module", "without a module"])
def test_stacked_recurrent_layers_have_a_bias_each_though_all_forget_alike(name: str, tmp_path: Path) -> None:
    data = taken(stacked(4, name), tmp_path)
    assert {n for n in trained(data) if "bias" in n} == {f"g.bias_l{i}" for i in range(4)}
    assert TrainableGraph.load(data).shared == ()
    check_gradient(onnx.ModelProto.FromString(data), normal(5, 6))


def test_recurrent_layer_that_is_called_again_and_again_keeps_its_bias(tmp_path: Path) -> None:
    model = stacked(4, "/g/LSTM_{}")
    for node in model.graph.node:
        node.input[:] = [n.rpartition("_l")[0] + "_l0" if n.startswith("g.weight") else n for n in node.input]
    assert set(trained(taken(model, tmp_path))) == {"g.weight_ih_l0", "g.weight_hh_l0", "g.bias_l0", "head.weight"}


def test_two_kernels_of_one_looped_module_have_a_bias_each(tmp_path: Path) -> None:
    """A cell that calls functions with parameters of its own, whose biases were both zero."""
    nodes = []
    for t in range(4):
        nodes.append(N("Gemm", [f"h{t}" if t else "x", "cell.w1", "cell.b1"], [f"i{t}"], name=f"/cell/Gemm_{2 * t}"))
        nodes.append(N("Tanh", [f"i{t}"], [f"t{t}"]))
        nodes.append(N("Gemm", [f"t{t}", "cell.w2", "cell.b1"], [f"h{t + 1}"], name=f"/cell/Gemm_{2 * t + 1}"))
    tensors: dict[str, np.ndarray] = {"cell.w1": 0.4 * normal(6, 6), "cell.w2": 0.4 * normal(6, 6), "cell.b1": ZEROS}
    data = taken(network(*nodes, N("Tanh", ["h4"], ["n"]), **tensors), tmp_path)
    assert set(trained(data)) == {"cell.w1", "cell.w2", "cell.b1", "cell.b1.2", "head.weight"}


def called(read: str, *more: onnx.NodeProto, steps: int = 6) -> list[onnx.NodeProto]:
    """A weight without a bias in a loop over time: torch's older exporter folds a transposed copy for each call."""
    calls = ["wh", *(f"wh_{t}" for t in range(1, steps))]
    nodes = [N("Identity", ["wh.weight"], [f"{read}{t}"]) for t in range(1, steps)]
    for t, call in enumerate(calls):
        given = [f"h{t}" if t else "x", f"{read}{t}" if t else "wh.weight"]
        nodes += [N("MatMul", given, [f"m{t}"], name=f"/{call}/MatMul"), N("Tanh", [f"m{t}"], [f"h{t + 1}"])]
    return [*nodes, *more, N("Identity", [f"h{steps}"], ["n"])]


def test_calls_of_a_layer_without_a_bias_are_a_loop(tmp_path: Path) -> None:
    data = taken(network(*called("onnx::MatMul_24"), **{"wh.weight": 0.5 * normal(6, 6)}), tmp_path)
    assert set(trained(data)) == {"wh.weight", "head.weight"}
    check_gradient(onnx.ModelProto.FromString(data), normal(5, 6))


def test_layers_that_a_user_numbered_are_no_calls_when_the_file_has_their_names(tmp_path: Path) -> None:
    nodes = called("wh_")
    for node in nodes:
        node.input[:] = [f"{n}.weight" if n.startswith("wh_") else n for n in node.input]
        node.output[:] = [f"{n}.weight" if n.startswith("wh_") else n for n in node.output]
    data = taken(network(*nodes, **{"wh.weight": 0.5 * normal(6, 6)}), tmp_path)
    assert set(trained(data)) == {"wh.weight", *(f"wh_{t}.weight" for t in range(1, 6)), "head.weight"}


def test_fresh_scale_of_a_layer_norm_in_a_loop_stays_one(tmp_path: Path) -> None:
    """One is merged with the scale of another module, which is none of the loop."""
    nodes = [N("LayerNormalization", [f"h{t}" if t else "x", "ln.weight", "ln.bias"], [f"h{t + 1}"],
               name=f"/ln_{t}/LayerNormalization" if t else "/ln/LayerNormalization") for t in range(5)]  # fmt: skip
    nodes.append(N("LayerNormalization", ["h5", "ln.weight", "ln.bias"], ["n"], name="/last/LayerNormalization"))
    data = taken(network(*nodes, **{"ln.weight": ONES, "ln.bias": ZEROS}), tmp_path)
    assert set(trained(data)) == {"ln.weight", "ln.bias", "last.weight", "last.bias", "head.weight"}


def skipping(steps: int, skips: int) -> list[onnx.NodeProto]:
    """A state space model: in each step, a skip of ones (Gu and Dao 2023) beside the matrix of the state."""
    nodes = pieces(steps)
    for t in range(steps):
        nodes.append(N("MatMul", [f"h{t}" if t else "x", "A"], [f"m{t}"]))
        nodes += [N("Mul", ["D", f"x{t}"], [f"d{t}"])] if t < skips else []
        nodes.append(N("Add", [f"m{t}", f"d{t}" if t < skips else "x"], [f"h{t + 1}"]))
    return [*nodes, N("Tanh", [f"h{steps}"], ["n"])]


def test_fresh_vector_that_is_read_once_in_each_step_of_a_loop_stays_one(tmp_path: Path) -> None:
    data = taken(network(*skipping(5, 5), A=0.3 * normal(6, 6), D=ONES, **factors()), tmp_path)
    assert set(trained(data)) == {"A", "D", "head.weight"}
    notes = TrainableGraph.load(data).notes
    assert any("D is read by 5 Mul and stays one tensor: an unrolled loop" in n for n in notes)


def test_fresh_vector_that_is_read_in_some_steps_only_is_parted(tmp_path: Path) -> None:
    data = taken(network(*skipping(6, 5), A=0.3 * normal(6, 6), D=ONES, **factors(6)), tmp_path)
    assert {n for n in trained(data) if n.startswith("D")} == {"D", *(f"D.{i}" for i in range(2, 6))}


def leaking(steps: int, layer: str = "i.weight") -> list[onnx.NodeProto]:
    """A leaky cell by hand: in each step, a decay of the network's own beside a layer, which is a module."""
    nodes = [N("Tanh", ["x"], ["h0"])]
    for t in range(steps):
        call = f"/i_{t}/MatMul" if t else "/i/MatMul"
        nodes.append(N("MatMul", [f"h{t}", layer.format(t)], [f"i{t}"], name=call if layer == "i.weight" else ""))
        nodes.append(N("Mul", ["decay", f"h{t}"], [f"d{t}"]))
        nodes.append(N("Add", [f"d{t}", f"i{t}"], [f"h{t + 1}"]))
    return [*nodes, N("Tanh", [f"h{steps}"], ["n"])]


def test_vector_of_the_network_itself_stays_one_in_a_loop_of_a_module(tmp_path: Path) -> None:
    tensors = {"i.weight": 0.5 * normal(6, 6), "decay": normal(6)}
    data = taken(network(*leaking(5), **tensors), tmp_path)
    assert set(trained(data)) == {"i.weight", "decay", "head.weight"}
    assert any("decay is read by 5 Mul and stays one tensor" in n for n in TrainableGraph.load(data).notes)
    check_gradient(onnx.ModelProto.FromString(data), normal(5, 6))


def test_vector_beside_a_layer_of_its_own_in_each_step_is_parted(tmp_path: Path) -> None:
    """Five layers that began alike, each with a scale: nothing is a loop."""
    tensors = {f"layer{t}": 0.5 * normal(6, 6) for t in range(5)}
    data = taken(network(*leaking(5, "layer{}"), **tensors, decay=normal(6)), tmp_path)
    assert len([n for n in trained(data) if n.startswith("decay")]) > 1


def test_experts_that_were_equal_train_apart(tmp_path: Path) -> None:
    """All read the same input: a loop would compute the same thing again and again."""
    nodes = [N("MatMul", ["x", "w"], [f"e{i}"]) for i in range(5)]
    data = taken(network(*nodes, N("Sum", [f"e{i}" for i in range(5)], ["n"]), w=normal(6, 6)), tmp_path)
    assert len(trained(data)) == 6


def test_equal_layers_of_five_modules_train_apart(tmp_path: Path) -> None:
    """The layers of a fresh Transformer, which are copies of one."""
    nodes = [N("MatMul", [f"h{i}" if i else "x", "layers.0.w"], [f"h{i + 1}"], name=f"/layers.{i}/MatMul")
             for i in range(5)]  # fmt: skip
    data = taken(network(*nodes, N("Tanh", ["h5"], ["n"]), **{"layers.0.w": 0.4 * normal(6, 6)}), tmp_path)
    assert set(trained(data)) == {*(f"layers.{i}.w" for i in range(5)), "head.weight"}


def test_one_encoder_for_four_sensors_stays_one(tmp_path: Path) -> None:
    nodes = [*pieces(4), *(N("MatMul", [f"x{t}", "w"], [f"e{t}"]) for t in range(4))]
    nodes += [N("Sum", [f"e{t}" for t in range(4)], ["s"]), N("Tanh", ["s"], ["n"])]
    data = taken(network(*nodes, w=normal(6, 6), **factors(4)), tmp_path)
    assert set(trained(data)) == {"w", "head.weight"}


def test_embedding_that_is_the_output_too_is_parted_and_named(tmp_path: Path) -> None:
    """Tied embeddings: two operators read one tensor, as do layers that an exporter merged; the card decides."""
    nodes = [N("MatMul", ["x", "e"], ["a"]), N("Tanh", ["a"], ["t"]), N("Gemm", ["t", "e"], ["n"], transB=1)]
    data = taken(network(*nodes, e=normal(6, 6)), tmp_path)
    assert set(trained(data)) == {"e", "e.2", "head.weight"}
    assert any("untied: e was one tensor for 1 MatMul, 1 Gemm" in n for n in TrainableGraph.load(data).notes)


UNLIKE = [
    N("Tanh", ["x"], ["t"]),
    N("Mul", ["t", "al"], ["a"], name="/m/Mul"),
    N("Sin", ["a"], ["h"]),
    N("Div", ["h", "al"], ["n"], name="/m/Div"),
]


def test_parameter_that_unlike_operators_of_one_layer_read_stays_one(tmp_path: Path) -> None:
    data = taken(network(*UNLIKE, al=1 + normal(6) ** 2), tmp_path)
    assert set(trained(data)) == {"al", "head.weight"}
    assert any("stays one tensor: unlike operators of one layer" in n for n in TrainableGraph.load(data).notes)
    check_gradient(onnx.ModelProto.FromString(data), normal(5, 6))


def test_unlike_operators_of_two_layers_have_a_tensor_each(tmp_path: Path) -> None:
    nodes = [*UNLIKE[:3], N("Div", ["h", "al"], ["n"], name="/other/Div")]
    assert len(trained(taken(network(*nodes, al=1 + normal(6) ** 2), tmp_path))) == 3


@pytest.mark.parametrize(("told", "count"), [((), 3), (("al",), 2), (("al", "merged"), 3)])
def test_fresh_parameter_of_unlike_operators_is_one_if_pytorch_says_so(
    told: tuple[str, ...], count: int, tmp_path: Path
) -> None:
    model = network(*UNLIKE, al=ONES)
    if told:
        lines = [f"p_{n}: PARAMETER target='{n}'" for n in (*told, "head.weight")]
        signature = "\n# inputs\n" + "\n".join([*lines, "x: USER_INPUT\n"])
        model.graph.metadata_props.add(key="pkg.torch.export.ExportedProgram.graph_signature", value=signature)
    data = taken(model, tmp_path)
    assert len(trained(data)) == count
    assert any('shared = ["al"]' in n for n in TrainableGraph.load(data).notes) is (count == 3)
