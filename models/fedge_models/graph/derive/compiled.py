# SPDX-License-Identifier: Apache-2.0
"""Turn formulas into a list of NumPy calls on registers, and the registers into buffers of one shape. Pure.

Registers are float64, of one window's samples or of one number; a register is used again once nothing needs it. What
cannot overflow or be undefined is known from the magnitudes (`reach`), and costs no care.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import ModelError
from .functions import OPERATIONS, UNSURE, Floats, Operation, no_infinities
from .plan import Formula
from .syntax import Node

CHANNEL_REACH = 39.0  # log10 of the largest float32
SURE_REACH = 300.0  # of float64, with room
SAMPLES, NUMBERS, SAMPLE_FLAGS, NUMBER_FLAGS = range(4)  # kinds of registers

KINDS = (np.float64, np.float64, np.bool_, np.bool_)


class Place(NamedTuple):
    """Where a value is: a constant, a row of the window, or a register of a kind."""

    constant: NDArray[Any] | None = None
    row: int = -1
    register: tuple[int, int] = (0, -1)  # kind, number


class Value(NamedTuple):
    """A value, and what is known of it."""

    place: Place
    window: bool  # one number a window
    reach: float  # log10 of its largest magnitude; UNSURE: it may be not finite
    named: bool = False  # others may read it: its register is kept


class Step(NamedTuple):
    """One NumPy call."""

    do: Callable[..., Any]
    places: tuple[Place, ...]


class Compiled(NamedTuple):
    """All formulas of a card."""

    steps: tuple[Step, ...]
    registers: tuple[int, ...]  # how many of each kind
    values: tuple[Value, ...]  # of the formulas, in their order

    def bound(self, rows: Floats) -> tuple[list[tuple[Callable[..., Any], tuple[Any, ...]]], list[Floats]]:
        """The calls on buffers for windows like `rows` (..., channels, length), and where the results will be."""
        lead, length = rows.shape[:-2], rows.shape[-1]
        kinds = [
            np.zeros((count, *lead, length if kind in (SAMPLES, SAMPLE_FLAGS) else 1), KINDS[kind])
            for kind, count in enumerate(self.registers)
        ]

        def array(place: Place) -> Any:
            if place.constant is not None:
                return place.constant
            return rows[..., place.row, :] if place.row >= 0 else kinds[place.register[0]][place.register[1]]

        calls = [(step.do, tuple(map(array, step.places))) for step in self.steps]
        return calls, [array(value.place) for value in self.values]


def compiled(measured: Sequence[str], formulas: Sequence[Formula]) -> Compiled:
    """Compile formulas (in an order in which they can be computed). Raises ModelError naming one."""
    work = _Compiler({name: Value(Place(row=i), False, CHANNEL_REACH) for i, name in enumerate(measured)})
    for formula in formulas:
        try:
            work.define(formula)
        except ModelError as e:
            raise ModelError(f"derive.{formula.name}: {e}") from None
    return Compiled(tuple(work.steps), tuple(work.made), tuple(work.known[f.name] for f in formulas))


class _Compiler:
    def __init__(self, known: dict[str, Value]) -> None:
        self.known, self.steps, self.made = known, list[Step](), [0] * len(KINDS)
        self._free: list[list[Place]] = [[] for _ in KINDS]

    def define(self, formula: Formula) -> None:
        """Compile a formula, under its name from now on."""
        value = self._value(formula.node)
        if value.place.register[1] < 0:  # another name for a channel, which keeps its own register
            value = self._copied(value)
        self.known[formula.name] = value._replace(named=True)

    def _value(self, node: Node) -> Value:
        if node.what == "number":
            return _constant(node.value)
        if node.what == "channel":
            return self.known[node.name]
        args = [self._value(arg) for arg in node.args]
        operation = OPERATIONS[node.what]
        if all(a.place.constant is not None for a in args):
            return _folded(node, operation, args)
        if node.what == "/" and args[1].place.constant is not None and not args[1].place.constant:
            raise ModelError(f"position {node.at}: a division by 0 never gives a number")
        return self._called(node, operation, args)

    def _called(self, node: Node, operation: Operation, args: list[Value]) -> Value:
        do, reach, used = operation.do, operation.reach([a.reach for a in args]), [a.place for a in args]
        if node.what == "**":
            do, reach, used = _power(args)
        window = operation.window or all(a.window for a in args)
        if operation.absorbs:
            for value in args:
                self._careful(value)
        scratch = operation.scratch
        if operation.careful is not None and any(a.reach == UNSURE for a in args[operation.loses]):
            do, scratch = operation.careful, True
        kind = NUMBERS if window else SAMPLES
        extra = [self._take(NUMBER_FLAGS if window else SAMPLE_FLAGS)] if operation.flags else []
        extra += [self._take(SAMPLES if operation.window else kind)] if scratch else []
        early = operation.alias and not operation.window
        if early:
            self._release(args)
        out = self._take(kind)
        if not early:
            self._release(args)
        self.steps.append(Step(do, (*used, *extra, out)))
        self._give(extra)
        return Value(Place(register=out.register), window, reach if reach < SURE_REACH else UNSURE)

    def _careful(self, value: Value) -> None:
        """Take infinities out of a value, whose operation would lose them."""
        if value.reach < UNSURE:
            return
        scratch = self._take(value.place.register[0])
        self.steps.append(Step(no_infinities, (value.place, scratch)))
        self._give([scratch])

    def _copied(self, value: Value) -> Value:
        out = self._take(NUMBERS if value.window else SAMPLES)
        self.steps.append(Step(_copy, (value.place, out)))
        return value._replace(place=out)

    def _take(self, kind: int) -> Place:
        if self._free[kind]:
            return self._free[kind].pop()
        self.made[kind] += 1
        return Place(register=(kind, self.made[kind] - 1))

    def _give(self, places: Sequence[Place]) -> None:
        for place in places:
            self._free[place.register[0]].append(place)

    def _release(self, values: Sequence[Value]) -> None:
        """Give back registers that nothing reads any more. Each is the result of one node, so it is there once."""
        self._give([v.place for v in values if v.place.register[1] >= 0 and not v.named])


def _copy(a: Floats, out: Floats) -> None:
    np.copyto(out, a)


def _constant(value: float) -> Value:
    return Value(Place(np.array(value)), True, max(math.log10(abs(value)), -300.0) if value else -300.0)


def _folded(node: Node, operation: Operation, args: Sequence[Value]) -> Value:
    """The result of an operation on numbers. Raises ModelError when it is none."""
    flags = [np.zeros((), np.bool_)] if operation.flags else []
    out, scratch = np.zeros(()), [np.zeros(())] if operation.scratch else []
    with np.errstate(all="ignore"):
        operation.do(*(a.place.constant for a in args), *flags, *scratch, out)
    if not math.isfinite(out):
        raise ModelError(f"position {node.at}: {node.what} of these numbers is {float(out)}, no number")
    return _constant(float(out))


def _power(args: Sequence[Value]) -> tuple[Callable[..., Any], float, list[Place]]:
    """The call for a power: whole positive ones cannot be undefined, and a square is quicker."""
    base, exponent = args
    assert exponent.place.constant is not None  # `plan` has seen to it
    e = float(exponent.place.constant)
    reach = base.reach * e if e > 0 and e.is_integer() and base.reach >= 0 else UNSURE
    return (np.square, reach, [base.place]) if e == 2 else (np.power, reach, [base.place, exponent.place])
