# SPDX-License-Identifier: Apache-2.0
"""Files of which a new one begins every day or batch: which come, in which order, and the tail through all of them.

A file is left when a later one exists and it was read to its end. The position names the file, so that a restart goes
on in it, or in the next one when it was removed. A file that was compressed (.gz) is the same file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from fedge_models.system import files

from .faults import Faults
from .form import TableForm, is_workbook
from .tail import Position, Tail, load

_PATTERN = re.compile(r"[*?[]")
_DAY_FIRST = re.compile(r"(?<!\d)(\d{1,2})([._-])(\d{1,2})\2(\d{4})(?!\d)")


def is_pattern(path: Path) -> bool:
    """Whether the last part of a path is a pattern of names."""
    return _PATTERN.search(path.name) is not None


def found(pattern: Path) -> list[Path]:
    """The files that a pattern finds, in the order of their names: numbers count as numbers, 24.11.2026 as 2026-11-24.

    Not in the order of their last change: to copy or touch an old file would have it read again.
    """
    paths = [p for p in pattern.parent.glob(pattern.name) if p.is_file()]
    return sorted(paths, key=_key([p.name for p in paths]))


def _key(names: Iterable[str]) -> Callable[[Path], list[tuple[int, int, str]]]:
    """The key of paths; the names together tell whether days or months come first."""
    month_first = any(int(d[3]) > 12 for name in names for d in _DAY_FIRST.finditer(name))
    return lambda path: name_key(unpacked(path).name, month_first)


def name_key(name: str, month_first: bool = False) -> list[tuple[int, int, str]]:
    """A key that sorts names as people do."""
    iso = _DAY_FIRST.sub(r"\4\2\1\2\3" if month_first else r"\4\2\3\2\1", name)
    parts = re.findall(r"\d+|\D+", iso)
    return [(1, int(part), part) if part.isdigit() and part.isascii() else (0, 0, part) for part in parts]


def readable(paths: list[Path]) -> list[Path]:
    """The files that can be followed: no workbooks, and of a file and its compressed copy the file."""
    plain = {p for p in paths if p.suffix != ".gz"}
    return [p for p in paths if not is_workbook(p) and (p in plain or p.with_suffix("") not in plain)]


def unpacked(path: Path) -> Path:
    """The name of a file before it was compressed."""
    return path.with_suffix("") if path.suffix == ".gz" else path


class Series:
    """The files of a pattern, followed one after the other. `current`: the tail of the file that is read."""

    def __init__(self, pattern: Path, position: Path, from_end: bool, form: TableForm, faults: Faults) -> None:
        self._pattern, self._position, self._form = pattern, position, form
        self._faults, self._saved = faults, b""
        self._known: set[Path] | None = (
            None  # files that were there at the last look, by their names before compression
        )
        at = load(position)
        self._from_end = from_end and not at.name
        self._at: Position | None = at if at.name else None
        self.current: Tail | None = None
        self.path: Path | None = None
        self._left: tuple[Path, int] | None = None  # the last file, and its size when it was left

    def lines(self) -> list[str]:
        """The next lines of the file that is read, or of the next file; [] when there are none yet.

        Raises OSError when a file cannot be read, DataError when it has no header.
        """
        while True:
            there = found(self._pattern)
            paths = readable(there)
            if self.current is None and not self._choose(paths):
                return []
            assert self.current is not None and self.path is not None
            later = self._later(paths)
            self._watch_passed(there)
            complete = bool(later) or self.path.suffix == ".gz"
            lines = self._read(self.current, self.path in paths, complete)
            if lines or not later or self.current.header_changed is not None:
                self._watch_left()
                return lines
            self._open(later[0])

    def pass_over(self) -> bool:
        """Leave a file that cannot be read for the next one; False: there is none yet."""
        later = self._later(readable(found(self._pattern))) if self.path is not None else []
        if later:
            self._open(later[0])
        return bool(later)

    def _later(self, paths: list[Path]) -> list[Path]:
        """The files after the one that is read."""
        assert self.path is not None
        names = [unpacked(p) for p in paths]
        here = unpacked(self.path)
        return paths[names.index(here) + 1 :] if here in names else self._after(paths)

    @staticmethod
    def _read(tail: Tail, here: bool, complete: bool) -> list[str]:
        """The next lines of a file; of one that was removed, what is still open of it."""
        try:
            return tail.lines(complete)
        except FileNotFoundError:
            if here:
                raise
            return []

    def position(self) -> bytes:
        """How far was read, and in which file."""
        assert self.current is not None and self.path is not None
        self.current.at.name = self.path.name
        return self.current.position()

    def save(self) -> None:
        """Store the position if it changed; durable on return. Raises StorageError."""
        if self.current is None or self.path is None or self.current.at.header is None:
            return
        now = self.position()
        if now != self._saved:
            files.write(self._position, now)
            self._saved = now

    def close(self) -> None:
        """Close the file."""
        if self.current is not None:
            self.current.close()

    def _choose(self, paths: list[Path]) -> bool:
        """Open the file of the stored position, or the first or the newest one."""
        if not paths:
            return False
        at, self._at = self._at, None
        if at is None:
            path = paths[-1] if self._from_end else paths[0]
            self._open(path, Position(), self._from_end)
            return True
        self.path = self._pattern.parent / at.name
        there = next((p for p in paths if unpacked(p) == unpacked(self.path)), None)
        if there is not None:
            if there != self.path:  # it was compressed since then: its text is the same
                at.inode = there.stat().st_ino
            self._open(there, at)
            return True
        later = self._after(paths)
        if later:
            self._open(later[0])
        else:  # it was removed and nothing came yet
            self._at, self.path = at, None
        return bool(later)

    def _after(self, paths: list[Path]) -> list[Path]:
        """Files whose names come after the one that is gone."""
        assert self.path is not None
        key = _key([self.path.name, *(p.name for p in paths)])
        return [p for p in paths if key(p) > key(self.path)]

    def _open(self, path: Path, at: Position | None = None, from_end: bool = False) -> None:
        if self.current is not None:
            self.current.close()
            self._left = None
            if self.path is not None:
                with suppress(OSError):
                    self._left = self.path, self.path.stat().st_size
        self.path = path
        self.current = Tail(path, self._position, from_end, self._form, self._faults, at or Position())

    def _watch_passed(self, there: list[Path]) -> None:
        """Count files that came newly and are not read: earlier ones, and later ones that cannot be followed."""
        names = {unpacked(p): p for p in there}
        if self._known is not None and self._known != set(names) and self.path is not None:
            later = set(map(unpacked, self._later(there)))
            for name in set(names) - self._known - {unpacked(self.path)}:
                path = names[name]
                if name not in later and readable([path]):
                    self._faults.note("files whose names come before the one that is read", path.name)
                elif name in later and not readable([path]):
                    self._faults.note("workbooks that came and cannot be followed", path.name)
        self._known = set(names)

    def _watch_left(self) -> None:
        """Count it when the last file grew after the next one had begun: these rows are not read."""
        if self._left is None:
            return
        path, size = self._left
        with suppress(OSError):
            grown = path.stat().st_size
            if grown > size:
                self._faults.note("bytes written to a file after the next one had begun", path.name)
                self._left = path, grown
