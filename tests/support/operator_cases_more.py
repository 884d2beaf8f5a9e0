# SPDX-License-Identifier: Apache-2.0
"""A small graph for each operator beyond those of plain dense and convolutional networks."""

from __future__ import annotations

import numpy as np

from support.graphs import N, ints, normal
from support.operator_forms import Case, chosen_by, plain, recurrent, shaped


def within(op_type: str) -> Case:
    """Of values between -0.6 and 0.6."""
    return (
        [N("Tanh", ["h"], ["t"]), N("Mul", ["t", "c"], ["u"]), N(op_type, ["u"], ["y"])],
        {"c": np.float32(0.6)},
        (12,),
    )


FUNCTIONS = {name: plain(name) for name in ("Sin", "Cos", "Sinh", "Cosh", "Atan", "Asinh")}
BOUNDED = {name: within(name) for name in ("Tan", "Asin", "Acos", "Atanh")}


def attending(*more: str, **attributes: object) -> Case:
    """Of r as three moments of four values: their queries, keys and values, in two heads."""
    nodes = [
        N("Reshape", ["h", "s"], ["r"]),
        N("MatMul", ["r", "wq"], ["q"]),
        N("MatMul", ["r", "wk"], ["k"]),
        N("MatMul", ["r", "wv"], ["v"]),
        N("Attention", ["q", "k", "v", *more], ["y"], q_num_heads=2, kv_num_heads=2, **attributes),
    ]
    tensors = {f"w{n}": normal(4, 4) for n in "qkv"}
    return nodes, {"s": ints(0, 3, 4), **tensors, **{n: normal(3, 3) for n in more}}, (3, 4)


def sampled(**attributes: object) -> Case:
    """Of r as a picture of 3 x 4, at places that r itself gives."""
    nodes = [
        N("Reshape", ["h", "s"], ["r"]),
        N("Reshape", ["h", "t"], ["g"]),
        N("GridSample", ["r", "g"], ["y"], **attributes),
    ]
    return nodes, {"s": ints(0, 1, 3, 4), "t": ints(0, 2, 3, 2)}, (1, 2, 3)


def resized(mode: str, to: tuple[int, int], **attributes: object) -> Case:
    """Of r as a picture of 3 x 4."""
    node = N("Resize", ["r", "", "", "to"], ["y"], mode=mode, **attributes)
    return shaped(node, (1, 3, 4), (1, *to), to=ints(4, 1, *to))


MORE: dict[str, Case] = {
    **FUNCTIONS,
    **BOUNDED,
    "Acosh": (
        [N("Softplus", ["h"], ["p"]), N("Add", ["p", "one"], ["q"]), N("Acosh", ["q"], ["y"])],
        {"one": np.float32(1.1)},
        (12,),
    ),
    "AffineGrid": (
        [
            N("Gemm", ["h", "w"], ["p"]),
            N("Reshape", ["p", "s"], ["m"]),
            N("AffineGrid", ["m", "to"], ["y"], align_corners=1),
        ],
        {"w": normal(12, 6), "s": ints(0, 2, 3), "to": ints(4, 1, 3, 2)},
        (3, 2, 2),
    ),
    "Attention": attending(),
    "CastLike": ([N("CastLike", ["h", "c"], ["y"])], {"c": np.float32(1)}, (12,)),
    "CumSum": shaped(N("CumSum", ["r", "a"], ["y"], exclusive=1), (3, 4), (3, 4), a=np.int64(2)),
    "ArgMax": chosen_by(N("ArgMax", ["h"], ["i"], axis=1), N("Greater", ["i", "c"], ["q"]), c=np.int64(5)),
    "ArgMin": chosen_by(
        N("ArgMin", ["h"], ["i"], axis=1, select_last_index=1), N("Greater", ["i", "c"], ["q"]), c=np.int64(5)
    ),
    "Compress": ([N("Compress", ["h", "q"], ["y"], axis=1)], {"q": np.arange(12) % 3 > 0}, (8,)),
    "DepthToSpace": shaped(N("DepthToSpace", ["r"], ["y"], blocksize=2), (12, 1, 1), (3, 2, 2)),
    "GatherElements": (
        [N("Transpose", ["h"], ["t"]), N("GatherElements", ["t", "i"], ["g"]), N("Transpose", ["g"], ["y"])],
        {"i": ints(3, 0, 3, -1).reshape(1, 4)},
        (1,),
    ),
    "GatherND": (
        [N("Transpose", ["h"], ["t"]), N("GatherND", ["t", "i"], ["g"]), N("Transpose", ["g"], ["y"])],
        {"i": ints(3, 0, 3, -1).reshape(4, 1)},
        (4,),
    ),
    "GlobalLpPool": shaped(N("GlobalLpPool", ["r"], ["y"], p=3), (2, 6), (2, 1)),
    "LRN": shaped(N("LRN", ["r"], ["y"], size=3, alpha=0.3, beta=0.6, bias=1.5), (4, 3, 1), (4, 3, 1)),
    "LpNormalization": plain("LpNormalization", axis=1),
    "LpPool": shaped(N("LpPool", ["r"], ["y"], kernel_shape=[3], strides=[2], pads=[1, 0], p=2), (2, 6), (2, 3)),
    "MeanVarianceNormalization": shaped(N("MeanVarianceNormalization", ["r"], ["y"], axes=[1, 2]), (3, 4), (3, 4)),
    "GridSample": sampled(),
    "RotaryEmbedding": shaped(
        N("RotaryEmbedding", ["r", "c", "s2"], ["y"], num_heads=1),
        (3, 4),
        (3, 4),
        c=np.cos(normal(4, 3, 2)),
        s2=np.sin(normal(4, 3, 2)),
    ),
    "NonZero": (
        [
            N("Relu", ["h"], ["u"]),
            N("NonZero", ["m"], ["z"]),
            N("Squeeze", ["z"], ["i"]),
            N("Gather", ["u", "i"], ["y"], axis=1),
        ],
        {"m": np.array([0, 1, 1, 0, 1], np.float32)},
        (3,),
    ),
    "OneHot": (
        [
            N("ArgMax", ["h"], ["i"], axis=1, keepdims=0),
            N("OneHot", ["i", "n", "v"], ["o"]),
            N("Mul", ["h", "o"], ["y"]),
        ],
        {"n": np.int64(12), "v": np.array([0.5, 2], np.float32)},
        (12,),
    ),
    "RNN": recurrent("RNN", 1, 1),
    "ReverseSequence": (
        [N("Transpose", ["h"], ["t"]), N("ReverseSequence", ["t", "n"], ["g"]), N("Transpose", ["g"], ["y"])],
        {"n": ints(3, 12, 1, 5)},
        (12,),
    ),
    "ScatterElements": (
        [N("Transpose", ["h"], ["t"]), N("ScatterElements", ["t", "i", "u"], ["g"]), N("Transpose", ["g"], ["y"])],
        {"i": np.array([[3, 0, 1, 2], [5, 1, -1, 3]]), "u": normal(2, 4)},
        (12,),
    ),
    "ScatterND": (
        [
            N("Transpose", ["h"], ["t"]),
            N("ScatterND", ["t", "i", "u"], ["g"], reduction="add"),
            N("Transpose", ["g"], ["y"]),
        ],
        {"i": ints(3, 0, 3).reshape(3, 1), "u": normal(3, 4)},
        (12,),
    ),
    "SpaceToDepth": shaped(N("SpaceToDepth", ["r"], ["y"], blocksize=2), (3, 2, 2), (12, 1, 1)),
    "TopK": ([N("TopK", ["h", "k"], ["y", "i"])], {"k": ints(4)}, (4,)),
    "DFT": shaped(N("DFT", ["r"], ["y"], axis=1), (6, 2), (6, 2)),
    "IsInf": chosen_by(N("IsInf", ["h"], ["q"])),
    "STFT": shaped(
        N("STFT", ["r", "by", "window"], ["y"]), (12, 1), (5, 3, 2), by=np.int64(2), window=1 + np.abs(normal(4))
    ),
    **{
        name: ([N(name, ["n"], ["t"]), N("Mul", ["h", "t"], ["y"])], {"n": np.int64(12)}, (12,))
        for name in ("BlackmanWindow", "HammingWindow", "HannWindow")
    },
    "Col2Im": shaped(
        N("Col2Im", ["r", "image", "block"], ["y"]), (4, 3), (2, 4, 1), image=ints(4, 1), block=ints(2, 1)
    ),
    "MaxUnpool": (
        [
            N("Reshape", ["h", "s"], ["r"]),
            N("MaxPool", ["r"], ["p", "i"], kernel_shape=[2], strides=[2]),
            N("MaxUnpool", ["p", "i"], ["y"], kernel_shape=[2], strides=[2]),
        ],
        {"s": ints(0, 2, 6)},
        (2, 6),
    ),
    "Einsum": shaped(N("Einsum", ["r", "w"], ["y"], equation="btc,dc->bdt"), (3, 4), (5, 3), w=normal(5, 4)),
    "EyeLike": ([N("EyeLike", ["m"], ["e"], k=1), N("MatMul", ["h", "e"], ["y"])], {"m": normal(12, 12)}, (12,)),
    "IsNaN": chosen_by(N("IsNaN", ["h"], ["q"])),
    "ReduceLogSum": ([N("Softplus", ["h"], ["p"]), N("ReduceLogSum", ["p"], ["y"], axes=[1])], {}, (1,)),
    "Shrink": plain("Shrink", lambd=0.4, bias=0.2),
    "Size": (
        [N("Size", ["w"], ["n"]), N("Cast", ["n"], ["f"], to=1), N("Div", ["h", "f"], ["y"])],
        {"w": normal(3, 4)},
        (12,),
    ),
    "Xor": chosen_by(
        N("Less", ["h", "c"], ["p"]),
        N("Greater", ["h", "d"], ["o"]),
        N("Xor", ["p", "o"], ["q"]),
        c=np.float32(0.5),
        d=np.float32(-0.5),
    ),
}
MORE_VARIANTS: dict[str, Case] = {
    "DepthToSpace by columns": shaped(N("DepthToSpace", ["r"], ["y"], blocksize=2, mode="CRD"), (12, 1, 1), (3, 2, 2)),
    **{
        f"ScatterElements by {how}": (
            [
                N("Transpose", ["h"], ["t"]),
                N("ScatterElements", ["t", "i", "u"], ["g"], reduction=how),
                N("Transpose", ["g"], ["y"]),
            ],
            {"i": np.array([[3, 0, 1, 2], [3, 1, -1, 3]]), "u": normal(2, 4)},
            (12,),
        )
        for how in ("add", "mul", "max", "min")
    },
    "LpNormalization by absolute values": plain("LpNormalization", axis=-1, p=1),
    "LpPool 2-D by cubes": shaped(N("LpPool", ["r"], ["y"], kernel_shape=[2, 2], p=3), (1, 3, 4), (1, 2, 3)),
    "RNN both ways by Relu": recurrent(
        "RNN", 2, 1, normal(2, 4, 5), direction="bidirectional", activations=["Relu"] * 2
    ),
    "LSTM with peepholes": (
        [
            N("Reshape", ["h", "s"], ["r"]),
            N("Transpose", ["r"], ["T"], perm=[1, 0, 2]),
            N("LSTM", ["T", "W", "R", "B", "", "", "", "P"], ["Y", "H", "C"], hidden_size=5, direction="bidirectional"),
            N("ReduceMean", ["Y"], ["M"], axes=[0], keepdims=0),
            N("Sum", ["M", "H", "C"], ["S"]),
            N("Transpose", ["S"], ["y"], perm=[1, 0, 2]),
        ],
        {"s": ints(0, 3, 4), "W": normal(2, 20, 4), "R": normal(2, 20, 5), "B": normal(2, 40), "P": normal(2, 15)},
        (2, 5),
    ),
    **{
        f"GridSample {mode}, {padding}": sampled(mode=mode, padding_mode=padding, align_corners=corners)
        for mode in ("bilinear", "nearest", "bicubic")
        for padding, corners in (("zeros", 1), ("border", 0), ("reflection", 0))
    },
    "Resize cubic": resized("cubic", (5, 3)),
    "Resize cubic, outside left out": resized("cubic", (2, 6), exclude_outside=1, cubic_coeff_a=-0.5),
    "Resize linear, antialias": resized("linear", (2, 2), antialias=1),
    "Resize cubic, antialias": resized("cubic", (2, 3), antialias=1),
    "Resize within a size": shaped(
        N("Resize", ["r", "", "", "to"], ["y"], mode="linear", axes=[2, 3], keep_aspect_ratio_policy="not_larger"),
        (1, 3, 4),
        (1, 4, 6),
        to=ints(5, 6),
    ),
    "Resize of a part": shaped(
        N(
            "Resize",
            ["r", "roi", "", "to"],
            ["y"],
            mode="linear",
            coordinate_transformation_mode="tf_crop_and_resize",
            extrapolation_value=2.0,
        ),
        (1, 3, 4),
        (1, 2, 3),  # ONNX Runtime crops no axis whose size stays
        roi=np.array([0, 0, 0.2, 0.4, 1, 1, 0.9, 1.3], np.float32),
        to=ints(4, 1, 2, 3),
    ),
    "Attention with a trained bias": attending("bias"),
    "Attention to the past": attending(is_causal=1, scale=0.3),
    "Attention, capped": attending(softcap=0.5),
    "RotaryEmbedding by turns": shaped(
        N("RotaryEmbedding", ["r", "c", "s2", "at"], ["y"], num_heads=1, interleaved=1),
        (3, 4),
        (3, 4),
        c=np.cos(normal(5, 2)),
        s2=np.sin(normal(5, 2)),
        at=ints(*[0, 2, 4] * 4).reshape(4, 3),
    ),
    "DFT of half a spectrum": shaped(N("DFT", ["r", "n"], ["y"], axis=1, onesided=1), (12, 1), (5, 2), n=np.int64(8)),
    "DFT, inverse": shaped(N("DFT", ["r"], ["y"], axis=1, inverse=1), (6, 2), (6, 2)),
    "STFT of (batch, time)": shaped(
        N("STFT", ["r", "by", "window"], ["y"]), (12,), (5, 3, 2), by=np.int64(2), window=1 + np.abs(normal(4))
    ),
    "STFT without a window, whole": shaped(
        N("STFT", ["r", "by", "", "size"], ["y"], onesided=0), (12, 1), (3, 6, 2), by=np.int64(3), size=np.int64(6)
    ),
    "TopK smallest, positions used": (
        [
            N("TopK", ["h", "k"], ["v", "i"], largest=0),
            N("GatherElements", ["h", "i"], ["g"], axis=1),
            N("Mul", ["g", "v"], ["y"]),
        ],
        {"k": ints(3)},
        (3,),
    ),
    "CumSum backwards": shaped(N("CumSum", ["r", "a"], ["y"], reverse=1), (3, 4), (3, 4), a=np.int64(-2)),
    "Einsum of a diagonal": (
        [
            N("MatMul", ["h", "w"], ["m"]),
            N("Reshape", ["m", "s"], ["r"]),
            N("Einsum", ["r"], ["y"], equation="...ii->...i"),
        ],
        {"w": normal(12, 9), "s": ints(0, 3, 3)},
        (3,),
    ),
    "Einsum with an ellipsis": shaped(
        N("Einsum", ["r", "r"], ["y"], equation="b...c,b...d->b...cd"), (3, 4), (3, 4, 4)
    ),
    "Einsum of attention": shaped(N("Einsum", ["r", "r"], ["y"], equation="bqc,bkc->bqk"), (3, 4), (3, 3)),
    "Einsum that sums a letter": shaped(N("Einsum", ["r"], ["y"], equation="btc->b c"), (3, 4), (4,)),
}
