# SPDX-License-Identifier: Apache-2.0
"""Put the derived channels of a card in order: what each reads, whether it varies within a window. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from graphlib import CycleError, TopologicalSorter
from typing import NamedTuple

from ...errors import ModelError
from ...system.choices import hint
from .functions import OPERATIONS
from .syntax import Node, channels, parse

MAX_DERIVED = 256  # of a card
MAX_NAME = 64  # characters; people and logs read it
MAX_NODES = 4000  # of all its formulas: each is a NumPy call, about half a microsecond
MAX_EXPONENT = 16.0


class Formula(NamedTuple):
    """One derived channel."""

    name: str
    node: Node
    window: bool  # one number a window
    reads: tuple[str, ...]  # channels and derived ones, as they stand in the formula
    measured: frozenset[str]  # the channels that it depends on
    samples: int  # that a window needs


@lru_cache(32)
def plan(measured: tuple[str, ...], formulas: tuple[tuple[str, str], ...]) -> tuple[Formula, ...]:
    """Return the derived channels in an order in which they can be computed. Raises ModelError naming one.

    measured: names of the card's channels; formulas: (name, text).
    """
    if len(formulas) > MAX_DERIVED:
        raise ModelError(f"derive: {len(formulas):,} derived channels, expected at most {MAX_DERIVED}")
    parsed = {name: _parsed(name, text, measured, dict(formulas)) for name, text in formulas}
    nodes = sum(map(_size, parsed.values()))
    if nodes > MAX_NODES:
        raise ModelError(f"derive: the formulas have {nodes:,} numbers, names and signs, at most {MAX_NODES:,} may be")
    done: dict[str, Formula] = {}
    for name in _order(parsed):
        done[name] = _formula(name, parsed[name], done)
    return tuple(done.values())


def _parsed(name: str, text: str, measured: Sequence[str], derived: Mapping[str, str]) -> Node:
    if not 0 < len(name) <= MAX_NAME or not name.isprintable() or name != name.strip() or "`" in name:
        raise ModelError(
            f"derive: {name[:MAX_NAME]!r} names a derived channel, expected 1 to {MAX_NAME} printable characters, no "
            "backtick, and no space at an end"
        )
    if name in measured:
        raise ModelError(f"derive.{name}: is the name of a channel; give it another")
    try:
        node = parse(text)
        known = [*measured, *derived]
        for read, at in channels(node).items():
            if read not in known:
                raise ModelError(f"position {at}: there is no channel {read[:40]!r}; {hint(read, known)}")
    except ModelError as e:
        raise ModelError(f"derive.{name}: {e}") from None
    return node


def _size(node: Node) -> int:
    return 1 + sum(map(_size, node.args))


def _order(parsed: Mapping[str, Node]) -> list[str]:
    """The names, each after those that it reads; else in the order of the card. Raises ModelError for a circle."""
    graph = {name: [r for r in channels(node) if r in parsed] for name, node in parsed.items()}
    try:
        return list(TopologicalSorter(graph).static_order())
    except CycleError as e:
        circle = " -> ".join(reversed(e.args[1]))
        raise ModelError(f"derive: derived channels read each other in a circle: {circle}") from None


def _formula(name: str, node: Node, done: Mapping[str, Formula]) -> Formula:
    reads = tuple(channels(node))
    if not reads:
        raise ModelError(f"derive.{name}: reads no channel; a constant tells a model nothing")
    measured = frozenset[str]().union(*(done[r].measured if r in done else {r} for r in reads))
    try:
        window = _one_a_window(node, done)
    except ModelError as e:
        raise ModelError(f"derive.{name}: {e}") from None
    samples = max([_samples(node), *(done[r].samples for r in reads if r in done)])
    return Formula(name, node, window, reads, measured, samples)


def _one_a_window(node: Node, done: Mapping[str, Formula]) -> bool:
    """Whether a node is one number a window. Raises ModelError where a function cannot take what it is given."""
    if node.what in ("number", "channel"):
        return node.what == "number" or (node.name in done and done[node.name].window)
    constant = [_one_a_window(arg, done) for arg in node.args]
    operation, name = OPERATIONS[node.what], node.what.rpartition(" ")[2]
    if (operation.window or node.what == "diff") and constant[0]:
        raise ModelError(
            f"position {node.at}: {name} is over the samples of a window, and what it is given is one number a window"
        )
    if node.what == "**":
        _check_exponent(node)
    return operation.window or all(constant)


def _check_exponent(node: Node) -> None:
    exponent, sign = node.args[1], 1.0
    while exponent.what == "negative":
        exponent, sign = exponent.args[0], -sign
    value = sign * exponent.value if exponent.what == "number" else math.nan
    if not 0 < abs(value) <= MAX_EXPONENT:
        got = f"{value:g}" if exponent.what == "number" else "an expression"
        raise ModelError(
            f"position {node.at}: the exponent is {got}, expected a number from -{MAX_EXPONENT:g} to "
            f"{MAX_EXPONENT:g}, not 0"
        )


def _samples(node: Node) -> int:
    least = OPERATIONS[node.what].least if node.what in OPERATIONS else 1
    return max([least, *map(_samples, node.args)])
