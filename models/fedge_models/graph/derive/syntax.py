# SPDX-License-Identifier: Apache-2.0
"""Read a formula: numbers, channels, + - * / **, comparisons and the functions of `functions`. Nothing else.

The grammar, from weak to strong (the signs bind as in Python):

    formula    = sum [("<" | "<=" | ">" | ">=" | "==" | "!=") sum]
    sum        = product {("+" | "-") product}
    product    = signed {("*" | "/") signed}
    signed     = ("-" | "+") signed | power
    power      = atom ["**" signed]
    atom       = number | channel | function "(" formula {"," formula} ")" | "(" formula ")"

A card comes from outside: text, depth and number of nodes are bounded, and whatever is wrong is a ModelError with the
position, what stands there and what was expected.
"""

from __future__ import annotations

from typing import NamedTuple

from ...errors import ModelError
from ...system.choices import hint
from .functions import ARGUMENTS
from .tokens import Token, tokens

MAX_NESTED = 32  # brackets and signs within each other
MAX_DEPTH = 100  # of the tree: a sum has at most so many terms

COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")


class Node(NamedTuple):
    """A number, a channel (`name`), or an operation on `args`; at: position in the text."""

    what: str  # "number", "channel", or a key of `functions.OPERATIONS`
    at: int
    args: tuple[Node, ...] = ()
    name: str = ""
    value: float = 0.0
    depth: int = 1


def parse(text: str) -> Node:
    """Read a formula. Raises ModelError."""
    reader = _Reader(tokens(text))
    node = reader.formula()
    reader.end()
    return node


def channels(node: Node) -> dict[str, int]:
    """The channels that a formula reads, with their first positions."""
    found: dict[str, int] = {}
    waiting = [node]
    while waiting:
        one = waiting.pop()
        if one.what == "channel":
            found[one.name] = min(one.at, found.get(one.name, one.at))
        waiting += one.args
    return dict(sorted(found.items(), key=lambda item: item[1]))


class _Reader:
    """Recursive descent; `_nested` bounds it."""

    def __init__(self, given: list[Token]) -> None:
        self._given, self._next, self._nested = given, 0, 0

    @property
    def _token(self) -> Token:
        return self._given[self._next]

    def _take(self, *signs: str) -> Token | None:
        """Take the next token if it is one of these signs."""
        token = self._token
        if token.kind != "sign" or token.text not in signs:
            return None
        self._next += 1
        return token

    def _within(self, token: Token) -> None:
        self._nested += 1
        if self._nested > MAX_NESTED:
            raise ModelError(f"position {token.at}: more than {MAX_NESTED} brackets or signs within each other")

    def formula(self) -> Node:
        left = self._sum()
        sign = self._take(*COMPARISONS)
        if sign is None:
            return left
        made = _made(sign.text, sign.at, left, self._sum())
        if again := self._take(*COMPARISONS):
            raise ModelError(
                f"position {again.at}: a second comparison in a row; multiply two of them: (a < b) * (b < c)"
            )
        return made

    def _sum(self) -> Node:
        node = self._product()
        while sign := self._take("+", "-"):
            node = _made(sign.text, sign.at, node, self._product())
        return node

    def _product(self) -> Node:
        node = self._signed()
        while sign := self._take("*", "/"):
            node = _made(sign.text, sign.at, node, self._signed())
        return node

    def _signed(self) -> Node:
        sign = self._take("-", "+")
        if sign is None:
            return self._power()
        self._within(sign)
        node = self._signed()
        self._nested -= 1
        return node if sign.text == "+" else _made("negative", sign.at, node)

    def _power(self) -> Node:
        node = self._atom()
        sign = self._take("**")
        if sign is None:
            return node
        self._within(sign)
        exponent = self._signed()
        self._nested -= 1
        return _made("**", sign.at, node, exponent)

    def _atom(self) -> Node:
        token = self._token
        self._next += token.kind != "end"
        if token.kind == "number":
            return Node("number", token.at, value=float(token.text))
        if token.kind == "name" and self._take("("):
            return self._call(token)
        if token.kind in ("name", "quoted"):
            return Node("channel", token.at, name=token.text)
        if token.text == "(":
            self._within(token)
            node = self.formula()
            self._close(token)
            return node
        raise ModelError(f'position {token.at}: expected a number, a channel, a function or "(", got {token.shown}')

    def _call(self, token: Token) -> Node:
        if token.text not in ARGUMENTS:
            raise ModelError(f"position {token.at}: there is no function {token.shown}; {hint(token.text, ARGUMENTS)}")
        self._within(token)
        args = [self.formula()]
        while self._take(","):
            args.append(self.formula())
        self._close(token)
        least, most = ARGUMENTS[token.text]
        if not least <= len(args) <= most:
            expected = f"{least}" if least == most else f"{least} to {most}"
            raise ModelError(f"position {token.at}: {token.text} takes {expected} arguments, got {len(args)}")
        return _called(token, args)

    def _close(self, opened: Token) -> None:
        token = self._token
        if self._take(")") is None:
            raise ModelError(
                f'position {token.at}: expected an operator, "," or the ")" of position {opened.at}, got {token.shown}'
            )
        self._nested -= 1

    def end(self) -> None:
        """Expect the end of the text."""
        token = self._token
        if token.kind != "end":
            raise ModelError(f"position {token.at}: expected an operator or the end, got {token.shown}{_meant(token)}")


def _meant(token: Token) -> str:
    """What to write instead of a word that other languages have."""
    words = {"and": "multiply two comparisons: (a > 1) * (b > 1)", "or": "take the max of two comparisons"}
    words["if"] = words["else"] = "write where(condition, then, otherwise)"
    return f"; {words[token.text]}" if token.text in words else ""


def _called(token: Token, args: list[Node]) -> Node:
    """A function's operations: `min` of one argument is over the window, of several it is the least of them."""
    if token.text in ("min", "max"):
        if len(args) == 1:
            return _made(f"window {token.text}", token.at, *args)
        node = args[0]
        for other in args[1:]:
            node = _made(token.text, token.at, node, other)
        return node
    if token.text == "clip":
        value, low, high = args
        if low.what == high.what == "number" and not low.value < high.value:
            raise ModelError(f"position {token.at}: clip from {low.value:g} to {high.value:g}, expected low < high")
        return _made("min", token.at, _made("max", token.at, value, low), high)
    return _made(token.text, token.at, *args)


def _made(what: str, at: int, *args: Node) -> Node:
    depth = 1 + max(a.depth for a in args)
    if depth > MAX_DEPTH:
        raise ModelError(f"position {at}: more than {MAX_DEPTH} operations on each other; derive a part by itself")
    return Node(what, at, args, depth=depth)
