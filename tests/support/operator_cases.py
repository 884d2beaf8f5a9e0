# SPDX-License-Identifier: Apache-2.0
"""A small graph for each operator, with what a trainable product feeds it as `h`."""

from __future__ import annotations

import numpy as np
import onnx

from support.graphs import N, ints, normal
from support.operator_cases_more import MORE
from support.operator_forms import FLOAT, Case, chosen_by, plain, positive, recurrent, shaped

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
    "ReduceL1": shaped(N("ReduceL1", ["r"], ["y"], axes=[2], keepdims=0), (3, 4), (3,)),
    "ReduceLogSumExp": shaped(N("ReduceLogSumExp", ["r"], ["y"], axes=[1]), (3, 4), (1, 4)),
    "Resize": shaped(N("Resize", ["r", "", "by"], ["y"]), (3, 4), (3, 8), by=np.array([1, 1, 2], np.float32)),
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
    **MORE,
}
