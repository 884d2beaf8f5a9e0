# SPDX-License-Identifier: Apache-2.0
"""A small graph for each operator beyond those of plain dense and convolutional networks."""

from __future__ import annotations

import numpy as np

from support.graphs import N, ints, normal
from support.operator_forms import Case, chosen_by, plain, shaped


def within(op_type: str) -> Case:
    """Of values between -0.6 and 0.6."""
    return (
        [N("Tanh", ["h"], ["t"]), N("Mul", ["t", "c"], ["u"]), N(op_type, ["u"], ["y"])],
        {"c": np.float32(0.6)},
        (12,),
    )


FUNCTIONS = {name: plain(name) for name in ("Sin", "Cos", "Sinh", "Cosh", "Atan", "Asinh")}
BOUNDED = {name: within(name) for name in ("Tan", "Asin", "Acos", "Atanh")}
MORE: dict[str, Case] = {
    **FUNCTIONS,
    **BOUNDED,
    "Acosh": (
        [N("Softplus", ["h"], ["p"]), N("Add", ["p", "one"], ["q"]), N("Acosh", ["q"], ["y"])],
        {"one": np.float32(1.1)},
        (12,),
    ),
    "CastLike": ([N("CastLike", ["h", "c"], ["y"])], {"c": np.float32(1)}, (12,)),
    "CumSum": shaped(N("CumSum", ["r", "a"], ["y"], exclusive=1), (3, 4), (3, 4), a=np.int64(2)),
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
