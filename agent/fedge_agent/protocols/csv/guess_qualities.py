# SPDX-License-Identifier: Apache-2.0
"""Guess which columns are qualities, of which values, and which words are good. Pure.

A quality belongs to the value whose name it has, else to the one beside it; one alone belongs to the whole row. Each
column that looks like a quality and is not used is said.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from .form import GOOD, UNCERTAIN
from .quality import code

_NAME = re.compile(r"qual|calid|kwalit|valid|status|state|estado|stato|état|g(ü|ue)te|(^|[^a-z])q$|_q$|\.q$", re.I)
_MAYBE = re.compile(r"fault|error|fehler|flag|health|alarm|st(ö|oe)rung|(^|[^a-z])ok$", re.I)
_LABEL = re.compile(r"label|verdict|result|ergebnis|urteil|befund|class|klasse|judge", re.I)
_GOOD_TOO = frozenset(
    (
        *("i.o.", "io", "gut", "normal", "in ordnung", "pass", "passed", "bueno", "buena", "bien", "válido", "bon"),
        *("bonne", "valide", "buono", "valido", "bom", "goed", "dobra"),
    )
)
_BAD = frozenset(
    (
        *("bad", "invalid", "false", "0", "2", "-1", "fail", "failed", "error", "fault", "faulty", "err", "stale"),
        *("questionable", "24", "28", "b", "i", "nok", "nio", "n.i.o.", "not ok", "notok", "ko", "fehler", "defect"),
        *("defekt", "störung", "stoerung", "schlecht", "ungültig", "alarm", "disconnected", "offline", "suspect"),
        *("malo", "mala", "inválido", "mauvais", "mauvaise", "invalide", "cattivo", "non valido", "ruim", "slecht"),
    )
)
_WORDS = frozenset((*GOOD, *UNCERTAIN, *_GOOD_TOO, *_BAD))
_BEGINNINGS = ("good", "bad", "uncertain")
_NUMBER = re.compile(r"\d{1,10}|0x[0-9a-f]{1,2}")
_CLASSIC = 64, 192, 256  # of OPC DA: from here on uncertain, and good; the end
_CODE = 1 << 30  # from here on, a decimal number is a status code of OPC UA
_STEM = re.compile(r"\s*[\[(].*$")
SHOWN = 4  # words of a column


class Qualities(NamedTuple):
    """The keys about qualities, the columns that they use, and what is only a guess."""

    keys: dict[str, Any]
    used: list[int]
    doubts: list[str]


class Table(NamedTuple):
    """Names as in the header, names as tags, cells without the empty ones, and kinds of the columns."""

    raw: Sequence[str]
    names: Sequence[str]
    columns: Sequence[Sequence[str]]
    kinds: Sequence[str]


def find(table: Table) -> Qualities:
    """The qualities of a table."""
    free = [i for i, kind in enumerate(table.kinds) if kind in ("text", "number") and table.columns[i]]
    named = [i for i in free if _NAME.search(table.raw[i])]
    marked = [i for i in named if _is_quality(table.columns[i])]
    if marked:  # beside others, all of a column may be uncertain
        marked = [i for i in named if i in marked or _is_classic({"192", *table.columns[i]})]
    values = [i for i in free if table.kinds[i] == "number" and i not in marked]
    if not values:
        return Qualities({}, [], [])
    keys, used, doubts = _owned(table, marked, values)
    left = [i for i in free if i not in used]
    if used:
        good, doubted = _words([c.casefold() for i in used for c in table.columns[i]], [table.raw[i] for i in used])
        keys, doubts = keys | good, doubts + doubted
    doubts += [_unused(table, i) for i in left if _is_suspect(table, i, i in marked)]
    return Qualities(keys, used, doubts)


def _is_quality(cells: Sequence[str]) -> bool:
    found = {cell.casefold() for cell in cells}
    if all(map(_NUMBER.fullmatch, found)):
        return found <= _WORDS or _is_classic(found) or all(c == "0" or code(c) is not None for c in found)
    return all(c in _WORDS or c.startswith(_BEGINNINGS) or code(c) is not None for c in found)


def _is_classic(cells: set[str]) -> bool:
    """Whether they are qualities of OPC DA: 192, 216, 64, 24."""
    if not all(map(_NUMBER.fullmatch, cells)):
        return False
    numbers = [_int(c) for c in cells]
    uncertain, good, end = _CLASSIC
    return any(n >= good for n in numbers) and all(n < uncertain * 2 or good <= n < end for n in numbers)


def _int(cell: str) -> int:
    return int(cell, 16) if cell.startswith("0x") else int(cell)


def _owned(table: Table, marked: Sequence[int], values: Sequence[int]) -> tuple[dict[str, Any], list[int], list[str]]:
    """The keys, the columns that are used, and doubts."""
    if not marked:
        return {}, [], []
    of = _owners(table, marked, values)
    if len(values) == 1 or not of:
        one = of.get(values[0], marked[0])
        return _of_row(table, one, values) if of or len(marked) == 1 or len(values) == 1 else ({}, [], [])
    used = sorted(of.values())
    if pattern := _pattern(table, of, values):
        return {"quality_column": pattern}, used, []
    return {"quality_columns": {table.names[v]: table.names[m] for v, m in of.items()}}, used, []


def _of_row(table: Table, at: int, values: Sequence[int]) -> tuple[dict[str, Any], list[int], list[str]]:
    """One column for the whole row; doubted where it stands among the values."""
    name, doubts = table.names[at], list[str]()
    if at - 1 in values and any(v > at for v in values):
        doubts.append(
            f"column {name!r} is taken for the quality of the whole row; if it is that of {table.names[at - 1]!r} "
            f"alone, say quality_columns = {{ {table.names[at - 1]!r} = {name!r} }}"
        )
    return {"quality_column": name}, [at], doubts


def _owners(table: Table, marked: Sequence[int], values: Sequence[int]) -> dict[int, int]:
    """Value -> its quality, by the name, else by the place."""
    of: dict[int, int] = {}
    for mark in marked:
        fit = [v for v in values if v not in of and _has_name(table.raw[mark].casefold(), table.raw[v].casefold())]
        if fit:
            of[max(fit, key=lambda v: len(table.raw[v]))] = mark
    if of or len(marked) == 1:
        return of
    for step in (-1, 1):
        if all(mark + step in values for mark in marked):
            return {mark + step: mark for mark in marked}
    return {}


def _has_name(mark: str, value: str) -> bool:
    """Whether the name of a quality has that of a value: temp_status, Quality temp, of "temp [°C]"."""
    for name in (value, _STEM.sub("", value)):
        if len(name) >= 3 and name in mark:
            return True
        if name and mark.startswith(name) and not mark[len(name) : len(name) + 1].isalnum():
            return True
    return False


def _pattern(table: Table, of: dict[int, int], values: Sequence[int]) -> str:
    """`quality_column` for all values; empty: there is none."""
    if set(of) != set(values):
        return ""
    if all(m == v + 1 for v, m in of.items()) and len({table.raw[m] for m in of.values()}) == 1:
        return "next"
    made = {table.raw[m].replace(table.raw[v], "{tag}", 1) for v, m in of.items()}
    pattern = next(iter(made))
    fits = len(made) == 1 and all(pattern.replace("{tag}", table.raw[v]) == table.raw[m] for v, m in of.items())
    return pattern if fits and "{tag}" in pattern else ""


def _words(cells: Sequence[str], names: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The keys `good` and `uncertain`, where the defaults lack words that the columns have."""
    found = set(cells)
    if found <= {"0", "1"} and not any("valid" in name.casefold() for name in names):
        return _flags(cells)
    if any(c.isdigit() and int(c) >= _CODE for c in found):
        return {"good": ("0",)}, []
    good = {c for c in found if c.startswith("good") or c in _GOOD_TOO}
    unsure = {c for c in found if c.startswith("uncertain")}
    if all(map(_NUMBER.fullmatch, found)) and _is_classic(found):
        good |= {c for c in found if _int(c) >= _CLASSIC[1]}
        unsure |= {c for c in found if _CLASSIC[0] <= _int(c) < _CLASSIC[1]}
    keys: dict[str, Any] = {}
    if more := sorted(good - set(GOOD)):
        keys["good"] = (*GOOD, *more)
    if more := sorted(unsure - set(UNCERTAIN)):
        keys["uncertain"] = (*UNCERTAIN, *more)
    return keys, []


def _flags(cells: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Of 0 and 1: good is what most rows have."""
    if cells.count("0") > cells.count("1"):
        return {"good": ("0",)}, ['good = ["0"] is a guess: most rows have it; if 1 is good, delete this line']
    return {}, ['quality 1 is taken for good: most rows have it; if 0 is good, say good = ["0"]']


def _is_suspect(table: Table, i: int, marked: bool) -> bool:
    """Whether a column that is not used may be a quality."""
    name, cells = table.raw[i], table.columns[i]
    if marked or (_NAME.search(name) and (table.kinds[i] == "text" or not re.search("state", name, re.I))):
        return True
    flags = {c.casefold() for c in cells} <= _WORDS
    if _MAYBE.search(name) and (flags or _is_quality(cells)):
        return True
    return table.kinds[i] == "text" and not _LABEL.search(name) and _is_quality(cells)


def _unused(table: Table, i: int) -> str:
    seen = ", ".join(map(repr, list(dict.fromkeys(table.columns[i]))[:SHOWN]))
    return (
        f"column {table.names[i]!r} may be a quality ({seen[:60]}), and is not used as one: of which value it is, or "
        "what is good, is not known. Say quality_column or quality_columns, and good"
    )
