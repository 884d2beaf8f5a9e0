# SPDX-License-Identifier: Apache-2.0
"""Rows of an Excel workbook as text, streamed; needs the extra fedge[xlsx].

Numbers are written with the form's decimal sign, times as ISO 8601, so that a cell is read as in any other table.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

from fedge_models.errors import ConfigError
from fedge_models.system.choices import hint

from .form import TableForm

MAX_TEXTS = 64 * 2**20  # bytes of all texts together, which are held in memory


def rows(path: Path, form: TableForm) -> Iterator[tuple[int, list[str]]]:
    """(number, cells) of each row of the sheet. Raises ConfigError."""
    try:
        from openpyxl import load_workbook
        from openpyxl.utils.exceptions import InvalidFileException
    except ImportError as e:
        raise ConfigError(f"{path}: an Excel workbook needs the extra: pip install 'fedge[xlsx]'") from e
    broken = (InvalidFileException, zipfile.BadZipFile, KeyError, ValueError, OSError, SyntaxError)  # of its XML
    try:
        _check_texts(path)
        book = load_workbook(path, read_only=True, data_only=True)
    except broken as e:
        raise ConfigError(f"{path}: cannot be read as an Excel workbook: {e}") from e
    try:
        sheet = book.worksheets[0] if not form.sheet else _sheet(book, path, form.sheet)
        sheet.reset_dimensions()  # some writers state too few
        for number, cells in enumerate(sheet.iter_rows(values_only=True), 1):
            texts = [_text(cell, form.decimal) for cell in cells]
            while texts and not texts[-1]:
                texts.pop()
            yield number, texts
    except broken as e:
        raise ConfigError(f"{path}: cannot be read as an Excel workbook: {e}") from e
    finally:
        book.close()


def _check_texts(path: Path) -> None:
    """Raise ConfigError for a workbook whose texts would not fit into memory."""
    with zipfile.ZipFile(path) as packed:
        size = max((i.file_size for i in packed.infolist() if i.filename.endswith("sharedStrings.xml")), default=0)
    if size > MAX_TEXTS:
        raise ConfigError(f"{path}: has {size} bytes of text, expected at most {MAX_TEXTS}; save the sheet as CSV")


def _sheet(book: Any, path: Path, name: str) -> Any:
    if name not in book.sheetnames:
        raise ConfigError(f"{path}: has no sheet {name!r}; {hint(name, book.sheetnames)}")
    return book[name]


def _text(cell: Any, decimal: str) -> str:
    """A cell as text."""
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return str(int(cell))
    if isinstance(cell, (int, float)):
        return repr(cell).replace(".", decimal)
    if isinstance(cell, datetime):
        return cell.date().isoformat() if cell.time() == time() else cell.isoformat(" ")
    if isinstance(cell, timedelta):  # a time of day beyond 24 hours
        return str(cell.total_seconds() / 86_400).replace(".", decimal)
    return cell.isoformat() if isinstance(cell, (date, time)) else str(cell).strip()
