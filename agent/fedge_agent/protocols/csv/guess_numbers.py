# SPDX-License-Identifier: Apache-2.0
"""Guess the decimal sign and the groups of a table's numbers from all its cells; doubt what they leave open. Pure.

"1.200" is 1.2 or 1200. A cell that only one style reads decides it for the whole table: "0.200", "20.5", "1.234.500",
"1200". Where there is none, the style is chosen by what else is known, and both readings are said with the keys that
take the other one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

from .form import MARKERS, Form
from .numbers import Read, reader

Decimal = Literal[".", ","]
Thousands = Literal["", ".", ",", " ", "'"]
# The simplest first, and of two the one that is more usual.
_STYLES: tuple[tuple[Decimal, Thousands], ...] = (
    (".", ""), (",", ""), (",", "."), (".", ","), (",", " "), (".", " "), (".", "'"), (",", "'"),
)  # fmt: skip
_NUMBERLIKE = re.compile(r"[-+]?[\d.,'’% \u00a0\u202f]*\d[\d.,'’% \u00a0\u202f]*(?:[eE][-+]?\d+)?")
_TO_NINE = str.maketrans("12345678", "99999999")
_HUNDREDS = re.compile(r"[+-]?[1-9]\d\d")  # what a counter is written as before it needs a group
_GROUP = re.compile(r"[+-]?[1-9]\d{0,2}[.,]\d{3}")


class Signs(NamedTuple):
    """The keys of the numbers, and what is only a guess."""

    keys: dict[str, Any]
    doubts: list[str]


class _Style(NamedTuple):
    decimal: Decimal
    thousands: Thousands
    read: Read

    def says(self, with_thousands: bool) -> str:
        """The keys as TOML."""
        groups = f', thousands = "{self.thousands}"' if self.thousands or with_thousands else ""
        return f'decimal = "{self.decimal}"{groups}'


def signs(names: Sequence[str], columns: Sequence[Sequence[str]], delimiter: str, dotted_days: bool) -> Signs:
    """The signs of the numbers of some columns. delimiter: of the file; dotted_days: its dates are like 24.11.2026."""
    shapes = [_shapes(column) for column in columns]
    known = [_Style(d, t, reader(Form(decimal=d, thousands=t))) for d, t in _STYLES]
    best = _most(known, sum((Counter(s) for s in map(_counts, shapes)), Counter[str]()))
    example = {shape: cell for column in shapes for shape, (_, cell) in column.items()}
    chosen = _likeliest(best, shapes, delimiter, dotted_days)
    doubts = _other_readings(chosen, best, example, delimiter, shapes)
    doubts += _two_styles(chosen, known, names, shapes)
    if not doubts and chosen.thousands in (" ", "'") and not _shows_decimal(chosen, example):
        doubts = [f'no number shows its decimal sign: decimal = "{chosen.decimal}" is a guess']
    return Signs({"decimal": chosen.decimal, "thousands": chosen.thousands}, doubts)


def _shapes(column: Iterable[str]) -> dict[str, tuple[int, str]]:
    """The forms of a column's numbers: all digits but 0 as 9, with how often it has each and the first cell."""
    made: dict[str, tuple[int, str]] = {}
    for cell in column:
        if _NUMBERLIKE.fullmatch(cell) and cell.casefold() not in MARKERS:
            shape = cell.translate(_TO_NINE)
            count, first = made.get(shape, (0, cell))
            made[shape] = count + 1, first
    return made


def _counts(shapes: dict[str, tuple[int, str]]) -> dict[str, int]:
    return {shape: count for shape, (count, _) in shapes.items()}


def _most(known: list[_Style], shapes: Counter[str]) -> list[_Style]:
    """The styles that read most cells, the simplest first."""
    scores = [sum(count for shape, count in shapes.items() if style.read(shape) is not None) for style in known]
    return [style for style, score in zip(known, scores, strict=True) if score == max(scores)]


def _likeliest(
    best: list[_Style], shapes: list[dict[str, tuple[int, str]]], delimiter: str, dotted_days: bool
) -> _Style:
    """The style of several that read all the same cells."""
    ambiguous = [s for s in shapes if any(map(_GROUP.fullmatch, s))]
    sign = next((_sign(shape) for column in ambiguous for shape in column if _sign(shape)), "")
    # A decimal comma needs another delimiter than a comma; only a workbook has none.
    comma = delimiter != "," and (delimiter != "" or dotted_days)
    grouped = (sign == "," and not comma) or (any(map(_counts_up, ambiguous)) and (sign == "," or delimiter != ","))
    return min(best, key=lambda style: bool(sign) and (style.thousands == sign) != grouped)


def _sign(shape: str) -> str:
    """The sign of a number that is either a fraction or groups."""
    return next((c for c in shape if c in ".,"), "") if _GROUP.fullmatch(shape) else ""


def _counts_up(shapes: dict[str, tuple[int, str]]) -> bool:
    """Whether a column has numbers such as 980 beside 1.012, and no others."""
    return any(map(_HUNDREDS.fullmatch, shapes)) and all(
        _GROUP.fullmatch(s) or re.fullmatch(r"[+-]?\d{1,3}", s) for s in shapes
    )


def _other_readings(
    chosen: _Style,
    best: list[_Style],
    example: dict[str, str],
    delimiter: str,
    shapes: list[dict[str, tuple[int, str]]],
) -> list[str]:
    """Doubt about cells that another style reads, too, and as another number."""
    for other in best:
        for cell in example.values():
            one, two = chosen.read(cell), other.read(cell)
            if one != two and one is not None and two is not None and not _decided(chosen, cell, delimiter, shapes):
                keys = other.says(bool(chosen.thousands))
                return [f"{cell!r} is read as {one:.10g}; if it is {two:.10g}, say {keys}"]
    return []


def _decided(chosen: _Style, cell: str, delimiter: str, shapes: list[dict[str, tuple[int, str]]]) -> bool:
    """Whether a point can only be the decimal sign: where commas part the cells, nobody writes decimal commas."""
    plain = (chosen.decimal, chosen.thousands) == (".", "") and delimiter == "," and "," not in cell
    return plain and not any(_counts_up(s) for s in shapes)


def _two_styles(
    chosen: _Style, known: list[_Style], names: Sequence[str], shapes: list[dict[str, tuple[int, str]]]
) -> list[str]:
    """Doubt about columns that another style reads."""
    doubts = []
    for name, column in zip(names, shapes, strict=True):
        lost = [cell for shape, (_, cell) in column.items() if chosen.read(shape) is None]
        other = next((s for s in known if lost and all(s.read(cell) is not None for cell in lost)), None)
        if other is not None:
            doubts.append(
                f"column {name!r}: {lost[0]!r} is no number with {chosen.says(False)}, as most others are written; "
                f"a second source with {other.says(False)} reads it"
            )
    return doubts


def _shows_decimal(chosen: _Style, example: dict[str, str]) -> bool:
    return any(chosen.decimal in shape for shape in example)
