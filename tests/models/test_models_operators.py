"""Every operator: gradients against float64 central differences, forward against ONNX Runtime."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import onnx
import pytest
from fedge_models.errors import ModelError
from fedge_models.ops.registry import OPERATORS
from graphs import RNG, N, check_gradient, ints, load, normal, run_ort, small

Case = tuple[list[Any], dict[str, np.ndarray], tuple[int, ...]]
FLOAT, LONG = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64


def plain(op_type: str, **attributes: Any) -> Case:
    """One input, the same shape out."""
    return [N(op_type, ["h"], ["y"], **attributes)], {}, (12,)


def positive(op_type: str, *more: str) -> list[Any]:
    """Of Softplus(h), which is above 0."""
    return [N("Softplus", ["h"], ["p"]), N(op_type, ["p", *more], ["y"])]


def shaped(node: Any, shape: tuple[int, ...], y: tuple[int, ...], **tensors: np.ndarray) -> Case:
    """Of h (n, 12) as r (n, *shape)."""
    return [N("Reshape", ["h", "s"], ["r"]), node], {"s": ints(0, *shape), **tensors}, y


def recurrent(op_type: str, directions: int, gates: int, *states: np.ndarray, **attributes: Any) -> Case:
    """Of r as three moments of four values; all outputs are used."""
    hidden, names = 5, ["Y", "H", "C"][: 3 if op_type == "LSTM" else 2]
    tensors = {
        "W": normal(directions, gates * hidden, 4),
        "R": normal(directions, gates * hidden, hidden),
        "B": normal(directions, 2 * gates * hidden),
        **{f"s{k}": s for k, s in enumerate(states)},
    }
    given = ["T", "W", "R", "B", "", *(f"s{k}" for k in range(len(states)))]
    nodes = [
        N("Reshape", ["h", "s"], ["r"]),
        N("Transpose", ["r"], ["T"], perm=[1, 0, 2]),
        N(op_type, given if states else given[:4], names, hidden_size=hidden, **attributes),
        N("ReduceMean", ["Y"], ["M"], axes=[0], keepdims=0),
        N("Sum", ["M", *names[1:]], ["S"]),
        N("Transpose", ["S"], ["y"], perm=[1, 0, 2]),
    ]
    return nodes, {"s": ints(0, 3, 4), **tensors}, (directions, hidden)


def chosen_by(*nodes: Any, **tensors: np.ndarray) -> Case:
    """h where a condition `q` holds, else its square."""
    return [*nodes, N("Mul", ["h", "h"], ["m"]), N("Where", ["q", "h", "m"], ["y"])], tensors, (12,)


NORMS = {"g": 1 + normal(3), "b": normal(3), "m": normal(3), "v": 1 + np.abs(normal(3))}

# Each operator behind a trainable product, so that its input gradient is checked too.
CASES: dict[str, Case] = {
    "Abs": plain("Abs"),
    "Add": ([N("Add", ["h", "b"], ["y"])], {"b": normal(1, 12)}, (12,)),
    "And": chosen_by(
        N("Less", ["h", "c"], ["p"]),
        N("Greater", ["h", "d"], ["o"]),
        N("And", ["p", "o"], ["q"]),
        c=np.float32(0.8),
        d=np.float32(-0.9),
    ),
    "BatchNormalization": shaped(
        N("BatchNormalization", ["r", "g", "b", "m", "v"], ["y"], epsilon=1e-3), (3, 4), (3, 4), **NORMS
    ),
    "Celu": plain("Celu", alpha=0.7),
    "ConvTranspose": shaped(
        N("ConvTranspose", ["r", "w", "b"], ["y"], strides=[2], pads=[1, 0], output_padding=[1], dilations=[2]),
        (2, 6),
        (3, 15),
        w=normal(2, 3, 3),
        b=normal(3),
    ),
    "Equal": chosen_by(N("Floor", ["h"], ["f"]), N("Equal", ["f", "c"], ["q"]), c=np.float32(0)),
    "Floor": ([N("Floor", ["h"], ["f"]), N("Sub", ["h", "f"], ["y"])], {}, (12,)),
    "GRU": recurrent("GRU", 1, 3, linear_before_reset=1),
    "Greater": chosen_by(N("Greater", ["h", "c"], ["q"]), c=np.float32(0.3)),
    "GreaterOrEqual": chosen_by(N("GreaterOrEqual", ["h", "c"], ["q"]), c=np.float32(0.3)),
    "GroupNormalization": shaped(
        N("GroupNormalization", ["r", "g", "b"], ["y"], num_groups=2), (4, 3), (4, 3), g=1 + normal(4), b=normal(4)
    ),
    "InstanceNormalization": shaped(
        N("InstanceNormalization", ["r", "g", "b"], ["y"]), (3, 4), (3, 4), g=NORMS["g"], b=NORMS["b"]
    ),
    "LSTM": recurrent("LSTM", 1, 4),
    "LayerNormalization": shaped(
        N("LayerNormalization", ["r", "g", "b"], ["y"]), (4, 3), (4, 3), g=NORMS["g"], b=NORMS["b"]
    ),
    "Less": chosen_by(N("Less", ["h", "c"], ["q"]), c=np.float32(0.3)),
    "LessOrEqual": chosen_by(N("LessOrEqual", ["h", "c"], ["q"]), c=np.float32(0.3)),
    "Max": ([N("Max", ["h", "a", "b"], ["y"])], {"a": normal(12), "b": normal(1, 1)}, (12,)),
    "Mean": ([N("Mean", ["h", "a"], ["y"])], {"a": normal(1, 12)}, (12,)),
    "Min": ([N("Min", ["h", "a", "b"], ["y"])], {"a": normal(12), "b": normal(1, 1)}, (12,)),
    "Mish": plain("Mish"),
    "Ceil": ([N("Ceil", ["h"], ["g"]), N("Mul", ["h", "g"], ["y"])], {}, (12,)),
    "RMSNormalization": ([N("RMSNormalization", ["h", "g"], ["y"])], {"g": normal(12)}, (12,)),
    "ReduceProd": shaped(N("ReduceProd", ["r"], ["y"], axes=[2]), (3, 4), (3, 1)),
    "Round": ([N("Round", ["h"], ["g"]), N("Mul", ["h", "g"], ["y"])], {}, (12,)),
    "Swish": plain("Swish", alpha=1.3),
    "Mod": ([N("Mod", ["h", "c"], ["y"], fmod=1)], {"c": np.float32(0.7)}, (12,)),
    "Not": chosen_by(N("Greater", ["h", "c"], ["p"]), N("Not", ["p"], ["q"]), c=np.float32(0.3)),
    "Or": chosen_by(
        N("Less", ["h", "c"], ["p"]),
        N("Greater", ["h", "d"], ["o"]),
        N("Or", ["p", "o"], ["q"]),
        c=np.float32(-0.8),
        d=np.float32(0.9),
    ),
    "Range": (
        [N("Range", ["a", "b", "c"], ["t"]), N("Mul", ["h", "t"], ["y"])],
        {"a": np.float32(1), "b": np.float32(6.9), "c": np.float32(0.5)},
        (12,),
    ),
    "Reciprocal": (positive("Reciprocal"), {}, (12,)),
    "ReduceL2": shaped(N("ReduceL2", ["r"], ["y"], axes=[2], keepdims=0), (3, 4), (3,)),
    "ReduceMin": shaped(N("ReduceMin", ["r"], ["y"], axes=[1]), (3, 4), (1, 4)),
    "ReduceSumSquare": shaped(N("ReduceSumSquare", ["r"], ["y"], axes=[2], keepdims=0), (3, 4), (3,)),
    "Sign": ([N("Sign", ["h"], ["g"]), N("Mul", ["h", "g"], ["y"])], {}, (12,)),
    "Softsign": plain("Softsign"),
    "Sum": ([N("Sum", ["h", "a", "h"], ["y"])], {"a": normal(1, 12)}, (12,)),
    "ThresholdedRelu": plain("ThresholdedRelu", alpha=0.3),
    "Tile": shaped(N("Tile", ["r", "t"], ["y"]), (3, 4), (6, 8), t=ints(1, 2, 2)),
    "Trilu": shaped(N("Trilu", ["r", "k"], ["y"], upper=0), (3, 4), (3, 4), k=np.int64(1)),
    "Where": chosen_by(N("Greater", ["h", "c"], ["q"]), c=normal(12)),
    "AveragePool": shaped(N("AveragePool", ["r"], ["y"], kernel_shape=[3], strides=[2], pads=[1, 0]), (2, 6), (2, 3)),
    "Cast": ([N("Cast", ["h"], ["y"], to=FLOAT)], {}, (12,)),
    "Clip": ([N("Clip", ["h", "lo", "hi"], ["y"])], {"lo": np.float32(-0.7), "hi": np.float32(0.9)}, (12,)),
    "Concat": ([N("Concat", ["h", "h"], ["y"], axis=1)], {}, (24,)),
    "ConstantOfShape": (
        [
            N("Shape", ["h"], ["s"]),
            N("ConstantOfShape", ["s"], ["c"], value=onnx.numpy_helper.from_array(np.array([0.5], np.float32))),
            N("Mul", ["h", "c"], ["y"]),
        ],
        {},
        (12,),
    ),
    "Conv": shaped(
        N("Conv", ["r", "w", "b"], ["y"], strides=[2], pads=[1, 2], dilations=[2]),
        (2, 6),
        (3, 3),
        w=normal(3, 2, 3),
        b=normal(3),
    ),
    "Div": ([N("Div", ["h", "b"], ["y"])], {"b": 2 + np.abs(normal(12))}, (12,)),
    "Dropout": ([N("Dropout", ["h", "ratio"], ["y"])], {"ratio": np.float32(0.4)}, (12,)),
    "Elu": plain("Elu", alpha=0.7),
    "Erf": plain("Erf"),
    "Exp": plain("Exp"),
    "Expand": shaped(N("Expand", ["r", "e"], ["y"]), (1, 12), (3, 12), e=ints(1, 3, 1)),
    "Flatten": shaped(N("Flatten", ["r"], ["y"]), (3, 4), (12,)),
    "Gather": ([N("Gather", ["h", "i"], ["y"], axis=1)], {"i": ints(3, 0, 3, -1)}, (4,)),
    "Gelu": plain("Gelu"),
    "Gemm": (
        [N("Gemm", ["h", "w", "b"], ["y"], alpha=0.5, beta=2.0, transB=1)],
        {"w": normal(3, 12), "b": normal(3)},
        (3,),
    ),
    "GlobalAveragePool": shaped(N("GlobalAveragePool", ["r"], ["y"]), (2, 6), (2, 1)),
    "GlobalMaxPool": shaped(N("GlobalMaxPool", ["r"], ["y"]), (2, 6), (2, 1)),
    "HardSigmoid": plain("HardSigmoid", alpha=0.3, beta=0.4),
    "HardSwish": plain("HardSwish"),
    "Identity": plain("Identity"),
    "LeakyRelu": plain("LeakyRelu", alpha=0.2),
    "Log": (positive("Log"), {}, (12,)),
    "LogSoftmax": plain("LogSoftmax"),
    "MatMul": ([N("MatMul", ["h", "w"], ["y"])], {"w": normal(12, 3)}, (3,)),
    "MaxPool": shaped(N("MaxPool", ["r"], ["y"], kernel_shape=[3], strides=[2], pads=[1, 0]), (2, 6), (2, 3)),
    "Mul": ([N("Mul", ["h", "b"], ["y"])], {"b": normal(12)}, (12,)),
    "Neg": plain("Neg"),
    "PRelu": ([N("PRelu", ["h", "a"], ["y"])], {"a": normal(12)}, (12,)),
    "Pad": shaped(N("Pad", ["r", "p", "v"], ["y"]), (3, 4), (4, 5), p=ints(0, 1, -1, 0, 0, 2), v=np.float32(0.5)),
    "Pow": (positive("Pow", "e"), {"e": normal(12)}, (12,)),
    "ReduceMax": shaped(N("ReduceMax", ["r"], ["y"], axes=[2], keepdims=0), (3, 4), (3,)),
    "ReduceMean": shaped(N("ReduceMean", ["r"], ["y"], axes=[2], keepdims=0), (3, 4), (3,)),
    "ReduceSum": shaped(N("ReduceSum", ["r", "a"], ["y"], keepdims=1), (3, 4), (1, 4), a=ints(1)),
    "Relu": plain("Relu"),
    "Reshape": shaped(N("Identity", ["r"], ["y"]), (3, -1), (3, 4)),
    "Selu": plain("Selu"),
    "Shape": (
        [
            N("Shape", ["h"], ["s"]),
            N("Slice", ["s", "a", "b"], ["n"]),
            N("Concat", ["n", "t"], ["u"], axis=0),
            N("Reshape", ["h", "u"], ["y"]),
        ],
        {"a": ints(0), "b": ints(1), "t": ints(4, 3)},
        (4, 3),
    ),
    "Sigmoid": plain("Sigmoid"),
    "Slice": shaped(
        N("Slice", ["r", "a", "b", "axes", "by"], ["y"]),
        (3, 4),
        (2, 2),
        a=ints(-1, 0),
        b=ints(-100, 3),
        axes=ints(1, 2),
        by=ints(-2, 2),
    ),
    "Softmax": plain("Softmax"),
    "Softplus": plain("Softplus"),
    "Split": (
        [N("Split", ["h", "z"], ["p", "q", "unused"], axis=1), N("Mul", ["p", "q"], ["y"])],
        {"z": ints(5, 5, 2)},
        (5,),
    ),
    "Sqrt": (positive("Sqrt"), {}, (12,)),
    "Squeeze": shaped(N("Squeeze", ["r", "a"], ["y"]), (1, 12), (12,), a=ints(1)),
    "Sub": ([N("Sub", ["b", "h"], ["y"])], {"b": normal(12)}, (12,)),
    "Tanh": plain("Tanh"),
    "Transpose": shaped(N("Transpose", ["r"], ["y"], perm=[0, 2, 1]), (3, 4), (4, 3)),
    "Unsqueeze": ([N("Unsqueeze", ["h", "a"], ["y"])], {"a": ints(1)}, (1, 12)),
}
HIDDEN = np.triu(np.ones((12, 12), np.bool_), 1)  # the future
VARIANTS: dict[str, Case] = {
    "Attention that sees no future": (
        [N("Reshape", ["h", "s"], ["r"]), N("Where", ["m", "hidden", "r"], ["a"]), N("Softmax", ["a"], ["y"])],
        {"s": ints(0, 1, 12), "m": HIDDEN, "hidden": np.float32(-np.inf)},
        (12, 12),
    ),
    "Cast to double and back": (
        [
            N("Cast", ["h"], ["d"], to=onnx.TensorProto.DOUBLE),
            N("Mul", ["d", "c"], ["e"]),
            N("Cast", ["e"], ["y"], to=FLOAT),
        ],
        {"c": RNG.normal(size=12)},
        (12,),
    ),
    "Cast of a double": ([N("Cast", ["c"], ["f"], to=FLOAT), N("Mul", ["h", "f"], ["y"])], {"c": np.float64(3)}, (12,)),
    "MatMul by a vector": (
        [N("MatMul", ["h", "v"], ["m"]), N("Unsqueeze", ["m", "a"], ["y"])],
        {"v": normal(12), "a": ints(1)},
        (1,),
    ),
    "MatMul of a vector": shaped(N("MatMul", ["v", "r"], ["y"]), (3, 4), (4,), v=normal(3)),
    "ReduceProd of zeros": (
        [N("Reshape", ["h", "s"], ["r"]), N("Mul", ["r", "m"], ["q"]), N("ReduceProd", ["q"], ["y"], axes=[2])],
        {"s": ints(0, 3, 4), "m": np.array([[0, 1, 1, 1], [0, 1, 0, 1], [1, 1, 1, 1]], np.float32)},
        (3, 1),
    ),
    "Split into one": ([N("Split", ["h"], ["p"], axis=1, num_outputs=1), N("Tanh", ["p"], ["y"])], {}, (12,)),
    "Conv 2-D": shaped(
        N("Conv", ["r", "w", "b"], ["y"], strides=[2, 1], pads=[1, 0, 0, 1]),
        (1, 3, 4),
        (2, 2, 3),
        w=normal(2, 1, 2, 3),
        b=normal(2),
    ),
    "Conv 2-D dilated": shaped(
        N("Conv", ["r", "w"], ["y"], dilations=[1, 2], pads=[0, 1, 1, 1]), (1, 3, 4), (2, 3, 4), w=normal(2, 1, 2, 2)
    ),
    "Conv 2-D same": shaped(
        N("Conv", ["r", "w"], ["y"], strides=[2, 1], auto_pad="SAME_LOWER"), (1, 3, 4), (2, 2, 4), w=normal(2, 1, 2, 2)
    ),
    "Conv in groups": shaped(
        N("Conv", ["r", "w", "b"], ["y"], group=2, pads=[1, 1]), (4, 3), (6, 3), w=normal(6, 2, 3), b=normal(6)
    ),
    "Conv depthwise 2-D": shaped(
        N("Conv", ["r", "w", "b"], ["y"], group=3, pads=[1, 1, 1, 1]),
        (3, 2, 2),
        (3, 2, 2),
        w=normal(3, 1, 3, 3),
        b=normal(3),
    ),
    "ConvTranspose 2-D in groups": shaped(
        N("ConvTranspose", ["r", "w", "b"], ["y"], strides=[2, 1], pads=[0, 1, 1, 0], group=2),
        (2, 2, 3),
        (4, 4, 4),
        w=normal(2, 2, 3, 2),
        b=normal(4),
    ),
    "ConvTranspose same": shaped(
        N("ConvTranspose", ["r", "w"], ["y"], strides=[2], auto_pad="SAME_UPPER"), (2, 6), (2, 12), w=normal(2, 2, 3)
    ),
    "ConvTranspose to a shape": shaped(
        N("ConvTranspose", ["r", "w"], ["y"], strides=[2], output_shape=[12]), (2, 6), (2, 12), w=normal(2, 2, 3)
    ),
    "GRU reset first, reverse": recurrent("GRU", 1, 3, normal(1, 4, 5), direction="reverse"),
    "GRU both ways": recurrent("GRU", 2, 3, direction="bidirectional", linear_before_reset=1),
    "LSTM both ways from a state": recurrent("LSTM", 2, 4, normal(2, 4, 5), normal(2, 4, 5), direction="bidirectional"),
    "LayerNormalization of two axes": shaped(
        N("LayerNormalization", ["r", "g"], ["y"], axis=1), (4, 3), (4, 3), g=normal(4, 3)
    ),
    "MaxPool 2-D": shaped(
        N("MaxPool", ["r"], ["y"], kernel_shape=[2, 2], strides=[1, 2], pads=[0, 1, 0, 0]), (1, 3, 4), (1, 2, 2)
    ),
    "MaxPool ceil": shaped(N("MaxPool", ["r"], ["y"], kernel_shape=[2], strides=[2], ceil_mode=1), (4, 3), (4, 2)),
    "MaxPool dilated": shaped(N("MaxPool", ["r"], ["y"], kernel_shape=[2], dilations=[3]), (2, 6), (2, 3)),
    "AveragePool 2-D": shaped(
        N("AveragePool", ["r"], ["y"], kernel_shape=[2, 2], pads=[1, 0, 0, 1], count_include_pad=1),
        (1, 3, 4),
        (1, 3, 4),
    ),
    "AveragePool 2-D, same": shaped(
        N("AveragePool", ["r"], ["y"], kernel_shape=[2, 3], auto_pad="SAME_UPPER"), (1, 3, 4), (1, 3, 4)
    ),
    "AveragePool ceil": shaped(
        N("AveragePool", ["r"], ["y"], kernel_shape=[2], strides=[2], ceil_mode=1), (4, 3), (4, 2)
    ),
    "GlobalAveragePool 2-D": shaped(N("GlobalAveragePool", ["r"], ["y"]), (3, 2, 2), (3, 1, 1)),
    "Gelu tanh": plain("Gelu", approximate="tanh"),
    "Pad reflect": shaped(N("Pad", ["r", "p"], ["y"], mode="reflect"), (3, 4), (3, 8), p=ints(0, 0, 2, 0, 0, 2)),
    "Pad edge": shaped(N("Pad", ["r", "p"], ["y"], mode="edge"), (3, 4), (5, 4), p=ints(0, 1, 0, 0, 1, 0)),
    "Pow square": ([N("Pow", ["h", "e"], ["y"])], {"e": np.float32(2)}, (12,)),
    "Softmax axis 1": shaped(N("Softmax", ["r"], ["y"], axis=1), (3, 4), (3, 4)),
    "Split equal": ([N("Split", ["h"], ["p", "q"], axis=1, num_outputs=2), N("Sub", ["p", "q"], ["y"])], {}, (6,)),
    "ReduceMax all of a row": shaped(N("ReduceMax", ["r", "a"], ["y"]), (3, 4), (1, 1), a=ints(1, 2)),
    "ReduceMean axes as input": shaped(N("ReduceMean", ["r", "a"], ["y"]), (3, 4), (1, 4), a=ints(-2)),
    "Div of shapes": (
        [
            N("Shape", ["h"], ["s"]),
            N("Gather", ["s", "one"], ["k"]),
            N("Div", ["k", "four"], ["q"]),
            N("Unsqueeze", ["q", "zero"], ["u"]),
            N("Concat", ["lead", "u", "rest"], ["t"], axis=0),
            N("Reshape", ["h", "t"], ["y"]),
        ],
        {"one": np.int64(1), "four": np.int64(4), "zero": ints(0), "lead": ints(-1), "rest": ints(4)},
        (3, 4),
    ),
}
ALL = {**CASES, **VARIANTS}
OPSETS = {
    "GroupNormalization": 21,
    "Mish": 18,
    "RMSNormalization": 23,
    "Swish": 24,
    "Split into one": 18,
    "Gelu": 20,
    "Gelu tanh": 20,
    "Split equal": 18,
    "ReduceMax all of a row": 18,
    "ReduceMean axes as input": 18,
}


def model_of(name: str, opset: int | None = None) -> onnx.ModelProto:
    nodes, tensors, shape = ALL[name]
    first = N("Gemm", ["x", "w0", "b0"], ["h"])
    tensors = {"w0": normal(5, 12), "b0": normal(12), **{k: np.asarray(v) for k, v in tensors.items()}}
    return small([first, *nodes], tensors, (5,), shape, opset or OPSETS.get(name, 17))


def test_every_operator_has_a_case() -> None:
    assert set(CASES) == set(OPERATORS)


@pytest.mark.parametrize("name", ALL)
def test_forward_equals_onnx_runtime(name: str) -> None:
    if not loads(OPSETS.get(name, 17)):
        pytest.skip("newer than this ONNX Runtime")
    model, x = model_of(name), normal(4, 5)
    y = load(model).forward(x)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, run_ort(model.SerializeToString(), x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_gradient_equals_central_differences(name: str) -> None:
    if OPSETS.get(name, 17) > onnx.defs.onnx_opset_version():
        pytest.skip("newer than this onnx")
    check_gradient(model_of(name), normal(4, 5))


@cache
def loads(opset: int) -> bool:
    """Whether the installed ONNX Runtime knows the opset."""
    model = small([N("Relu", ["x"], ["y"])], {"w": normal(1)}, (3,), (3,), opset)
    try:
        run_ort(model.SerializeToString(), normal(1, 3))
    except Exception:
        return False
    return True


@pytest.mark.parametrize("opset", range(13, onnx.defs.onnx_opset_version() + 1))
def test_every_operator_means_the_same_in_every_opset_that_has_it(opset: int) -> None:
    if not loads(opset):
        pytest.skip("newer than this ONNX Runtime")
    held = 0
    for name in ALL:
        model, x = model_of(name, opset), normal(4, 5)
        try:
            onnx.checker.check_model(model, full_check=True)
            expected = run_ort(model.SerializeToString(), x)
        except Exception:  # written for another opset
            continue
        np.testing.assert_allclose(load(model).forward(x), expected, rtol=1e-5, atol=1e-5, err_msg=name)
        held += 1
    assert held > 0.6 * len(ALL)


def test_opset_that_onnx_does_not_know_yet_is_refused() -> None:
    newest = onnx.defs.onnx_opset_version()
    with pytest.raises(ModelError, match=f"opset {newest + 1}, expected 13 to {newest}"):
        load(model_of("Relu", newest + 1))


def test_dropout_drops_only_in_training_and_keeps_the_mean() -> None:
    graph, x = load(model_of("Dropout")), normal(2000, 5)
    calm = graph.forward(x).copy()
    graph.training(np.random.default_rng(0))
    y = graph.forward(x)
    assert 0.38 < np.mean(y == 0) < 0.42
    np.testing.assert_allclose(y[y != 0], calm[y != 0] / 0.6, rtol=1e-5)
    graph.backward(np.ones_like(y))
    np.testing.assert_allclose(graph.grad[-12:], (y != 0).sum(axis=0) / 0.6, rtol=1e-4)  # of the bias
    graph.training(None)
    np.testing.assert_array_equal(graph.forward(x), calm)


def test_nodes_that_lead_nowhere_are_left_out() -> None:
    nodes = [N("Sin", ["x"], ["s"]), N("Gemm", ["x", "w"], ["y"]), N("NonZero", ["y"], ["unused"])]
    graph = load(small(nodes, {"w": normal(4, 3)}, (4,), (3,)))
    assert graph.operators == ("Gemm",) and graph.trunk is None


def test_globs_of_a_refusal_match_what_they_mean() -> None:
    names = ["trunk,0", "head[0].w,b", "head[0].c", "last,w"]
    nodes = [
        N("Gemm", ["x", names[0]], ["h"]), N("Sin", ["h"], ["s"]), N("Gemm", ["s", names[1]], ["g"]),
        N("Add", ["g", names[2]], ["a"]), N("Gemm", ["a", names[3]], ["y"]),
    ]  # fmt: skip
    shapes = dict(zip(names, [(4, 4), (4, 4), (4,), (4, 3)], strict=True))
    model = small(nodes, {n: normal(*s) for n, s in shapes.items()}, (4,), (3,))
    with pytest.raises(ModelError, match=r"node 'Sin_1' \(Sin\)") as found:
        load(model)
    globs = str(found.value).split("--trainable '")[1].rstrip("'")
    assert [t.name for t in load(model, globs).layout] == names[1:]
