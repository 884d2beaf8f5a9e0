# SPDX-License-Identifier: Apache-2.0
"""Cut the text of a formula into numbers, names and signs, each with its position."""

from __future__ import annotations

import math
import re
from typing import Literal, NamedTuple

from ...errors import ModelError

MAX_TEXT = 1000  # characters of a formula
SHOWN = 40  # characters of a name in a message

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?(?![\w.]))
      | (?P<name>[^\W\d]\w*)
      | (?P<quoted>`[^`]+` | "[^"]+" | '[^']+')
      | (?P<sign>\*\*|<=|>=|==|!=|[-+*/<>(),])
      | (?P<end>\Z)
    )""",
    re.X,
)

Kind = Literal["number", "name", "quoted", "sign", "end"]


class Token(NamedTuple):
    """One word of a formula; at: its position, from 1."""

    kind: Kind
    text: str
    at: int

    @property
    def shown(self) -> str:
        """The token as a message names it."""
        return "the end" if self.kind == "end" else repr(_short(self.text))


def tokens(text: str) -> list[Token]:
    """Return the tokens of a formula, the last of kind "end". Raises ModelError naming the position."""
    if len(text) > MAX_TEXT:
        raise ModelError(f"has {len(text):,} characters, expected at most {MAX_TEXT:,}; derive a part of it by itself")
    found: list[Token] = []
    start = 0
    while not found or found[-1].kind != "end":
        match = _TOKEN.match(text, start)
        if match is None:
            raise _strange(text, start)
        kind: Kind = match.lastgroup  # type: ignore[assignment]  # one of the groups of the pattern
        written = match[kind]
        token = Token(kind, written[1:-1] if kind == "quoted" else written, match.start(kind) + 1)
        if kind == "number" and not math.isfinite(float(written)):
            raise ModelError(f"position {token.at}: {_short(written)} is too large for a number")
        found.append(token)
        start = match.end()
    return found


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _strange(text: str, start: int) -> ModelError:
    """The error for what is no token."""
    at = start + len(text[start:]) - len(text[start:].lstrip())
    sign = text[at]
    meant = {"^": "; a power is **", "=": "; equal is ==", "&": "; multiply two comparisons instead",
             "|": "; take the max of two comparisons instead"}  # fmt: skip
    what = "a quote without its end" if sign in "`'\"" else f"{text[at : at + 10]!r}"
    return ModelError(
        f"position {at + 1}: {what} is no number, name or sign; a channel's name with other signs than letters, digits "
        f"and _ stands in `backticks`{meant.get(sign, '')}"
    )
