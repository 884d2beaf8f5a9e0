# SPDX-License-Identifier: Apache-2.0
"""What the signs and functions of a formula compute: NumPy calls that write float64 into `out`, their last argument.

A sample at which a result is not finite has no value (NaN). An infinity must never become a plausible number again
(1 / inf is 0, inf > 5 is 1), nor NaN (NaN > 5 is 0): whoever would lose one (`absorbs`) gets its operands without
infinities (`no_infinities`), and carries NaN on. What is not chosen by `where` does not count.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ZERO = np.zeros(())
MAX_ARGUMENTS = 16

ARGUMENTS = {  # of the functions: least, most
    **dict.fromkeys(("abs", "cos", "exp", "log", "log1p", "sin", "sqrt"), (1, 1)),
    **dict.fromkeys(("diff", "first", "last", "mean", "rms", "slope", "std"), (1, 1)),
    "clip": (3, 3),
    "max": (1, MAX_ARGUMENTS),
    "min": (1, MAX_ARGUMENTS),
    "where": (3, 3),
}
UNSURE = math.inf  # a reach: the value may be not finite


class Operation(NamedTuple):
    """One operation. reach: log10 of the largest magnitude of its result, by those of its arguments."""

    do: Callable[..., Any]  # (*arguments, [flags], [scratch], out)
    reach: Callable[[Sequence[float]], float] = lambda _: UNSURE
    absorbs: bool = False  # an infinite argument may give a finite result
    careful: Callable[..., Any] | None = None  # instead of `do` where one of these arguments may be NaN; has a scratch
    loses: slice = slice(None)  # the arguments whose NaN `do` would lose
    scratch: bool = False  # `do` has one too
    flags: bool = False
    alias: bool = True  # `out` may be an argument
    window: bool = False  # gives one number a window
    least: int = 1  # samples of a window


def no_infinities(a: Floats, scratch: Floats) -> None:
    """Make infinities in `a` NaN."""
    np.multiply(a, ZERO, scratch)
    np.add(a, scratch, a)


def _compare(ufunc: np.ufunc) -> Operation:
    def careful(a: Floats, b: Floats, scratch: Floats, out: Floats) -> None:
        np.subtract(a, b, scratch)
        np.multiply(scratch, ZERO, scratch)
        ufunc(a, b, out)
        np.add(out, scratch, out)

    return Operation(ufunc, _one, careful=careful)


def _where(condition: Floats, then: Floats, otherwise: Floats, flags: NDArray[np.bool_], out: Floats) -> None:
    np.not_equal(condition, ZERO, flags)
    np.copyto(out, otherwise)
    np.copyto(out, then, where=flags)


def _careful_where(
    condition: Floats, then: Floats, otherwise: Floats, flags: NDArray[np.bool_], scratch: Floats, out: Floats
) -> None:
    _where(condition, then, otherwise, flags, out)
    np.multiply(condition, ZERO, scratch)
    np.add(out, scratch, out)


def _diff(a: Floats, out: Floats) -> None:
    """Change since the sample before; the first has none before it and takes the second's."""
    np.subtract(a[..., 1:], a[..., :-1], out[..., 1:])
    out[..., 0] = out[..., 1]


def _mean(a: Floats, out: Floats) -> None:
    np.add.reduce(a, axis=-1, out=out, keepdims=True)
    np.divide(out, a.shape[-1], out)


def _rms(a: Floats, scratch: Floats, out: Floats) -> None:
    np.multiply(a, a, scratch)
    _mean(scratch, out)
    np.sqrt(out, out)


def _std(a: Floats, scratch: Floats, out: Floats) -> None:
    _mean(a, out)
    np.subtract(a, out, scratch)
    _rms(scratch, scratch, out)


def _slope(a: Floats, scratch: Floats, out: Floats) -> None:
    """Least-squares change over the window's length, as the feature of that name."""
    np.multiply(a, _ramp(a.shape[-1]), scratch)
    np.add.reduce(scratch, axis=-1, out=out, keepdims=True)


@lru_cache(8)
def _ramp(length: int) -> Floats:
    t = np.linspace(-0.5, 0.5, length)
    ramp: Floats = t / np.dot(t, t)
    return ramp


def _first(a: Floats, out: Floats) -> None:
    np.copyto(out, a[..., :1])


def _last(a: Floats, out: Floats) -> None:
    np.copyto(out, a[..., -1:])


def _lesser(a: Floats, b: Floats, out: Floats) -> None:
    np.minimum(a, b, out=out)


def _greater(a: Floats, b: Floats, out: Floats) -> None:
    np.maximum(a, b, out=out)


def _least(a: Floats, out: Floats) -> None:
    np.minimum.reduce(a, axis=-1, out=out, keepdims=True)


def _greatest(a: Floats, out: Floats) -> None:
    np.maximum.reduce(a, axis=-1, out=out, keepdims=True)


def _one(reaches: Sequence[float]) -> float:
    """Of what is at most 1, if it is a number at all."""
    return 0.0 if max(reaches) < UNSURE else UNSURE


def _sum_reach(reaches: Sequence[float]) -> float:
    return max(reaches) + 0.31


def _same_reach(reaches: Sequence[float]) -> float:
    return max(reaches)


OPERATIONS: dict[str, Operation] = {
    "+": Operation(np.add, _sum_reach),
    "-": Operation(np.subtract, _sum_reach),
    "*": Operation(np.multiply, sum),
    "/": Operation(np.divide, absorbs=True),
    "**": Operation(np.power, absorbs=True),
    "negative": Operation(np.negative, _same_reach),
    "<": _compare(np.less),
    "<=": _compare(np.less_equal),
    ">": _compare(np.greater),
    ">=": _compare(np.greater_equal),
    "==": _compare(np.equal),
    "!=": _compare(np.not_equal),
    "abs": Operation(np.absolute, _same_reach),
    "sqrt": Operation(np.sqrt),
    "log": Operation(np.log),
    "log1p": Operation(np.log1p),
    "exp": Operation(np.exp, absorbs=True),
    "sin": Operation(np.sin, _one),
    "cos": Operation(np.cos, _one),
    "min": Operation(_lesser, _same_reach, absorbs=True),
    "max": Operation(_greater, _same_reach, absorbs=True),
    "where": Operation(_where, _same_reach, careful=_careful_where, loses=slice(1), flags=True, alias=False),
    "diff": Operation(_diff, _sum_reach, alias=False, least=2),
    "mean": Operation(_mean, lambda r: r[0] + 7, window=True),
    "rms": Operation(_rms, absorbs=True, scratch=True, window=True),
    "std": Operation(_std, absorbs=True, scratch=True, window=True, least=2),
    "slope": Operation(_slope, lambda r: r[0] + 7, absorbs=True, scratch=True, window=True, least=2),
    "first": Operation(_first, _same_reach, alias=False, window=True),
    "last": Operation(_last, _same_reach, alias=False, window=True),
    "window min": Operation(_least, _same_reach, absorbs=True, window=True),
    "window max": Operation(_greatest, _same_reach, absorbs=True, window=True),
}
