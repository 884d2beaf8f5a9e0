# SPDX-License-Identifier: Apache-2.0
"""What no exporter would call a parameter is not trained by `*`: factors, tables, Fourier matrices, masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from fedge_models.errors import ModelError
from fedge_models.graph.card import Card, Channel, WindowSpec, write_card
from fedge_models.graph.intake import read_model
from fedge_models.graph.trainable import TrainableGraph
from support.graphs import N, named, normal, run_ort, small

Case = tuple[list[Any], dict[str, np.ndarray], tuple[int, ...], tuple[int, ...]]  # nodes, tensors, shapes of x and y
CHANNELS, TIME = 8, 16
NAMED = tuple(Channel(f"c{i}") for i in range(CHANNELS))
CARD = Card("regress", NAMED, WindowSpec(1, TIME, 1), layout="channels_first")
AT = np.arange(TIME)


def sinusoids() -> np.ndarray:
    """The table of Vaswani et al. 2017, (1, 16, 8)."""
    angle = AT[:, None] / 10000 ** (np.arange(0, CHANNELS, 2) / CHANNELS)
    return np.stack([np.sin(angle), np.cos(angle)], axis=-1).reshape(1, TIME, CHANNELS).astype(np.float32)


FOURIER = np.cos(2 * np.pi * np.outer(AT, np.arange(9)) / TIME).astype(np.float32)
COSINE = np.cos(np.pi * np.outer(AT + 0.5, np.arange(9)) / TIME).astype(np.float32)
LONG = np.arange(64)
HANN = (np.sin(np.pi * LONG / 64) ** 2)[:, None] * np.sin(2 * np.pi * np.outer(LONG, np.arange(1, 20)) / 64)
MEL = np.maximum(0, 1 - np.abs(np.arange(16)[:, None] / 2 - np.arange(8)) / 1.5).astype(np.float32)
LINKS = np.triu(np.random.default_rng(4).random((9, 9)) < 0.3, 1).astype(np.float32)
NEAR = np.eye(9) + LINKS + LINKS.T
AROUND = 0.5 * np.eye(9) + 0.2 * np.roll(np.eye(9), -1, 1) + 0.3 * np.roll(np.eye(9), 1, 1)
MASK = np.triu(np.full((TIME, TIME), -np.inf, np.float32), 1)


def matrix(value: np.ndarray) -> Case:
    rows, columns = value.shape
    return [N("MatMul", ["x", "table"], ["y"])], {"table": value.astype(np.float32)}, (2, rows), (2, columns)


def scaled(op: str) -> Case:
    return [N(op, ["x", "table"], ["y"])], {"table": 1 + normal(4) ** 2}, (4,), (4,)


CASES: dict[str, Case] = {
    "Fourier": matrix(FOURIER),
    "cosine": matrix(COSINE),
    "Fourier under a window": matrix(HANN),
    "mel": matrix(MEL),
    "identity": matrix(np.eye(8)),
    "choice of columns": matrix(np.eye(16)[:, [3, 11, 2, 7, 15, 0, 9, 6, 4]]),
    "sums over groups": matrix(np.eye(4)[[0, 2, 1, 3, 1, 2, 0, 3, 2, 1, 0, 3]] / 3),
    "neighbours": matrix(NEAR / NEAR.sum(axis=1, keepdims=True)),
    "neighbours, weighted alike": matrix(NEAR / np.sqrt(np.outer(NEAR.sum(axis=1), NEAR.sum(axis=1)))),
    "smoothing around a circle": matrix(AROUND),
    "mean of a scaler": scaled("Sub"),
    "factor of a scaler": scaled("Div"),
    "positions": ([N("Tanh", ["x"], ["t"]), N("Add", ["t", "table"], ["y"])], {"table": sinusoids()}, (16, 8), (16, 8)),
    "mask": ([N("Tanh", ["x"], ["t"]), N("Add", ["t", "table"], ["y"])], {"table": MASK}, (16, 16), (16, 16)),
}
ANGLES = np.outer(np.arange(TIME), 10000 ** -(np.arange(CHANNELS) / CHANNELS))
COS, SIN = np.cos(ANGLES).astype(np.float32), np.sin(ANGLES).astype(np.float32)
SHAPE = (TIME, CHANNELS)


def entered(op: str, value: np.ndarray) -> Case:
    """Behind a layer, so that it is no factor of the input."""
    return [N("Tanh", ["x"], ["t"]), N(op, ["t", "table"], ["y"])], {"table": value.astype(np.float32)}, SHAPE, SHAPE


CASES |= {
    "mask of zeros and ones": entered("Mul", np.tril(np.ones(SHAPE))),
    "indices": entered("Add", np.arange(CHANNELS)),
    "times": entered("Mul", np.linspace(1, 0, CHANNELS)),
    "frequencies": entered("Mul", 10000 ** -(np.arange(CHANNELS) / CHANNELS)),
}
EPSILON = {"table": np.full((1, 1), 0.001, np.float32), "half": np.array(-0.5, np.float32)}
VARIANCE = [N("Tanh", ["x"], ["t"]), N("ReduceSumSquare", ["t"], ["v"], axes=[-1], keepdims=1)]


def guarded(op: str, *behind: Any) -> Case:
    """A sum of squares with something small added, and what is made of it."""
    return [*VARIANCE, N(op, ["v", "table"], ["e"]), *behind], EPSILON, (4,), (4,)


CASES |= {
    "epsilon of a root": guarded("Add", N("Sqrt", ["e"], ["r"]), N("Div", ["t", "r"], ["y"])),
    "epsilon of a largest": guarded("Max", N("Sqrt", ["e"], ["r"]), N("Div", ["t", "r"], ["y"])),
    "epsilon of a power": guarded("Add", N("Pow", ["e", "half"], ["r"]), N("Mul", ["t", "r"], ["y"])),
    "epsilon of a divisor": guarded("Add", N("Div", ["t", "e"], ["y"])),
    "epsilon of a reciprocal": guarded("Add", N("Reciprocal", ["e"], ["r"]), N("Mul", ["t", "r"], ["y"])),
    "epsilon of a logarithm": guarded("Add", N("Log", ["e"], ["r"]), N("Mul", ["t", "r"], ["y"])),
}
WEIGHTS: dict[str, Case] = {
    "bias of one unit": guarded("Add", N("Sigmoid", ["e"], ["r"]), N("Mul", ["t", "r"], ["y"])),
    "shift of a root and of more": guarded(
        "Add", N("Sqrt", ["e"], ["r"]), N("Mul", ["t", "r"], ["u"]), N("Mul", ["u", "e"], ["y"])
    ),
    "matrix": matrix(normal(16, 9)),
    "orthogonal": matrix(np.linalg.qr(normal(16, 16))[0]),
    "zeros": matrix(np.zeros((16, 9))),
    "ones": matrix(np.ones((16, 9))),
    "positive": matrix(np.abs(normal(16, 9))),
    "rectified": matrix(np.maximum(normal(16, 9), 0)),
    "rectified square": matrix(np.maximum(normal(8, 8), 0)),
    "kept from being negative, and pruned": matrix(np.abs(normal(16, 9)) * (np.arange(144).reshape(16, 9) % 7 < 4)),
    "learnt positions": (
        [N("Tanh", ["x"], ["t"]), N("Add", ["t", "table"], ["y"])], {"table": 0.02 * normal(1, 16, 8)}, (16, 8), (16, 8)
    ),
    "bias": ([N("Tanh", ["x"], ["t"]), N("Add", ["t", "table"], ["y"])], {"table": normal(4)}, (4,), (4,)),
    "scale of ones": entered("Mul", np.ones(CHANNELS)),
    "shift of zeros": entered("Add", np.zeros(CHANNELS)),
    "few values": entered("Mul", np.arange(CHANNELS) % 3 + 0.5),
    "rows of ramps": entered("Mul", np.tile(np.arange(CHANNELS), (TIME, 1))),  # S4D begins with such a parameter
    "learnt positions of the input": (
        [N("Add", ["x", "table"], ["y"])], {"table": 0.02 * normal(1, 16, 8)}, (16, 8), (16, 8)
    ),
}  # fmt: skip


def taken(case: Case, folder: Path, trainable: str | None = None, constants: tuple[str, ...] = ()) -> bytes:
    nodes, tensors, x, y = case
    nodes = [
        *nodes[:-1],
        N(nodes[-1].op_type, list(nodes[-1].input), ["z"]),
        N("Tanh", ["z"], ["h"]),
        N("Mul", ["h", "weight"], ["y"]),
    ]
    model = small(nodes, {**tensors, "weight": normal(y[-1])}, x, y)
    shape = CARD.channels[: x[0]] if len(x) > 1 else CARD.channels[:4]
    channels = shape if len(shape) == x[0] else tuple(Channel(f"c{i}") for i in range(x[0]))
    window, features = WindowSpec(1, x[-1] if len(x) > 1 else 1, 1), ("mean",) if len(x) == 1 else ()
    given = msgspec.structs.replace(CARD, channels=channels, window=window, features=features, targets=named(y))
    write_card(model, msgspec.structs.replace(given, constants=constants))
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    return read_model(folder / "m.onnx", None, trainable)


@pytest.mark.parametrize("name", CASES)
def test_what_is_no_parameter_is_not_trained_by_a_pattern_but_by_its_name(name: str, tmp_path: Path) -> None:
    graph = TrainableGraph.load(taken(CASES[name], tmp_path))
    assert [t.name for t in graph.layout] == ["weight"] and graph.card.constants == ("table",)
    assert any("not a parameter: table is " in n for n in graph.notes)
    if name != "mask":
        graph = TrainableGraph.load(taken(CASES[name], tmp_path, "weight,table"))
        assert {t.name for t in graph.layout} == {"weight", "table"}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_of_any_kind_are_trained(name: str, tmp_path: Path) -> None:
    graph = TrainableGraph.load(taken(WEIGHTS[name], tmp_path))
    assert {t.name for t in graph.layout} == {"weight", "table"} and graph.card.constants == ()


def test_card_may_name_more_and_may_not_name_what_is_not_there(tmp_path: Path) -> None:
    data = taken(WEIGHTS["matrix"], tmp_path, constants=("table",))
    assert [t.name for t in TrainableGraph.load(data).layout] == ["weight"]
    with pytest.raises(ModelError, match=r"constants lists 'tabel'.*table"):
        taken(WEIGHTS["matrix"], tmp_path, constants=("tabel",))


def test_network_with_a_mask_serves_as_it_trains(tmp_path: Path) -> None:
    data, x = taken(CASES["positions"], tmp_path), normal(3, 16, 8)
    np.testing.assert_allclose(TrainableGraph.load(data).forward(x), run_ort(data, x), rtol=1e-5, atol=1e-5)


def test_cosines_and_sines_of_the_same_angles_are_a_table_of_rotations(tmp_path: Path) -> None:
    def graph_of(sines: np.ndarray) -> TrainableGraph:
        nodes = [
            N("Tanh", ["x"], ["t"]),
            N("Neg", ["t"], ["turned"]),
            N("Mul", ["t", "cos"], ["a"]),
            N("Mul", ["turned", "sin"], ["b"]),
            N("Add", ["a", "b"], ["y"]),
        ]
        return TrainableGraph.load(taken((nodes, {"cos": COS, "sin": sines}, SHAPE, SHAPE), tmp_path))

    assert graph_of(SIN).card.constants == ("cos", "sin")
    assert graph_of(COS).card.constants == ()


SIGNATURE = """
# inputs
p_weight: PARAMETER target='weight'
b_table: BUFFER target='positions.table' persistent=True
x: USER_INPUT
"""


@pytest.mark.parametrize(
    ("folded", "trained", "words"),
    [
        (["val_1", "zeros"], False, "table (computed by the exporter from no parameter)"),
        (["positions.table", "val_0"], False, "table (computed from positions.table, a buffer of the module)"),
        (["weight", "positions.table"], True, ""),
    ],
)
def test_what_the_exporter_says_of_the_origin_decides(
    folded: list[str], trained: bool, words: str, tmp_path: Path
) -> None:
    data = (tmp_path / "m.onnx", taken(entered("Mul", normal(CHANNELS)), tmp_path))[0].read_bytes()
    model = onnx.ModelProto.FromString(data)
    model.graph.metadata_props.add(key="pkg.torch.export.ExportedProgram.graph_signature", value=SIGNATURE)
    value = model.graph.value_info.add(name="table")
    value.metadata_props.add(key="pkg.onnxscript.optimizer.folded_from", value=repr(folded))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    graph = TrainableGraph.load(read_model(tmp_path / "m.onnx"))
    assert (len(graph.layout) == 2) is trained and ("table" in graph.card.constants) is not trained
    assert any(words in n for n in graph.notes) or not words
    if not trained:
        graph = TrainableGraph.load(read_model(tmp_path / "m.onnx", None, "table"))
        assert [t.name for t in graph.layout] == ["table"]


def test_buffer_by_its_own_name_is_no_parameter_and_a_copy_of_it_neither(tmp_path: Path) -> None:
    nodes = [
        N("Mul", ["x", "positions.table"], ["a"]),
        N("Tanh", ["a"], ["t"]),
        N("Mul", ["t", "positions.table"], ["y"]),
    ]
    case: Case = (nodes, {"positions.table": normal(CHANNELS)}, SHAPE, SHAPE)
    taken(case, tmp_path)
    model = onnx.load(tmp_path / "m.onnx")
    model.graph.metadata_props.add(key="pkg.torch.export.ExportedProgram.graph_signature", value=SIGNATURE)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    graph = TrainableGraph.load(read_model(tmp_path / "m.onnx"))
    assert [t.name for t in graph.layout] == ["weight"] and graph.card.constants == ("positions.table",)


def test_mean_picture_that_is_taken_off_the_input_is_no_parameter(tmp_path: Path) -> None:
    """As MATLAB writes it, before the first layer."""
    case: Case = ([N("Sub", ["x", "mean"], ["s"]), N("Tanh", ["s"], ["y"])], {"mean": normal(1, *SHAPE)}, SHAPE, SHAPE)
    assert TrainableGraph.load(taken(case, tmp_path)).card.constants == ("mean",)


def test_centres_of_several_ramps_for_each_value_are_parameters(tmp_path: Path) -> None:
    """As the first layer of a starter: a value meets several of them."""
    nodes = [N("Unsqueeze", ["x", "last"], ["u"]), N("Sub", ["u", "centre"], ["s"]), N("Tanh", ["s"], ["t"])]
    nodes += [N("ReduceMean", ["t"], ["m"], axes=[-1], keepdims=0), N("Tanh", ["m"], ["y"])]
    case: Case = (nodes, {"centre": normal(4, 3), "last": np.array([2])}, (4,), (4,))
    assert {t.name for t in TrainableGraph.load(taken(case, tmp_path)).layout} == {"centre", "weight"}


def told_of(folder: Path, case: Case, kinds: dict[str, str], producer: str = "pytorch") -> TrainableGraph:
    """The case as PyTorch's exporter writes it: kinds of its tensors by their names; none from the older exporter."""
    taken(case, folder)
    model = onnx.load(folder / "m.onnx")
    model.producer_name = producer
    if kinds:
        lines = [
            f"p_{n.replace('.', '_')}: {kind} target='{n}'" for n, kind in {**kinds, "weight": "PARAMETER"}.items()
        ]
        signature = "\n# inputs\n" + "\n".join([*lines, "x: USER_INPUT\n"])
        model.graph.metadata_props.add(key="pkg.torch.export.ExportedProgram.graph_signature", value=signature)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    data = read_model(folder / "m.onnx")
    (folder / "again.onnx").write_bytes(data)
    assert read_model(folder / "again.onnx") == data
    return TrainableGraph.load(data)


@pytest.mark.parametrize("name", [n for n in CASES if n != "mask"])
def test_what_the_exporter_calls_a_parameter_is_trained_whatever_it_holds(name: str, tmp_path: Path) -> None:
    """A learnt table that begins with sinusoids, a layer that begins as the identity, a learnt gain of the input."""
    graph = told_of(tmp_path, CASES[name], {"table": "PARAMETER"})
    assert {t.name for t in graph.layout} == {"table", "weight"} and graph.card.constants == ()


def test_guess_says_that_it_is_one_and_how_to_train(tmp_path: Path) -> None:
    graph = TrainableGraph.load(taken(CASES["identity"], tmp_path))
    assert any("table is a filter bank" in n and "guess" in n and "trainable = '*,table'" in n for n in graph.notes)


@pytest.mark.parametrize("bias", ["r.bias", "other.bias"])
def test_layer_with_a_bias_of_its_own_is_no_filter_bank(bias: str, tmp_path: Path) -> None:
    nodes = [N("Tanh", ["x"], ["t"]), N("Gemm", ["t", "r.weight", bias], ["y"])]
    model = small(nodes, {"r.weight": np.eye(8, dtype=np.float32), bias: normal(8)}, (8,), (8,))
    write_card(model, msgspec.structs.replace(CARD, window=WindowSpec(1, 1, 1), features=("mean",)))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    graph = TrainableGraph.load(read_model(tmp_path / "m.onnx"))
    assert ("r.weight" in graph.card.constants) is (bias == "other.bias")


def single(name: str, value: float = 2.5, *shape: int) -> Case:
    nodes = [N("Tanh", ["x"], ["t"]), N("Mul", ["t", name], ["y"])]
    return nodes, {name: np.full(shape, value, np.float32)}, (4,), (4,)


@pytest.mark.parametrize("shape", [(), (1,)])
def test_single_number_that_pytorch_calls_a_parameter_is_trained(shape: tuple[int, ...], tmp_path: Path) -> None:
    graph = told_of(tmp_path, single("temperature", 2.5, *shape), {"temperature": "PARAMETER"})
    assert {t.name for t in graph.layout} == {"temperature", "weight"}
    buffered = told_of(tmp_path, single("temperature", 2.5, *shape), {"temperature": "BUFFER"})
    assert [t.name for t in buffered.layout] == ["weight"]


def test_single_number_of_a_module_is_trained_from_the_older_exporter_and_named(tmp_path: Path) -> None:
    graph = told_of(tmp_path, single("arc.scale"), {})
    assert {t.name for t in graph.layout} == {"arc.scale", "weight"}
    assert any("by its name alone: arc.scale, weight train as" in n and "constants" in n for n in graph.notes)
    assert [t.name for t in told_of(tmp_path, single("/Constant_output_0"), {}).layout] == ["weight"]
    assert [t.name for t in told_of(tmp_path, single("factor"), {}, "another").layout] == ["weight"]


def test_single_number_that_the_card_calls_a_constant_is_left(tmp_path: Path) -> None:
    taken(single("arc.scale"), tmp_path, constants=("arc.scale",))
    model = onnx.load(tmp_path / "m.onnx")
    model.producer_name = "pytorch"
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    assert [t.name for t in TrainableGraph.load(read_model(tmp_path / "m.onnx")).layout] == ["weight"]


@pytest.mark.parametrize(
    ("name", "trained"),
    [
        ("net/rescaling/Cast_1/x:0", False),
        ("net/add/y", False),
        ("net/const/Const_1:0", False),
        ("net/batchnorm/Rsqrt:0", False),
        ("net/scale/mul/ReadVariableOp:0", True),
        ("net/y_norm/mul:0", True),
    ],
)
def test_constant_of_tensorflows_code_is_known_by_its_name(name: str, trained: bool, tmp_path: Path) -> None:
    case: Case = ([N("Tanh", ["x"], ["t"]), N("Mul", ["t", name], ["y"])], {name: normal(4)}, (4,), (4,))
    graph = told_of(tmp_path, case, {}, "tf2onnx")
    assert (name in {t.name for t in graph.layout}) is trained
    assert trained or any(f"{name} is a constant of the code" in n and "guess" not in n for n in graph.notes)
    assert name in {t.name for t in told_of(tmp_path, case, {}, "another").layout}


@pytest.mark.parametrize(
    ("name", "trained"),
    [
        ("scalar_tensor_default", False),
        ("full_like_2", False),
        ("const_cast", False),
        ("net.full", True),
        ("fuller", True),
    ],
)
@pytest.mark.parametrize("shape", [(4,), ()])
def test_constant_of_pytorchs_code_is_known_by_its_name(
    name: str, trained: bool, shape: tuple[int, ...], tmp_path: Path
) -> None:
    """A simplifier removes what the exporter said of it."""
    case: Case = ([N("Tanh", ["x"], ["t"]), N("Add", ["t", name], ["y"])], {name: normal(*shape)}, (4,), (4,))
    assert (name in {t.name for t in told_of(tmp_path, case, {}).layout}) is trained
    assert name in {t.name for t in told_of(tmp_path, case, {name: "PARAMETER"}).layout}


def test_variable_of_tensorflow_that_is_one_number_is_named(tmp_path: Path) -> None:
    graph = told_of(tmp_path, single("net/temperature/ReadVariableOp:0"), {}, "tf2onnx")
    assert [t.name for t in graph.layout] == ["weight"]
    assert any("no pattern trains net/temperature/ReadVariableOp:0" in n for n in graph.notes)


@pytest.mark.parametrize(("name", "unsure"), [("basis", True), ("layer.weight", False), ("g.bias_l0", False)])
def test_older_exporter_tells_no_buffer_so_what_is_no_layers_own_is_named(
    name: str, unsure: bool, tmp_path: Path
) -> None:
    op = "PRelu" if name == "layer.weight" else "Mul"
    case: Case = ([N("Tanh", ["x"], ["t"]), N(op, ["t", name], ["y"])], {name: normal(4)}, (4,), (4,))
    graph = told_of(tmp_path, case, {})
    assert name in {t.name for t in graph.layout}
    assert any(n.startswith("by its name alone: ") and name in n for n in graph.notes) is unsure
    assert not any("by its name alone" in n for n in told_of(tmp_path, case, {name: "PARAMETER"}).notes)


def test_parameters_that_the_exporter_left_out_or_computed_further_are_named(tmp_path: Path) -> None:
    taken(entered("Mul", normal(CHANNELS)), tmp_path)
    model = onnx.load(tmp_path / "m.onnx")
    lines = [f"p_{i}: PARAMETER target='{n}'" for i, n in enumerate(["weight", "gone", "v"])]
    signature = "\n# inputs\n" + "\n".join([*lines, "x: USER_INPUT\n"])
    model.graph.metadata_props.add(key="pkg.torch.export.ExportedProgram.graph_signature", value=signature)
    value = model.graph.value_info.add(name="table")
    folded = repr(["div_1", "linalg_vector_norm", "v"])
    value.metadata_props.add(key="pkg.onnxscript.optimizer.folded_from", value=folded)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    data = read_model(tmp_path / "m.onnx")
    notes = TrainableGraph.load(data).notes
    assert any(n.startswith("not in the file: gone: ") for n in notes)
    assert any(n.startswith("computed by the exporter: v: ") and "optimize=False" in n for n in notes)
    (tmp_path / "again.onnx").write_bytes(data)
    assert read_model(tmp_path / "again.onnx") == data


def folded_into(folder: Path, name: str, made_of: list[str], shape: tuple[int, ...] = (CHANNELS,)) -> TrainableGraph:
    """A network whose tensor PyTorch's newer exporter computed from a parameter `v` by the last operation's name."""
    nodes = [N("Tanh", ["x"], ["inner"]), N("Mul", ["inner", name], ["y"])]
    taken((nodes, {name: 1 + normal(*shape)}, SHAPE, SHAPE), folder)
    model = onnx.load(folder / "m.onnx")
    lines = [f"p_{n}: PARAMETER target='{n}'" for n in ("weight", "v")]
    signature = "\n# inputs\n" + "\n".join([*lines, "x: USER_INPUT\n"])
    model.graph.metadata_props.add(key="pkg.torch.export.ExportedProgram.graph_signature", value=signature)
    model.graph.value_info.add(name=name).metadata_props.add(
        key="pkg.onnxscript.optimizer.folded_from", value=repr(made_of)
    )
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    data = read_model(folder / "m.onnx")
    (folder / "again.onnx").write_bytes(data)
    assert read_model(folder / "again.onnx") == data
    return TrainableGraph.load(data)


@pytest.mark.parametrize(
    ("name", "made_of"),
    [
        ("exp", ["v"]),
        ("mul_1", ["v", "val_0"]),
        ("softmax", ["matmul", "v"]),
        ("index", ["arange", "v"]),
        ("view", ["linear", "v"]),
        ("sin_2", ["v"]),
    ],
)
def test_function_of_a_parameter_is_said_and_has_not_its_name(name: str, made_of: list[str], tmp_path: Path) -> None:
    graph = folded_into(tmp_path, name, made_of)
    assert any(n.startswith("computed by the exporter: v: ") for n in graph.notes)
    (made,) = {t.name for t in graph.layout} - {"weight"}
    assert made.startswith("v.")


@pytest.mark.parametrize("name", ["t", "permute_1", "unsqueeze", "val_7", "expand"])
def test_parameter_that_is_only_laid_out_has_its_own_name(name: str, tmp_path: Path) -> None:
    graph = folded_into(tmp_path, name, ["v", "val_0"])
    assert {t.name for t in graph.layout} == {"v", "weight"}
    assert not any("computed by" in n for n in graph.notes)


def test_function_that_is_a_single_number_is_said(tmp_path: Path) -> None:
    graph = folded_into(tmp_path, "exp", ["v"], ())
    assert [t.name for t in graph.layout] == ["weight"]
    assert any("computed by the exporter: v: " in n and "single numbers not at all" in n for n in graph.notes)


@pytest.mark.parametrize("name", ["onnx::Mul_12", "onnx::Gemm_3", "onnx::Div_9"])
def test_older_exporter_may_have_computed_a_tensor_that_it_numbered(name: str, tmp_path: Path) -> None:
    graph = told_of(tmp_path, entered("Mul", normal(CHANNELS)), {})
    assert not any("perhaps computed" in n for n in graph.notes)
    case: Case = (
        [N("Tanh", ["x"], ["inner"]), N("Mul", ["inner", name], ["y"])],
        {name: normal(CHANNELS)},
        SHAPE,
        SHAPE,
    )
    notes = told_of(tmp_path, case, {}).notes
    assert any(f"perhaps computed by the exporter: {name}: " in n and "do_constant_folding=False" in n for n in notes)


@pytest.mark.parametrize("name", ["a tool:v~", "net/v", "v_quantized"])
def test_parameter_that_another_tool_renamed_is_in_the_file(name: str, tmp_path: Path) -> None:
    case: Case = (
        [N("Tanh", ["x"], ["inner"]), N("Mul", ["inner", name], ["y"])],
        {name: normal(CHANNELS)},
        SHAPE,
        SHAPE,
    )
    assert not any("not in the file" in n for n in told_of(tmp_path, case, {"v": "PARAMETER"}).notes)
    assert any("not in the file: w" in n for n in told_of(tmp_path, case, {"w": "PARAMETER"}).notes)


def test_batch_norm_without_scale_that_was_folded_is_said(tmp_path: Path) -> None:
    told = {"table": "PARAMETER", "bn.running_mean": "BUFFER", "bn.running_var": "BUFFER"}
    notes = told_of(tmp_path, entered("Mul", normal(CHANNELS)), told).notes
    assert any("not in the file: bn.running_mean, bn.running_var" in n for n in notes)


@pytest.mark.parametrize("affine", [True, False])
def test_ones_and_zeros_of_a_batch_norm_without_scale_are_no_parameters(affine: bool, tmp_path: Path) -> None:
    """PyTorch's newer exporter merges them with the statistics of a fresh one; a parameter's name stays."""
    mean, variance = ("bn.bias", "bn.weight") if affine else ("bn.running_mean", "bn.running_var")
    nodes = [N("Tanh", ["x"], ["t"]), N("BatchNormalization", ["t", variance, mean, mean, variance], ["y"])]
    case: Case = (nodes, {mean: np.zeros(8, np.float32), variance: np.ones(8, np.float32)}, (8, 16), (8, 16))
    told = {"bn.running_mean": "BUFFER", "bn.running_var": "BUFFER"}
    graph = told_of(tmp_path, case, told | (dict.fromkeys([mean, variance], "PARAMETER") if affine else {}))
    assert {t.name for t in graph.layout} == {"weight", *([mean, variance] if affine else [])}


def test_isotonic_calibration_is_refused_because_only_its_steps_would_train(tmp_path: Path) -> None:
    """As skl2onnx writes it: the nearest of the calibrator's values, which passes no gradient."""
    nodes = [N("Tanh", ["x"], ["t"]), N("Mul", ["t", "calibrator_y"], ["y"])]
    case: Case = (nodes, {"calibrator_y": normal(4)}, (4,), (4,))
    with pytest.raises(ModelError, match=r"calibrated isotonically.*method='sigmoid'"):
        told_of(tmp_path, case, {}, "skl2onnx")
    assert "calibrator_y" in {t.name for t in told_of(tmp_path, case, {}, "another").layout}
