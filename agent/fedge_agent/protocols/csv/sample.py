# SPDX-License-Identifier: Apache-2.0
"""The beginning of a file of any form as lines and cells: what a guess is made from."""

from __future__ import annotations

import gzip
import re
import zlib
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from fedge_models.errors import ConfigError, DataError
from fedge_models.system.plain_file import require_plain

from . import foreign, guess_encoding, records
from .cells import one_line, parse
from .encoding import find
from .form import MARKERS, TableForm, is_workbook
from .guess_times import textual
from .numbers import SPACES

BYTES = 1 << 18
ROWS = 1000
DELIMITERS = (";", "\t", ",", "|", " ")
COMMENTS = ("#", "//", "%", "!", "*", "'")
_DIGITS = set("0123456789.,+-eE'’%") | set(SPACES)


_SEP = re.compile(r"sep=.?", re.I)  # Excel's line about the delimiter


class Sample(NamedTuple):
    """Lines with their numbers, split; comments and empty lines are left out."""

    encoding: str  # "": found by the reader itself
    delimiter: str  # of a workbook ""
    comment: str
    lines: list[tuple[int, list[str]]]
    names: list[str]  # of a header that is a comment itself
    workbook: bool = False
    broken: int = 0  # lines that are no CSV


def read(path: Path) -> Sample:
    """The first lines. Raises ConfigError when the file cannot be read."""
    if is_workbook(path):
        from .xlsx import rows

        first = [(number, cells) for number, cells in islice(rows(path, TableForm()), ROWS) if any(cells)]
        width = max((len(cells) for _, cells in first), default=0)
        return Sample("", "", "", [(number, cells + [""] * (width - len(cells))) for number, cells in first], [], True)
    encoding, text = _text(path)
    delimiter = _delimiter([line for line in text if line.strip()])
    lines = _numbered(text, delimiter)
    comment = _comment(text)
    names = _commented_header(comment, text, delimiter) if comment else []
    uncommented = [(n, line) for n, line in lines if not (comment and line.startswith(comment))]
    cells = [(n, [line] if _SEP.fullmatch(line) else _cells(line, delimiter)) for n, line in uncommented]
    broken = sum(1 for (_, line), (_, c) in zip(uncommented, cells, strict=True) if line.strip() and not c)
    return Sample(encoding, delimiter, comment, [(n, c) for n, c in cells if any(c)], names, broken=broken)


def _comment(text: list[str]) -> str:
    """The sign that some lines begin with; where most rows do, it is part of their cells, as Excel's apostrophe."""
    lines = [line for line in text if line.strip()]
    for sign in COMMENTS:
        begun = sum(line.startswith(sign) for line in lines)
        if begun and (sign != "'" or 2 * begun <= len(lines)):
            return sign
    return ""


def _numbered(text: list[str], delimiter: str) -> list[tuple[int, str]]:
    """The lines, those of one row together, each with the number of its first line."""
    if not delimiter:
        return list(enumerate(text, 1))
    widths = Counter(len(row) for line in records.joined(text, delimiter) if len(row := _cells(line, delimiter)) > 1)
    width = max(widths, key=lambda w: (widths[w], w), default=1)
    whole, open_lines = records.mended(text, width, delimiter)
    made, number = [], 1
    for line in whole + open_lines:
        made.append((number, line))
        number += 1 + line.count("\n")
    return made


def numberlike(cell: str) -> bool:
    """Whether a cell is a number in some form."""
    return any(c.isdigit() for c in cell) and set(cell) <= _DIGITS


def timelike(cell: str) -> bool:
    """Whether a cell is a time, or a time of day."""
    if not any(c.isdigit() for c in cell):
        return False
    return textual([cell]) is not None or textual([f"2026-01-01 {cell}"]) is not None


def data_like(cell: str) -> bool:
    """Whether a cell is a number or a time, and no name."""
    return numberlike(cell) or timelike(cell)


def _text(path: Path) -> tuple[str, list[str]]:
    """The encoding as a key, and the first whole lines."""
    opened = gzip.open if path.suffix == ".gz" else Path.open
    try:
        require_plain(path)
        with opened(path, "rb") as file:
            data = bytes(file.read(BYTES))
    except (OSError, EOFError, zlib.error) as e:
        why = (e.strerror if isinstance(e, OSError) else None) or e
        raise ConfigError(f"{path}: cannot be read: {why}") from e
    name = _encoding(data)
    try:
        foreign.refuse(data, name)
        encoding = find(name, data)
    except DataError as e:
        raise ConfigError(f"{path}: {e}") from e
    encoding = encoding.ended(data[encoding.mark :]) or encoding
    if len(data) == BYTES:
        data = data[: encoding.mark + encoding.cut(data[encoding.mark :])]
    return name, encoding.lines(data[encoding.mark :])[:ROWS]


def _encoding(data: bytes) -> str:
    """The key `encoding`; "": by its byte order mark, or UTF-8."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or data[:3] == b"\xef\xbb\xbf":
        return ""
    if wide := foreign.is_wide(data):
        return wide
    try:
        data.decode()
    except UnicodeDecodeError as e:
        if e.start < len(data) - 4 or len(data) < BYTES:
            return guess_encoding.of_bytes(data)
    return ""


def _delimiter(lines: list[str]) -> str:
    """The delimiter with which most lines have as many cells, and most cells are numbers, times or names."""
    scores = [(_score(lines, d), -i, d) for i, d in enumerate(DELIMITERS)]
    best = max(scores)
    return best[2] if best[0] > 0 else ""


def _score(lines: list[str], delimiter: str) -> float:
    rows = [_cells(line, delimiter) for line in lines]
    widths = Counter(len(row) for row in rows if len(row) > 1)
    if not widths:
        return 0.0
    width, count = max(widths.items(), key=lambda entry: (entry[1], entry[0]))
    body = [row for row in rows if len(row) == width][-50:]
    cells = [cell for row in body for cell in row]
    known = sum(1.0 if not c or data_like(c) or c.casefold() in MARKERS else 0.5 * (not _mixed(c)) for c in cells)
    return count / len(lines) * (known / len(cells)) ** 2


def _mixed(cell: str) -> bool:
    """Whether another delimiter stands between digits of a cell."""
    return any(sign in cell for sign in (";", "\t", "|")) or cell.count(",") > 1


def _cells(line: str, delimiter: str) -> list[str]:
    try:
        return [one_line(cell) for cell in parse(line, delimiter or ",")] if delimiter else [line.strip()]
    except DataError:
        return []


def _commented_header(comment: str, lines: list[str], delimiter: str) -> list[str]:
    """The names in the last of the first comment lines, if it has as many cells as the row behind it."""
    at = next((i for i, line in enumerate(lines) if line.strip() and not line.startswith(comment)), 0)
    if not at or not delimiter:
        return []
    names, row = _cells(lines[at - 1].removeprefix(comment).strip(), delimiter), _cells(lines[at], delimiter)
    return names if len(names) == len(row) > 1 and any(map(data_like, row)) and not any(map(data_like, names)) else []
