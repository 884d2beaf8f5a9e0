# SPDX-License-Identifier: Apache-2.0
"""Several inputs become one, of which each takes its group of the card's channels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
from fedge_models.errors import ModelError
from fedge_models.graph.card import Card, Channel, InputSpec, WindowSpec, read_card, write_card
from fedge_models.graph.intake import read_model
from fedge_models.graph.trainable import TrainableGraph
from onnx import TensorProto, helper
from support.graphs import N, check_gradient, ints, normal, small

CARD = Card("regress", tuple(Channel(c) for c in ("current", "x", "y", "z")), WindowSpec(10, 8, 4))
GROUPS = (InputSpec("power", ("current",)), InputSpec("vibration", ("x", "y", "z")))
UNFIT = (InputSpec("power", ("current", "x")), InputSpec("vibration", ("y", "z")))
OUT_OF_ORDER = (InputSpec("power", ("y",)), InputSpec("vibration", ("z", "current", "x")))
ROWS = msgspec.structs.replace(CARD, features=("mean", "std"), inputs=GROUPS)


def network(
    power: tuple[int, ...] = (1, 8), vibration: tuple[int, ...] = (3, 8), batch: int | str = "n", opened: bool = False
) -> onnx.ModelProto:
    """Two branches that are flattened and joined."""
    nodes = [
        N("Reshape", ["power", "flat"], ["p"]),
        N("Reshape", ["vibration", "flat"], ["v"]),
        N("MatMul", ["p", "a"], ["pa"]),
        N("MatMul", ["v", "b"], ["vb"]),
        N("Tanh", ["vb"], ["t"]),
        N("Add", ["pa", "t"], ["y"]),
    ]
    sizes = (int(np.prod(power)), int(np.prod(vibration)))
    tensors = {"a": normal(sizes[0], 2), "b": normal(sizes[1], 2), "flat": ints(0, -1)}
    model = small(nodes, tensors, (1,), (2,))
    del model.graph.input[:]
    for name, shape in (("power", power), ("vibration", vibration)):
        dims = [*shape[:-1], "time"] if opened else [*shape]
        model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, *dims]))
    return model


def taken(model: onnx.ModelProto, card: Card, folder: Path) -> bytes:
    write_card(model, card)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    data = read_model(folder / "m.onnx")
    (folder / "again.onnx").write_bytes(data)
    assert read_model(folder / "again.onnx") == data  # both ends hash it
    return data


def run(model: bytes, **feeds: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


def check(data: bytes, x: np.ndarray, expected: np.ndarray) -> TrainableGraph:
    """The file gives what is expected, here as in ONNX Runtime, and its gradients are right."""
    graph = TrainableGraph.load(data)
    graph.probe()
    np.testing.assert_allclose(run(data, samples=x), expected, atol=1e-5)
    np.testing.assert_allclose(graph.forward(x), expected, atol=1e-5)
    check_gradient(onnx.ModelProto.FromString(data), x)
    return graph


@pytest.mark.parametrize("groups", [GROUPS, OUT_OF_ORDER], ids=["in order", "out of order"])
def test_each_input_takes_its_channels(groups: tuple[InputSpec, ...], tmp_path: Path) -> None:
    model, x = network(), normal(5, 4, 8)
    places = {c.name: i for i, c in enumerate(CARD.channels)}
    feeds = {g.name: x[:, [places[c] for c in g.channels]] for g in groups}
    expected = run(model.SerializeToString(), **feeds)
    data = taken(model, msgspec.structs.replace(CARD, inputs=groups), tmp_path)
    graph = check(data, x, expected)
    assert graph.input_shape == (4, 8) and [t.name for t in graph.layout] == ["a", "b"]
    assert read_card(onnx.ModelProto.FromString(data)).inputs == ()
    assert any(n.startswith(f"inputs: power takes {groups[0].channels[0]}; vibration takes") for n in graph.notes)


Turn = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
FORMS: dict[str, tuple[tuple[int, ...], tuple[int, ...], Turn]] = {
    "time first": ((8, 1), (8, 3), lambda p, v: (p.transpose(0, 2, 1), v.transpose(0, 2, 1))),
    "one channel without a dimension": ((8,), (3, 8), lambda p, v: (p[:, 0], v)),
    "pictures of one row": ((1, 1, 8), (1, 3, 8), lambda p, v: (p[:, None], v[:, None])),
    "one more dimension": ((1, 8, 1), (3, 8, 1), lambda p, v: (p[..., None], v[..., None])),
}


@pytest.mark.parametrize("how", FORMS)
def test_input_is_turned_as_it_is_declared(how: str, tmp_path: Path) -> None:
    power, vibration, turn = FORMS[how]
    model, x = network(power, vibration), normal(5, 4, 8)
    p, v = turn(x[:, :1], x[:, 1:])
    expected = run(model.SerializeToString(), power=p, vibration=v)
    check(taken(model, msgspec.structs.replace(CARD, inputs=GROUPS), tmp_path), x, expected)


def test_open_time_and_a_fixed_batch_are_taken(tmp_path: Path) -> None:
    x = normal(5, 4, 8)
    for model in (network(opened=True), network(batch=1)):
        rows = [run(model.SerializeToString(), power=r[None, :1], vibration=r[None, 1:]) for r in x]
        check(taken(model, msgspec.structs.replace(CARD, inputs=GROUPS), tmp_path), x, np.concatenate(rows))


def test_features_are_given_channel_by_channel(tmp_path: Path) -> None:
    model, x = network((2,), (6,)), normal(5, 8)  # two features of one channel, and of three
    expected = run(model.SerializeToString(), power=x[:, :2], vibration=x[:, 2:])
    assert check(taken(model, ROWS, tmp_path), x, expected).input_shape == (8,)


def test_inputs_that_have_the_names_of_channels_need_no_key(tmp_path: Path) -> None:
    model, x = network((1, 8), (1, 8)), normal(5, 2, 8)
    card = msgspec.structs.replace(CARD, channels=(Channel("vibration"), Channel("power")))
    expected = run(model.SerializeToString(), power=x[:, 1:], vibration=x[:, :1])
    check(taken(model, card, tmp_path), x, expected)


@pytest.mark.parametrize("shape", [(), (1,), ("n", 1)], ids=["scalar", "row", "a row a sample"])
@pytest.mark.parametrize("producer", ["pytorch", "tf2onnx", "skl2onnx", ""])
def test_constant_of_the_card_is_no_parameter(producer: str, shape: tuple[int | str, ...], tmp_path: Path) -> None:
    """The older exporter of PyTorch tells a parameter of one value by a name such as this one."""
    model = network()
    model.producer_name = producer
    model.graph.node.append(N("Mul", ["y", "rate"], ["z"]))
    model.graph.output[0].name = "z"
    model.graph.input.append(helper.make_tensor_value_info("rate", TensorProto.FLOAT, shape))
    data = taken(model, msgspec.structs.replace(CARD, inputs=(*GROUPS, InputSpec("rate", value=2.5))), tmp_path)
    assert [t.name for t in TrainableGraph.load(data).layout] == ["a", "b"]


def test_constant_is_stored(tmp_path: Path) -> None:
    """A scalar (a rate), a state of fixed size, and one with as many rows as there are samples."""
    model, x = network(), normal(5, 4, 8)
    nodes = [
        N("Cast", ["rate"], ["r"], to=TensorProto.FLOAT),
        N("Mul", ["y", "r"], ["z"]),
        N("Add", ["z", "fixed"], ["u"]),
        N("Add", ["u", "open"], ["out"]),
    ]
    model.graph.node.extend(nodes)
    model.graph.output[0].name = "out"
    for name, kind, shape in (
        ("rate", TensorProto.INT64, []), ("fixed", TensorProto.FLOAT, [1, 2]), ("open", TensorProto.FLOAT, ["n", 2]),
    ):  # fmt: skip
        model.graph.input.append(helper.make_tensor_value_info(name, kind, shape))
    feeds = {"rate": np.array(3), "fixed": np.full((1, 2), 0.5, np.float32), "open": np.full((5, 2), 2, np.float32)}
    expected = run(model.SerializeToString(), power=x[:, :1], vibration=x[:, 1:], **feeds)
    values = (InputSpec("rate", value=3), InputSpec("fixed", value=0.5), InputSpec("open", value=2))
    data = taken(model, msgspec.structs.replace(CARD, inputs=(*GROUPS, *values)), tmp_path)
    graph = TrainableGraph.load(data)
    graph.probe()
    assert [t.name for t in graph.layout] == ["a", "b"]
    np.testing.assert_allclose(graph.forward(x), expected, atol=1e-5)
    np.testing.assert_allclose(run(data, samples=x), expected, atol=1e-5)
    assert any("rate is 3" in n for n in graph.notes)


def test_state_of_a_recurrent_layer_begins_with_zero(tmp_path: Path) -> None:
    nodes = [
        N("Transpose", ["x"], ["t"], perm=[2, 0, 1]),
        N("LSTM", ["t", "w", "r", "", "", "h0", "c0"], ["", "h"], hidden_size=3),
        N("Squeeze", ["h", "first"], ["s"]),
        N("Gemm", ["s", "head"], ["y"]),
    ]
    tensors = {"w": normal(1, 12, 4), "r": normal(1, 12, 3), "first": ints(0), "head": normal(3, 2)}
    model, x = small(nodes, tensors, (4, 8), (2,)), normal(5, 4, 8)
    for name in ("h0", "c0"):
        model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, "n", 3]))
    zero = np.zeros((1, 5, 3), np.float32)
    expected = run(model.SerializeToString(), x=x, h0=zero, c0=zero)
    data = taken(model, CARD, tmp_path)
    np.testing.assert_allclose(run(data, x=x), expected, atol=1e-5)
    graph = TrainableGraph.load(data)
    np.testing.assert_allclose(graph.forward(x), expected, atol=1e-5)
    assert {"state: h0 is zero at the beginning of each window"} <= {*graph.notes}


@pytest.mark.parametrize("listed", [False, True])
def test_states_of_two_layers_that_are_cut_out_of_one_input_are_zero(listed: bool, tmp_path: Path) -> None:
    """As PyTorch writes it for two layers, or for one that its newer exporter cuts out of itself."""
    nodes = [N("Transpose", ["x"], ["t"], perm=[2, 0, 1])]
    for i, read in enumerate(("t", "q0")):
        nodes += [
            N("Slice", ["h0", f"at{i}", f"at{i + 1}", "at0"], [f"part{i}"]), N("Identity", [f"part{i}"], [f"state{i}"]),
            N("GRU", [read, f"w{i}", f"r{i}", "", "", f"state{i}"], [f"s{i}", f"l{i}"], hidden_size=3),
            N("Squeeze", [f"s{i}", "at1"], [f"q{i}"]),
        ]  # fmt: skip
    nodes += [N("Squeeze", ["l1", "at0"], ["y"])]
    tensors = {"w0": normal(1, 9, 4), "w1": normal(1, 9, 3), "r0": normal(1, 9, 3), "r1": normal(1, 9, 3)}
    tensors |= {f"at{i}": ints(i) for i in range(3)}
    model, x = small(nodes, tensors, (4, 8), (3,)), normal(5, 4, 8)
    model.graph.input.append(helper.make_tensor_value_info("h0", TensorProto.FLOAT, [2, "n", 3]))
    expected = run(model.SerializeToString(), x=x, h0=np.zeros((2, 5, 3), np.float32))
    inputs = (InputSpec("x", ("current", "x", "y", "z")), InputSpec("h0", value=0.0)) if listed else ()
    data = taken(model, msgspec.structs.replace(CARD, inputs=inputs), tmp_path)
    np.testing.assert_allclose(run(data, **{"samples" if listed else "x": x}), expected, atol=1e-5)
    graph = TrainableGraph.load(data)
    np.testing.assert_allclose(graph.forward(x), expected, atol=1e-5)
    assert {t.name for t in graph.layout} == {"w0", "w1", "r0", "r1"}
    assert ("state: h0 is zero at the beginning of each window" in graph.notes) is not listed


def test_state_that_the_card_lists_is_what_it_says(tmp_path: Path) -> None:
    nodes = [
        N("Transpose", ["x"], ["t"], perm=[2, 0, 1]),
        N("GRU", ["t", "w", "r", "", "", "h0"], ["", "h"], hidden_size=3),
        N("Squeeze", ["h", "first"], ["y"]),
    ]
    model = small(nodes, {"w": normal(1, 9, 4), "r": normal(1, 9, 3), "first": ints(0)}, (4, 8), (3,))
    model.graph.input.append(helper.make_tensor_value_info("h0", TensorProto.FLOAT, [1, "n", 3]))
    x = normal(5, 4, 8)
    expected = run(model.SerializeToString(), x=x, h0=np.full((1, 5, 3), 0.5, np.float32))
    inputs = (InputSpec("x", ("current", "x", "y", "z")), InputSpec("h0", value=0.5))
    data = taken(model, msgspec.structs.replace(CARD, inputs=inputs), tmp_path)
    np.testing.assert_allclose(run(data, samples=x), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        (CARD, r"has 2 inputs: power \(n, 1, 8\), vibration \(n, 3, 8\)\. Say on the card .* name = 'power'"),
        (
            msgspec.structs.replace(CARD, inputs=(GROUPS[0], InputSpec("vibrations", ("x", "y", "z")))),
            "inputs names 'vibrations', no input of the file; did you mean 'vibration'",
        ),
        (
            msgspec.structs.replace(CARD, inputs=UNFIT),
            r"input 'power' takes \(n, 1, 8\); .* expected the batch and \(2, 8\) or \(8, 2\)",
        ),
        (
            msgspec.structs.replace(CARD, features=("mean",), inputs=GROUPS),
            r"input 'power' takes \(n, 1, 8\); .* columns of features",
        ),
    ],
    ids=["nobody says", "another name", "another number", "windows for features"],
)  # fmt: skip
def test_groups_that_do_not_fit_are_refused(card: Card, expected: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=expected):
        taken(network(), card, tmp_path)


@pytest.mark.parametrize("declared", [(1,), (1, 1)])
def test_input_of_one_value_for_each_window_is_told_how_to_derive_it(declared: tuple[int, ...], tmp_path: Path) -> None:
    expected = (
        rf"'power' takes \(n, {', '.join(map(str, declared))}\); .* derive = \{{ one_value = \"mean\(current\)\" \}}.* "
        r"\{ name = 'power', channels = \[\"one_value\"\] \}"
    )
    with pytest.raises(ModelError, match=expected):
        taken(network(declared), msgspec.structs.replace(CARD, inputs=GROUPS), tmp_path)


STATIC = msgspec.structs.replace(
    CARD,
    channels=(Channel("current", input=False), *CARD.channels[1:]),
    derive={"level": "mean(current)", "top": "max(current)"},
    inputs=(InputSpec("power", ("top", "level")), InputSpec("vibration", ("x", "y", "z"))),
)


@pytest.mark.parametrize("declared", [(2,), (1, 2), (2, 1), ("k",)])
def test_input_of_one_value_for_each_window_takes_numbers_a_window(declared: tuple[int, ...], tmp_path: Path) -> None:
    """Each is a row of the same value in a gateway's window."""
    model, x = network((2,)), normal(5, 5, 8)
    dims = model.graph.input[0].type.tensor_type.shape
    del dims.dim[1:]
    for size in declared:
        dims.dim.add(**{"dim_param" if isinstance(size, str) else "dim_value": size})
    x[:, 3:] = x[:, 3:, :1]
    feed = x[:, [4, 3], 0].reshape(5, *(2 if isinstance(n, str) else n for n in declared))
    expected = run(model.SerializeToString(), power=feed, vibration=x[:, :3])
    graph = check(taken(model, STATIC, tmp_path), x, expected)
    assert graph.input_shape == (5, 8)


def test_numbers_a_window_are_columns_of_their_own_behind_the_features(tmp_path: Path) -> None:
    """One input takes only them, another both."""
    card = msgspec.structs.replace(
        STATIC,
        features=("mean", "std"),
        inputs=(InputSpec("power", ("top",)), InputSpec("vibration", ("z", "level", "x", "y"))),
    )
    model, x = network((1,), (7,)), normal(5, 8)  # two features of three channels, and two numbers: level, top
    columns = [4, 5, 6, 0, 1, 2, 3]
    expected = run(model.SerializeToString(), power=x[:, 7:], vibration=x[:, columns])
    assert check(taken(model, card, tmp_path), x, expected).input_shape == (8,)


def square(layout: str | None, length: int = 3) -> Card:
    """Three channels of vibration in windows of three; of four in all in windows of four."""
    return msgspec.structs.replace(CARD, window=WindowSpec(10, length, length), inputs=GROUPS, layout=layout)


@pytest.mark.parametrize("layout", ["channels_first", "time_first"])
def test_input_of_a_square_window_takes_it_as_the_card_says(layout: str, tmp_path: Path) -> None:
    model, x = network((1, 3), (3, 3)), normal(5, 4, 3)
    vibration = x[:, 1:].transpose(0, 2, 1) if layout == "time_first" else x[:, 1:]
    expected = run(model.SerializeToString(), power=x[:, :1], vibration=vibration)
    check(taken(model, square(layout), tmp_path), x, expected)


def test_input_of_a_square_window_that_nothing_shows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"'vibration' takes \(3, 3\), as many samples as channels.*layout ="):
        taken(network((1, 3), (3, 3)), square(None), tmp_path)


def test_input_of_a_square_window_takes_it_as_its_first_layer_shows(tmp_path: Path) -> None:
    nodes = [
        N("Conv", ["turned", "k"], ["c"]),
        N("Flatten", ["c"], ["v"]),
        N("MatMul", ["v", "b"], ["vb"]),
        N("Flatten", ["power"], ["p"]),
        N("MatMul", ["p", "a"], ["pa"]),
        N("Add", ["pa", "vb"], ["y"]),
    ]
    for turned, perm in ((True, [0, 2, 1]), (False, [0, 1, 2])):
        model, x = network((1, 3), (3, 3)), normal(5, 4, 3)
        del model.graph.node[:], model.graph.initializer[:]
        model.graph.node.extend([N("Transpose", ["vibration"], ["turned"], perm=perm), *nodes])
        tensors = {"k": normal(2, 3, 2), "a": normal(3, 2), "b": normal(4, 2)}
        model.graph.initializer.extend(onnx.numpy_helper.from_array(t, n) for n, t in tensors.items())
        vibration = x[:, 1:].transpose(0, 2, 1) if turned else x[:, 1:]
        expected = run(model.SerializeToString(), power=x[:, :1], vibration=vibration)
        check(taken(model, square(None), tmp_path), x, expected)


@pytest.mark.parametrize("layout", ["channels_first", "time_first", None])
def test_inputs_that_make_a_square_window_together_are_not_turned_again(layout: str | None, tmp_path: Path) -> None:
    model, x = network((4, 1), (4, 3)), normal(5, 4, 4)
    turned = x.transpose(0, 2, 1)
    expected = run(model.SerializeToString(), power=turned[..., :1], vibration=turned[..., 1:])
    check(taken(model, square(layout, 4), tmp_path), x, expected)


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ((InputSpec("power", ("current",)),), r"no input takes the channels \['x', 'y', 'z'\]"),
        ((*GROUPS, InputSpec("more", ("w",))), r"'more' takes channels \['w'\], which are not among"),
        ((*GROUPS, InputSpec("more")), "'more' needs either channels or a value"),
        ((*GROUPS, GROUPS[0]), "inputs repeat a name"),
    ],
    ids=["channels left", "unknown channel", "nothing", "twice"],
)
def test_card_whose_groups_are_wrong_is_refused(groups: tuple[InputSpec, ...], expected: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=expected):
        taken(network(), msgspec.structs.replace(CARD, inputs=groups), tmp_path)


def test_integers_are_no_channels(tmp_path: Path) -> None:
    model = network()
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    with pytest.raises(ModelError, match="input 'power' takes integers, and channels are float32"):
        taken(model, msgspec.structs.replace(CARD, inputs=GROUPS), tmp_path)


def test_columns_of_a_table_are_inputs(tmp_path: Path) -> None:
    """As skl2onnx exports a pipeline over a table: a column each, some of integers, joined and scaled inside."""
    names = [c.name for c in CARD.channels]
    nodes = [
        N("Concat", names[:2], ["front"], axis=1),
        N("Cast", ["front"], ["front_"], to=TensorProto.FLOAT),
        N("Concat", ["front_", *names[2:]], ["all"], axis=1),
        N("Sub", ["all", "offset"], ["c"]),
        N("Div", ["c", "scale"], ["s"]),
        N("Gemm", ["s", "w"], ["y_"]),
    ]
    model = small(nodes, {"offset": normal(4), "scale": 1 + normal(4) ** 2, "w": normal(4, 2)}, (1,), (2,))
    model.graph.output[0].name = "y_"
    del model.graph.input[:]
    for i, name in enumerate(names):
        kind = TensorProto.INT64 if i < 2 else TensorProto.FLOAT
        model.graph.input.append(helper.make_tensor_value_info(name, kind, ["n", 1]))
    x = np.round(normal(5, 4) * 3)
    expected = run(
        model.SerializeToString(), **{n: x[:, i : i + 1].astype("i8" if i < 2 else "f4") for i, n in enumerate(names)}
    )
    data = taken(model, msgspec.structs.replace(CARD, features=("mean",)), tmp_path)
    graph = check(data, x, expected)
    assert [t.name for t in graph.layout] == ["w"]  # factors of the scaler are no parameters


def test_input_that_nothing_reads_is_left_out(tmp_path: Path) -> None:
    model, x = network(), normal(5, 4, 8)
    model.graph.input.append(helper.make_tensor_value_info("training", TensorProto.BOOL, []))
    model.graph.output[0].name = "y"
    expected = run(model.SerializeToString(), power=x[:, :1], vibration=x[:, 1:], training=np.array(False))
    graph = check(taken(model, msgspec.structs.replace(CARD, inputs=GROUPS), tmp_path), x, expected)
    assert "input: training is left out, as no output depends on it" in graph.notes


@pytest.mark.parametrize("kind", ["optional", "list", "text"])
@pytest.mark.parametrize("read", [False, True])
def test_input_of_another_type_is_left_out_where_no_output_depends_on_it(kind: str, read: bool, tmp_path: Path) -> None:
    numbers = helper.make_tensor_type_proto(TensorProto.FLOAT, [3])
    types = {
        "optional": helper.make_optional_type_proto(numbers),
        "list": helper.make_sequence_type_proto(numbers),
        "text": helper.make_tensor_type_proto(TensorProto.STRING, [3]),
    }
    model, x = network(), normal(5, 4, 8)
    model.graph.output[0].name = "y"
    expected = run(model.SerializeToString(), power=x[:, :1], vibration=x[:, 1:])
    model.graph.input.append(helper.make_value_info("extra", types[kind]))
    if read:  # by a node on which no output depends
        model.graph.node.append(N("Identity", ["extra"], ["unused"]))
    graph = check(taken(model, msgspec.structs.replace(CARD, inputs=GROUPS), tmp_path), x, expected)
    assert "input: extra is left out, as no output depends on it" in graph.notes
