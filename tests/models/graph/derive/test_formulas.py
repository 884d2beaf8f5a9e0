# SPDX-License-Identifier: Apache-2.0
"""A formula means what arithmetic means, and says where it is wrong."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fedge_models.errors import ModelError
from fedge_models.graph.derive.functions import ARGUMENTS, OPERATIONS
from fedge_models.graph.derive.plan import plan
from fedge_models.graph.derive.program import Program
from hypothesis import given, settings
from hypothesis import strategies as st

NAMES = ("a", "b", "c")
X = np.random.default_rng(0).normal(0, 2, (50, 3, 8)).astype(np.float32)
A, B, C = (X[:, i].astype(np.float64) for i in range(3))


def value(formula: str, x: Any = X, names: tuple[str, ...] = NAMES) -> Any:
    """What a formula gives, as a row."""
    formulas = plan(names, (("f", formula),))
    out = np.empty((len(x), 1 if formulas[0].window else x.shape[-1]), np.float32)
    Program(names, formulas)(np.asarray(x, np.float32), [out])
    return out


def of(formula: str, **channels: float) -> float:
    """What a formula gives for one value of each channel."""
    return float(value(formula, np.array([[[v] for v in channels.values()]]), tuple(channels))[0, 0])


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("a * b * 0.10472 + c", A * B * 0.10472 + C),
        ("a - b - c", A - B - C),
        ("a / b / c", A / B / C),
        ("-a ** 2", -(A**2)),
        ("2 * -a", -2 * A),
        ("b * a ** -1", B / A),
        ("(a + b) * (a - b)", A**2 - B**2),
        ("abs(a) ** 0.5 + sqrt(abs(a)) + log(abs(b)) + log1p(c * c)", None),
        ("exp(a) + sin(b) - cos(c)", np.exp(A) + np.sin(B) - np.cos(C)),
        ("(a > 0) + 2 * (b <= c) + 4 * (a == a) + 8 * (a != a)", (A > 0) + 2 * (B <= C) + 4),
        ("(a < b) + (a >= b)", np.ones_like(A)),
        ("min(a, b, c) + 10 * max(a, b)", np.min(X, axis=1) + 10 * np.maximum(A, B)),
        ("clip(a, -1, b)", np.minimum(np.maximum(A, -1), B)),
        ("where(a > 0, b, where(b > 0, c, 7))", np.where(A > 0, B, np.where(B > 0, C, 7))),
        ("where(a, b, c)", B),
        ("where(mean(a) > 0, 1, a)", np.where(A.mean(-1, keepdims=True) > 0, 1, A)),
        ("diff(a)", np.concatenate([A[:, 1:2] - A[:, :1], np.diff(A)], axis=1)),
        ("a - mean(a)", A - A.mean(-1, keepdims=True)),
        ("mean(a * b)", (A * B).mean(-1, keepdims=True)),
        ("std(a) + rms(b)", A.std(-1, keepdims=True) + np.sqrt((B**2).mean(-1, keepdims=True))),
        ("max(a) - min(a)", np.ptp(A, axis=-1, keepdims=True)),
        ("last(a) - first(a)", A[:, -1:] - A[:, :1]),
        ("+a", A),
        ("\n a\t", A),
        ("1e1 * a + .5 - 2.", 10 * A - 1.5),
        ("2 ** 3 * a", 8 * A),
    ],
)
def test_a_formula_is_its_arithmetic(formula: str, expected: Any) -> None:
    if expected is None:
        expected = np.sqrt(np.abs(A)) * 2 + np.log(np.abs(B)) + np.log1p(C * C)
    np.testing.assert_allclose(value(formula), expected, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("formula", ["a * b / c", "where(a > 0, log(a), b)", "std(a) * diff(b)", "max(a, b) ** 3"])
def test_one_window_is_computed_as_many_are(formula: str) -> None:
    alone = np.concatenate([value(formula, X[i : i + 1]) for i in range(len(X))])
    assert (value(formula) == alone).all()
    program = Program(NAMES, plan(NAMES, (("f", formula),)))
    for i in (3, 4):
        out = np.empty(8, np.float32)
        program(X[i], [out])
        assert (out == alone[i]).all()


@pytest.mark.parametrize(
    "formula",
    [
        "1 / a",
        "10 / (10 / a)",
        "1 / a > 5",
        "1 / a < 5",
        "(1 / a == 1 / a) + b",
        "min(1 / a, 10)",
        "max(-1 / a, 10)",
        "clip(1 / a, 0, 1)",
        "exp(-1 / abs(a))",
        "(1 / a) ** -2",
        "where(1 / a > 5, 1, 2)",
        "where(log(a), 1, 2)",
        "log(a)",
        "sqrt(a - 1)",
        "log1p(a - 2)",
        "max(sqrt(a - 1), 0)",
        "(a - 1) ** 0.5 > 0",
        "min(log(a - 1))",
        "max(1 / a)",
        "mean(1 / a) > 2",
        "0 * (1 / a)",
        "a * exp(1e4 + a) > 1",
        "where(a > 0, 1, log(a))",
        "sin(1 / a)",
        "abs(1 / a) != 3",
        "std(1 / a) + slope(1 / a)",
        "1e200 * (a + 1) * 1e200 > 1",
        "1e30 * (b + 1e30)",
    ],
)
def test_what_is_undefined_never_becomes_a_number(formula: str) -> None:
    for zero in (0.0, -0.0):
        found = value(formula, np.array([[[zero, zero], [1.0, 1.0]]]), ("a", "b"))
        assert not np.isfinite(found).any(), found


def test_what_where_does_not_choose_may_be_undefined() -> None:
    assert of("where(speed > 0, torque / speed, 0)", torque=3, speed=0) == 0
    assert of("where(speed > 0, torque / speed, 0)", torque=3, speed=2) == 1.5
    assert of("where(a > 0, 1, log(a))", a=2) == 1


def test_only_the_samples_that_are_undefined_have_no_value() -> None:
    assert np.isfinite(value("1 / a", np.array([[[1.0, 0.0, 2.0]]]), ("a",))).tolist() == [[True, False, True]]


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("", 'position 1: expected a number, a channel, a function or "(", got the end'),
        ("a +", 'position 4: expected a number, a channel, a function or "(", got the end'),
        ("a b", "position 3: expected an operator or the end, got 'b'"),
        ("(a", 'position 3: expected an operator, "," or the ")" of position 1, got the end'),
        ("a)", "position 2: expected an operator or the end, got ')'"),
        ("torque * 2", "position 1: there is no channel 'torque'; expected one of: a, b, c"),
        ("a * bb", "position 5: there is no channel 'bb'; did you mean 'b'?"),
        ("eval(a)", "position 1: there is no function 'eval'"),
        ("square(a)", "there is no function 'square'"),
        ("a.real", "position 2: '.real' is no number, name or sign"),
        ("a[0]", "position 2: '[0]' is no number"),
        ("a ^ 2", "a power is **"),
        ("a = 2", "equal is =="),
        ("a > 1 and b > 1", "got 'and'; multiply two comparisons"),
        ("a if b else c", "write where"),
        ("0 < a < 1", "position 7: a second comparison in a row"),
        ("a ** b", "position 3: the exponent is an expression"),
        ("a ** 17", "the exponent is 17, expected a number from -16 to 16, not 0"),
        ("a ** 0", "the exponent is 0"),
        ("sqrt(a, b)", "position 1: sqrt takes 1 arguments, got 2"),
        ("where(a, b)", "where takes 3 arguments, got 2"),
        ("clip(a, 3, 2)", "clip from 3 to 2, expected low < high"),
        ("mean(std(a))", "position 1: mean is over the samples of a window"),
        ("diff(max(a))", "position 1: diff is over the samples of a window"),
        ("a + log(-1)", "position 5: log of these numbers is nan"),
        ("a * (1 / 0)", "position 8: / of these numbers is inf"),
        ("where(a > 0, 1 / 0, 2)", "position 16: / of these numbers is inf"),
        ("a / 0", "position 3: a division by 0 never gives a number"),
        ("where(a > 0, b / (2 - 2), 2)", "position 16: a division by 0 never gives a number"),
        ("a * " + "9" * 900, f"position 5: {'9' * 40}… is too large for a number"),
        ("a + 1e999", "position 5: 1e999 is too large"),
        ("12a", "position 1: '12a' is no number"),
        ("1.2.3 * a", "is no number"),
        ("`a", "position 1: a quote without its end"),
        ("2 * 3", "reads no channel"),
        ("__import__('os')", "there is no function '__import__'"),
        ("(" * 40 + "a" + ")" * 40, "position 33: more than 32 brackets"),
        ("-" * 40 + "a", "more than 32 brackets or signs"),
        ("+".join(["a"] * 120), "more than 100 operations on each other"),
        ("a" * 1001, "has 1,001 characters, expected at most 1,000"),
    ],
)
def test_an_error_says_where_and_what_was_expected(formula: str, message: str) -> None:
    with pytest.raises(ModelError) as raised:
        value(formula)
    assert message in str(raised.value)


def test_names_that_are_no_identifiers_stand_in_quotes() -> None:
    names = ("ns=2;s=Pump1.Current", "Öl °C", "max")
    for left, right in ("``", '""', "''"):
        assert value(f"{left}ns=2;s=Pump1.Current{right} + 1", X, names) == pytest.approx(A + 1, rel=1e-6)
    assert value("`Öl °C` * max", X, names) == pytest.approx(B * C, rel=1e-6)
    assert value("`two  spaces` + 0", X, ("a", "two  spaces", "c")) == pytest.approx(B)
    assert value("max(max, 0)", X, names) == pytest.approx(np.maximum(C, 0))


def test_derived_channels_read_each_other_in_any_order() -> None:
    formulas = plan(NAMES, (("double", "half * 4"), ("half", "a / 2"), ("swing", "max(double) - min(half)")))
    assert [f.name for f in formulas] == ["half", "double", "swing"]
    assert [f.window for f in formulas] == [False, False, True]
    assert formulas[2].measured == {"a"}
    out = [np.empty((50, n), np.float32) for n in (8, 8, 1)]
    Program(NAMES, formulas)(X, out)
    np.testing.assert_allclose(out[1], 2 * A, rtol=1e-6)
    np.testing.assert_allclose(out[2][:, 0], 2 * A.max(-1) - A.min(-1) / 2, rtol=1e-6)


@pytest.mark.parametrize(
    ("formulas", "message"),
    [
        ({"p": "q + a", "q": "r", "r": "p"}, "in a circle: p -> q -> r -> p"),
        ({"p": "p + a"}, "in a circle: p -> p"),
        ({"a": "b"}, "derive.a: is the name of a channel"),
        *[
            ({name: "b"}, "names a derived channel")
            for name in ("", " p", "p\n", "a\x1b[2J", "p" * 65, "`p`", "\u202ep")
        ],
        ({f"d{i}": "a" for i in range(257)}, "257 derived channels, expected at most 256"),
        ({f"d{i}": "+".join(["a"] * 90) for i in range(30)}, "at most 4,000 may be"),
        ({"m": "mean(a)", "n": "std(m)"}, "derive.n: position 1: std is over the samples"),
    ],
)
def test_derived_channels_that_cannot_be_are_named(formulas: dict[str, str], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        plan(NAMES, tuple(formulas.items()))


# what comes over the network

PIECES = [
    *ARGUMENTS,
    *"abc()+-*/<>,. \t`'\"^[]{}:;=!",
    "**",
    "<=",
    "==",
    "1",
    "1e9",
    "0x1",
    "nan",
    "é",
    "\0",
    "\n",
    "lambda",
]


@given(st.lists(st.sampled_from(PIECES), max_size=60).map("".join) | st.text(max_size=80))
@settings(max_examples=400, deadline=None)
def test_any_text_is_a_formula_or_a_model_error(text: str) -> None:
    try:
        found = value(text)
    except ModelError as e:
        assert len(str(e)) < 2000
    else:
        assert found.dtype == np.float32


def trees() -> st.SearchStrategy[str]:
    leaves = st.sampled_from(NAMES) | st.floats(-1e3, 1e3).map(lambda v: f"({v:.6f})")

    def grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        two = st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})")
        compared = st.tuples(inner, st.sampled_from(["<", ">=", "=="]), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})")
        called = st.tuples(st.sampled_from(["abs", "sqrt", "log", "exp", "sin"]), inner).map(
            lambda t: f"{t[0]}({t[1]})"
        )
        several = st.tuples(st.sampled_from(["min", "max"]), inner, inner).map(lambda t: f"{t[0]}({t[1]}, {t[2]})")
        where = st.tuples(inner, inner, inner).map(lambda t: f"where({t[0]}, {t[1]}, {t[2]})")
        return two | compared | called | several | where

    return st.recursive(leaves, grown, max_leaves=12)


class Undefined(Exception):
    """A step of the reference is not finite."""


def reference(text: str, a: float, b: float, c: float) -> float:
    """The same by Python's own arithmetic, one step at a time. Raises Undefined."""

    def number(v: float) -> float:
        if not math.isfinite(v):
            raise Undefined
        return v

    class Number(float):
        def __add__(self, o: float) -> Any:
            return Number(number(float(self) + float(o)))

        def __sub__(self, o: float) -> Any:
            return Number(number(float(self) - float(o)))

        def __mul__(self, o: float) -> Any:
            return Number(number(float(self) * float(o)))

        def __truediv__(self, o: float) -> Any:
            if float(o) == 0:
                raise Undefined
            return Number(number(float(self) / float(o)))

        __radd__, __rmul__ = __add__, __mul__

        def __rsub__(self, o: float) -> Any:
            return Number(float(o)) - self

        def __rtruediv__(self, o: float) -> Any:
            return Number(float(o)) / self

    def called(of: Any) -> Any:
        def call(v: float) -> Any:
            try:
                return Number(number(of(float(v))))
            except (ValueError, OverflowError):
                raise Undefined from None

        return call

    functions = {name: called(getattr(math, name)) for name in ("sqrt", "log", "exp", "sin")}
    given_ = {"a": Number(a), "b": Number(b), "c": Number(c), "abs": called(math.fabs), "min": min, "max": max}
    try:
        return float(eval(text, {"__builtins__": {}}, {**functions, **given_}))
    except ZeroDivisionError:  # by the result of a comparison
        raise Undefined from None


@given(trees().filter(lambda t: "where" not in t), st.tuples(*[st.floats(-50, 50, width=32)] * 3))
@settings(max_examples=300, deadline=None)
def test_a_formula_agrees_with_pythons_arithmetic_or_neither_is_a_number(
    text: str, channels: tuple[float, float, float]
) -> None:
    try:
        found = value(text + " + 0 * a", np.array(channels).reshape(1, 3, 1))[0, 0]
    except ModelError as e:  # arithmetic on numbers alone, or too deep
        assert any(word in str(e) for word in ("of these numbers", "a division by 0", "more than"))
        return
    try:
        expected = reference(text, *channels)
    except Undefined:
        assert not math.isfinite(found)
        return
    if abs(expected) > 3e38:
        assert not math.isfinite(found)
    else:
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-30)


def test_the_worst_card_is_read_quickly() -> None:
    deep = "(" * 31 + "a" + ")" * 31
    formulas = {f"d{i}": f"{deep} + {'+'.join(['a'] * 8)}" for i in range(256)}
    formulas |= {f"d{i}": f"d{i - 1} + d{i - 1}" for i in range(1, 256)}
    began = time.process_time()
    planned = plan(NAMES, tuple(formulas.items()))
    Program(NAMES, planned)(X, [None] * len(planned))
    assert time.process_time() - began < 5


def test_registers_are_used_again() -> None:
    long = " + ".join(f"(a * {i}.5)" for i in range(60))
    program = Program(NAMES, plan(NAMES, (("f", long),)))
    assert sum(program._compiled.registers) <= 3


def test_every_operation_is_held_by_a_formula_here() -> None:
    source = Path(__file__).read_text()
    for name in ARGUMENTS:
        assert f"{name}(" in source, name
    assert {"window min", "window max", "negative"} < OPERATIONS.keys()
