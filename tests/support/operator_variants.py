# SPDX-License-Identifier: Apache-2.0
"""Further graphs of operators: attributes, axes, shapes and directions that take other paths; and all as models."""

from __future__ import annotations

import numpy as np
import onnx

from support.graphs import RNG, N, ints, normal, small
from support.operator_cases import CASES
from support.operator_cases_more import MORE_VARIANTS
from support.operator_forms import FLOAT, Case, plain, recurrent, shaped

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
    **{
        f"Resize linear, {way}": shaped(
            N("Resize", ["r", "", "", "to"], ["y"], mode="linear", coordinate_transformation_mode=way),
            (1, 3, 4),
            (1, 5, 6),
            to=ints(4, 1, 5, 6),
        )
        for way in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")
    },
    **{
        f"Resize {mode}, {way}": shaped(
            N("Resize", ["r", "", "by"], ["y"], nearest_mode=mode, coordinate_transformation_mode=way),
            (1, 3, 4),
            (1, 7, 2),
            by=np.array([1, 1, 2.5, 0.7], np.float32),
        )
        for mode in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
        for way in ("asymmetric", "half_pixel")
    },
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
ALL = {**CASES, **VARIANTS, **MORE_VARIANTS}
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
    **dict.fromkeys(["Resize linear, antialias", "Resize cubic, antialias", "Resize within a size"], 18),
    **dict.fromkeys([n for n in ALL if n.startswith(("Attention", "RotaryEmbedding"))], 23),
    "Attention that sees no future": 17,
    "Col2Im": 18,
    "AffineGrid": 20,
    "ScatterElements by max": 18,
    "ScatterElements by min": 18,
}


def model_of(name: str, opset: int | None = None) -> onnx.ModelProto:
    nodes, tensors, shape = ALL[name]
    first = N("Gemm", ["x", "w0", "b0"], ["h"])
    tensors = {"w0": normal(5, 12), "b0": normal(12), **{k: np.asarray(v) for k, v in tensors.items()}}
    return small([first, *nodes], tensors, (5,), shape, opset or OPSETS.get(name, 17))
