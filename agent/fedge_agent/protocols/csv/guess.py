# SPDX-License-Identifier: Apache-2.0
"""Guess how a file writes its table: header, numbers, times, tags, qualities; and say what is only a guess. Pure but
for reading the file's beginning.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from fedge_models.errors import ConfigError

from . import guess_columns, guess_header, guess_numbers, order, sample
from .cells import Header, Times
from .form import Form
from .numbers import reader
from .sample import Sample

MAX_COLUMNS = 5000
SHOWN = 40  # characters of a name
NOTHING_FOR_A_CHANNEL = "no column has numbers: there is nothing for a channel"
_WITH_UNIT = re.compile(r"[+-]?\d[\d.,]*\s*[^\d\s.,:/-]{1,6}")
_LETTERS = frozenset("äöüÄÖÜßéèêëàâçñóíáúôîïøåæØÅÆÉÈÊÀÇÑ°µμ²³½¼±·×ØΩ§€–’")
_OF_WINCC = re.compile(r"\$RT_[A-Z]+\$")  # rows that WinCC writes about its log: $RT_COUNT$, $RT_OFF$
_DOTTED_DAY = re.compile(r"\d{1,2}\.\d{1,2}\.\d\d")


class Column(NamedTuple):
    """One column, as it is understood."""

    name: str
    kind: str  # "time", "date", "number", "tag", "value", "quality", "text", "empty"
    cells: list[str]


class Understood(NamedTuple):
    """A file's form, its columns, and what is only a guess."""

    form: Form
    columns: list[Column]
    doubts: list[str]
    tags: list[str]  # that can be channels
    elsewhere: int  # lines with another number of cells
    broken: int  # lines that are no CSV
    order: order.Order = order.FORWARD


def understand(path: Path) -> Understood:
    """Guess the form of a file. Raises ConfigError when it cannot be read, or has no table."""
    read = sample.read(path)
    body = guess_header.body(read.lines)
    if not body:
        raise ConfigError(f"{path}: no table was found in its first lines; expected a header and rows of cells")
    if len(body[0][1]) > MAX_COLUMNS:
        raise ConfigError(
            f"{path}: no table was found: its first lines have {len(body[0][1])} cells, at most {MAX_COLUMNS}"
        )
    header = guess_header.find(read, body)
    keys, names = dict(header.keys), header.names
    rows = [row for row in header.rows if not any(map(_OF_WINCC.fullmatch, row))]
    columns = [[cell for row in rows if (cell := row[i])] for i in range(len(names))]
    keys |= _base(read)
    dotted = any(map(_DOTTED_DAY.match, (cell for column in columns for cell in column[:1])))
    signs = guess_numbers.signs(names, columns, "" if read.workbook else keys["delimiter"], dotted)
    keys |= signs.keys
    found = guess_columns.roles(names, rows, reader(Form(**keys)))
    keys |= found.keys
    delimiter = keys.get("delimiter", "")
    if not keys.get("columns") and (read.workbook or delimiter == max(",;\t", key=delimiter.join(names).count)):
        del keys["delimiter"]  # the reader finds it, too
    kinds = found.kinds
    form = Form(**keys)
    made = [Column(n, k, c) for n, k, c in zip(names, kinds, columns, strict=True)]
    tags = guess_columns.tags(form, names, kinds, rows)
    if rows and not tags and "time" not in kinds:
        first = [name[:SHOWN] for name in names[:3]]
        why = "; its cells begin with an apostrophe: export numbers, not text" if _is_marked(rows[0]) else ""
        raise ConfigError(
            f"{path}: no table was found: no column has numbers or times{why}; its first names are {first}"
        )
    rank = _order(form, names, kinds, rows)
    doubts = _doubtful_rows(rows, tags) + header.doubts + found.doubts + _doubtful_order(rank, form, made)
    doubts += _doubtful_letters(form, names) + signs.doubts + _with_units(made)
    last = len([n for n, _ in read.lines if n > body[0][0]]) - len([n for n, _ in body[1:]])
    return Understood(form, made, doubts, tags, last, read.broken, rank)


def _is_marked(row: Sequence[str]) -> bool:
    """Whether a program kept its numbers from being taken for numbers."""
    return any(cell.startswith("'") and any(map(str.isdigit, cell)) for cell in row)


def _order(form: Form, names: Sequence[str], kinds: Sequence[str], rows: Sequence[Sequence[str]]) -> order.Order:
    """The order of the rows that have a time."""
    if not form.time_column or not rows:
        return order.FORWARD
    clock, tag_at = Times(Header("", names), form), kinds.index("tag") if "tag" in kinds else None
    times_ns, of_tags = [], []
    for row in rows:
        with suppress(ValueError):
            times_ns.append(clock.parse(row, row[tag_at] if tag_at is not None else ""))
            of_tags += [row[tag_at]] if tag_at is not None else []
    return order.of_rows(times_ns, of_tags)


def _doubtful_rows(rows: Sequence[Sequence[str]], tags: Sequence[str]) -> list[str]:
    """Words about a table that has nothing to guess from."""
    if not rows:
        return ["it has a header and no rows: how it writes times and numbers is not known; browse it when it has some"]
    return [] if tags else [NOTHING_FOR_A_CHANNEL]


def _doubtful_order(found: order.Order, form: Form, columns: Sequence[Column]) -> list[str]:
    """Words about rows that go back in time."""
    if found.kind == "hour again":
        cells = next((c.cells for c in columns if c.kind == "time"), [])
        at = f" at {cells[found.at]!r}" if found.at < len(cells) else ""
        what = f"column {form.time_column!r} has an hour again{at}: if clocks were set back there, say time_zone"
        return [f"{what}, so that both hours are told apart; in UTC these rows go back in time"]
    words = {
        "newest first": "the newest rows are first",
        "tag by tag": "the table goes tag by tag",
        "unsorted": "rows are not in the order of time",
    }
    text = "so it is sorted and replayed; it cannot be followed (tail)"
    return [f"{words[found.kind]}, {text}"] if found.kind in words else []


def keys_of(form: msgspec.Struct) -> dict[str, Any]:
    """The keys that are not at their defaults."""
    made = {}
    for field in msgspec.structs.fields(form):
        default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        if default is not msgspec.NODEFAULT and (value := getattr(form, field.name)) != default:
            made[field.name] = value
    return made


def _base(read: Sample) -> dict[str, Any]:
    keys: dict[str, Any] = {"encoding": read.encoding, "comment": read.comment}
    return keys | {"delimiter": read.delimiter or ","}


def _doubtful_letters(form: Form, names: Sequence[str]) -> list[str]:
    """Doubt about an encoding that gives letters which names seldom have."""
    strange = [name for name in names if any(c > "\x7f" and c not in _LETTERS for c in name)]
    if not form.encoding or not strange:
        return []
    return [
        f"encoding = {form.encoding!r} is a guess, and gives {strange[0]!r}; try others, e.g. cp1250, cp932, gb18030"
    ]


def _with_units(columns: list[Column]) -> list[str]:
    """Words about numbers that text follows."""
    found = [c for c in columns if c.kind == "text" and c.cells and all(map(_WITH_UNIT.fullmatch, c.cells))]
    return [f"column {c.name!r}: {c.cells[0]!r} has a unit behind its number, and is text to a channel" for c in found]
