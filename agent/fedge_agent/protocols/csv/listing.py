# SPDX-License-Identifier: Apache-2.0
"""The files that a pattern of names finds, in the order of their names; thousands are sorted only when they change."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from fnmatch import translate
from pathlib import Path

from .form import is_workbook
from .strptime import month_of

_PATTERN = re.compile(r"[*?[]")
_NAMED = re.compile(r"(?<!\d)(\d{1,2})([ ._-]?)([^\W\d_]{3,9})\2(\d{4})(?!\d)")
_MONTH_FIRST = re.compile(r"(?<![^\W\d_])([^\W\d_]{3,9})([ ._-]?)(\d{1,2})\2(\d{4})(?!\d)")
_YEAR_FIRST = re.compile(r"(?<!\d)(\d{4})([ ._-]?)([^\W\d_]{3,9})\2(\d{1,2})(?!\d)")
_DAY_FIRST = re.compile(r"(?<!\d)(\d{1,2})([._-])(\d{1,2})\2(\d{4})(?!\d)")


def is_pattern(path: Path) -> bool:
    """Whether the last part of a path is a pattern of names."""
    return _PATTERN.search(path.name) is not None


def found(pattern: Path) -> list[Path]:
    """The files that a pattern finds, in the order of their names: numbers count as numbers, 24.11.2026 as 2026-11-24.

    Not in the order of their last change: to copy or touch an old file would have it read again.
    """
    paths = [pattern.parent / name for name in _names(pattern)]
    return sorted(paths, key=order([p.name for p in paths]))


def readable(paths: list[Path]) -> list[Path]:
    """The files that can be followed: no workbooks, and of a file and its compressed copy the file."""
    plain = {p for p in paths if p.suffix != ".gz"}
    return [p for p in paths if not is_workbook(p) and (p in plain or p.with_suffix("") not in plain)]


def unpacked(path: Path) -> Path:
    """The name of a file before it was compressed."""
    return path.with_suffix("") if path.suffix == ".gz" else path


def order(names: Iterable[str]) -> Callable[[Path], list[tuple[int, int, str]]]:
    """The key of paths; the names together tell whether days or months come first."""
    month_first = any(int(d[3]) > 12 for name in names for d in _DAY_FIRST.finditer(name))
    return lambda path: name_key(unpacked(path).name, month_first)


def name_key(name: str, month_first: bool = False) -> list[tuple[int, int, str]]:
    """A key that sorts names as people do."""
    iso = _DAY_FIRST.sub(r"\4\2\1\2\3" if month_first else r"\4\2\3\2\1", _numbered(name))
    parts = re.findall(r"\d+|\D+", iso)
    return [(1, int(part), part) if part.isdigit() and part.isascii() else (0, 0, part) for part in parts]


def _numbered(name: str) -> str:
    """The name with dates such as 31-Oct-2026, Oct_31_2026 and 2026Oct31 as 2026-10-31."""
    for pattern, year, month, day in ((_NAMED, 4, 3, 1), (_MONTH_FIRST, 4, 1, 3), (_YEAR_FIRST, 1, 3, 4)):
        found = pattern.search(name)
        if found is not None and (number := month_of(found[month])):
            date = f"{found[year]}-{number:02}-{int(found[day]):02}"
            return name[: found.start()] + date + name[found.end() :]
    return name


class Listing:
    """The files as they were at the last look: `there` all of them, `paths` those that can be followed."""

    def __init__(self, pattern: Path) -> None:
        self._pattern, self._seen = pattern, set[str]()
        self.there: list[Path] = []
        self.paths: list[Path] = []
        self._places: dict[Path, int] = {}  # name before compression -> its place in `paths`

    def look(self) -> bool:
        """List the folder; whether there are others than at the last look."""
        names = _names(self._pattern)
        if names == self._seen:
            return False
        self._seen = names
        paths = [self._pattern.parent / name for name in names]
        self.there = sorted(paths, key=order(names))
        self.paths = readable(self.there)
        self._places = {unpacked(p): i for i, p in enumerate(self.paths)}
        return True

    def find(self, path: Path) -> Path | None:
        """The file of this name, compressed or not."""
        at = self._places.get(unpacked(path))
        return None if at is None else self.paths[at]

    def after(self, path: Path) -> Path | None:
        """The file that comes next, also when this one is gone."""
        at = self._places.get(unpacked(path))
        if at is not None:
            return self.paths[at + 1] if at + 1 < len(self.paths) else None
        key = order([path.name, *(p.name for p in self.paths)])
        return next((p for p in self.paths if key(p) > key(path)), None)


def _names(pattern: Path) -> set[str]:
    matches = re.compile(translate(pattern.name)).match
    try:
        with os.scandir(pattern.parent) as entries:
            return {entry.name for entry in entries if matches(entry.name) and entry.is_file()}
    except OSError:
        return set()
