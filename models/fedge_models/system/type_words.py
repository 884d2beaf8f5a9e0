# SPDX-License-Identifier: Apache-2.0
"""What a value of a configuration should have been, in words: msgspec's messages name types of its own. Pure."""

from __future__ import annotations

import re
from typing import Any, Literal, get_args, get_origin

SHOWN = 60  # characters of a wrong value
NAMES = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
    "null": "nothing",
}
_EXPECTED = re.compile(
    r"Expected `([\w |]+)`(?: of length (?:(>=|<=) )?(\d+)| (>=|<=|>|<) (\S+?)| matching regex (.+))?(?:, got .+)?"
)
_LIMITS = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than", None: "exactly"}


def expected(message: str, type_: Any, value: object) -> str | None:
    """What msgspec says of a value, in words; None for a message of another kind."""
    if message.startswith("Invalid enum value"):
        choices = [part for t in (type_, *get_args(type_)) if get_origin(t) is Literal for part in get_args(t)]
        others = ["a number"] if float in get_args(type_) else []
        return f"expected {_or([*others, *(repr(c) for c in choices)])}, got {_quoted(value)}" if choices else None
    if (found := _EXPECTED.fullmatch(message)) is None:
        return None
    kinds, sized, size, bound, limit, pattern = found.groups()
    words = _or([NAMES.get(kind, kind) for kind in kinds.split(" | ")])
    if size is not None:
        unit = "characters" if kinds == "str" else "entries"
        words += f" with {_LIMITS[sized]} {size} {unit}"
    if bound is not None:
        words += f", {_LIMITS[bound]} {limit.removesuffix('.0')}"
    if pattern is not None:
        words += f" of the form {pattern}"
    return f"expected {words}, got {_quoted(value)}"


def _or(words: list[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _quoted(value: object) -> str:
    """A value as it is written in TOML, more or less, and not longer than a line."""
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
