# SPDX-License-Identifier: Apache-2.0
"""Find the files that a rotation moved away before anybody read them: behind the one that was read.

By what is in them: the same header, and rows that begin behind the last one that was read and before the present file.
A name alone proves nothing: beside press.csv there may be press_2.csv of another machine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from fedge_models.errors import ConfigError, DataError
from fedge_models.system import times

from .cells import Header, Times, delimiter_of, parse
from .form import TableForm
from .opened import Opened, open_file

LOOKED_AT = 100  # files of the folder, the newest first
LOOKS = 5  # while a rotation renames files
ROWS = 20  # of which one has to have a time
_DIGITS = re.compile(r"\d+")


class Candidate(NamedTuple):
    """A file that may be next: when it begins (its first row, else its last change), where it is."""

    time_ns: int
    path: Path


class Rotation:
    """The files into which one file was rotated. `begins`: the time of the first row of a file of the same table."""

    def __init__(self, path: Path, timed: bool, begins: Callable[[Path], int | None]) -> None:
        self._path, self._timed, self._begins = path, timed, begins
        self._passed: set[int] = set()  # inodes of the files that were read to the end, until the present one is
        self._last_ns: int | None = None  # time of the last row in them

    def end(self) -> None:
        """Note that the present file was reached."""
        self._passed.clear()

    def next(self, read: Opened, last_ns: int | None) -> tuple[Opened | None, str]:
        """(the file that was rotated away behind the one that was read to its end, and before the present one; words
        about rows that are missing). last_ns: the time of the last row that was read."""
        self._last_ns = last_ns or self._last_ns
        self._passed.add(read.inode())
        for _ in range(LOOKS):
            before, (chosen, lost) = _names(self._path), self._look(read)
            if _names(self._path) == before:
                return chosen, lost
            if chosen is not None:  # a rotation goes on: files may have been missed under their old names
                chosen.close()
        return self._look(read)

    def _look(self, read: Opened) -> tuple[Opened | None, str]:
        changed_ns = read.changed_ns()
        name = next((p for p in _beside(self._path) if _inode(p) == read.inode()), None)
        there = siblings(self._path, name)
        found = [c for p in there if _inode(p) not in self._passed and (c := self._candidate(p, changed_ns))]
        until_ns = self._begins(self._path)
        chosen = next_of(found, self._last_ns if self._timed else changed_ns, until_ns if self._timed else None)
        why = missing(name, chosen, self._path, there)
        lost = lost_between(self._last_ns, until_ns if chosen is None else self._begins(chosen), why) if why else ""
        with suppress(OSError):
            return (open_file(chosen) if chosen is not None else None), lost
        return None, lost

    def between(self, last_ns: int, first_ns: int) -> Opened | None:
        """The file that begins first behind one row and before another one; None: there is none."""
        found = [Candidate(at, p) for p in siblings(self._path, None) if (at := self._begins(p)) is not None]
        chosen = next_of((c for c in found if last_ns < c.time_ns < first_ns), None, None)
        with suppress(OSError):
            return open_file(chosen) if chosen is not None else None
        return None

    def _candidate(self, path: Path, changed_ns: int) -> Candidate | None:
        """A file that may be next; None: it is none of these, or cannot be read."""
        with suppress(OSError):
            own_ns = path.stat().st_mtime_ns
            at = self._begins(path) if self._timed else own_ns
            if at is not None and (self._last_ns is not None or own_ns >= changed_ns):
                return Candidate(at, path)
        return None


def lost_between(last_ns: int | None, first_ns: int | None, why: str) -> str:
    """Words about rows that nobody has seen."""
    since = "the last one that was read" if last_ns is None else times.shown(last_ns)
    until = "the first one of the file" if first_ns is None else times.shown(first_ns)
    return f"rows between {since} and {until} were never seen, if there were any: {why}"


def _beside(path: Path) -> list[Path]:
    with suppress(OSError):
        return [p for p in path.parent.iterdir() if p.name.startswith(path.stem)]
    return []


def _inode(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_ino
    return 0


def _names(path: Path) -> set[tuple[str, int]]:
    return {(p.name, _inode(p)) for p in _beside(path)}


def siblings(path: Path, read: Path | None) -> list[Path]:
    """The files whose names differ from `path` as a rotation makes them differ; read: as the last one is called now."""
    fits = _like(read.name if read is not None else "", path)
    with suppress(OSError):
        there = [p for p in _beside(path) if p not in (path, read) and fits.fullmatch(p.name)]
        plain = {p.name for p in there}
        there = [p for p in there if p.suffix != ".gz" or p.stem not in plain]
        return sorted(there, key=lambda p: -p.stat().st_mtime_ns)[:LOOKED_AT]
    return []


def _like(name: str, path: Path) -> re.Pattern[str]:
    """The names of other files of the same rotation: other numbers in the places of the known one's."""
    name = name.removesuffix(".gz")
    if name and _DIGITS.search(name.removeprefix(path.name)):
        parts = re.split(r"(\d+)", name)
        made = "".join(_number(p) if i % 2 else re.escape(p) for i, p in enumerate(parts))
        return re.compile(f"{made}(\\.gz)?")
    stem, suffix = re.escape(path.stem), re.escape(path.suffix)
    behind = r"[\d.\-_T:]*(\.gz)?"
    return re.compile(rf"{stem}{suffix}[.\-_]?\d{behind}|{stem}[.\-_]?\d{{6}}[\d.\-_T:]*{suffix}(\.gz)?")


def _number(digits: str) -> str:
    return r"\d{1,5}" if len(digits) < 6 else rf"\d{{{len(digits)}}}"


def next_of(found: Iterable[Candidate], behind_ns: int | None, before_ns: int | None) -> Path | None:
    """The file that begins first of those that begin behind a time and not behind another one."""
    fit = [
        c
        for c in found
        if (behind_ns is None or c.time_ns >= behind_ns) and (before_ns is None or c.time_ns <= before_ns)
    ]
    return min(fit, default=Candidate(0, Path())).path if fit else None


def missing(read: Path | None, chosen: Path | None, path: Path, there: Sequence[Path]) -> str:
    """Words about numbers that are missing behind the file that was read; empty: none is."""
    if read is None:
        return ""
    number = _number_of(read, path)
    if chosen is None:
        if number < 2 or any(0 <= _number_of(p, path) < number for p in there):
            return ""
        return f"{read.name} was read to its end, and there is no {path.name}.{number - 1}"
    other = _number_of(chosen, path)
    apart = number >= 0 <= other and abs(number - other) > 1
    return f"between {read.name} and {chosen.name}, files are missing" if apart else ""


def _number_of(name: Path, path: Path) -> int:
    """The number behind the name of a rotated file; -1: it has none."""
    behind = name.name.removesuffix(".gz").removeprefix(path.name + ".")
    return int(behind) if behind.isdecimal() and len(behind) < 5 else -1


def time_of(lines: Iterable[str], header: str | None, form: TableForm) -> int | None:
    """The time of the first of these rows that has one."""
    with suppress(ConfigError, DataError):
        delimiter = delimiter_of(form, header or "")
        clock = Times(Header("", parse(header or "", delimiter)), form)
        for line in list(lines)[:ROWS]:
            with suppress(ValueError, IndexError, DataError):
                return clock.parse(parse(line, delimiter))
    return None
