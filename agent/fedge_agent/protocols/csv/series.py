# SPDX-License-Identifier: Apache-2.0
"""Files of which a new one begins every day or batch: which come, in which order, and the tail through all of them.

A file is left when a later one exists and it was read to its end. The position names the file, so that a restart goes
on in it, or in the next one when it was removed. A file that was compressed (.gz) is the same file.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from fedge_models.system import files

from .faults import Faults
from .form import TableForm, is_workbook
from .listing import Listing, order, unpacked
from .tail import Position, Tail, load


class Series:
    """The files of a pattern, followed one after the other. `current`: the tail of the file that is read."""

    def __init__(self, pattern: Path, position: Path, from_end: bool, form: TableForm, faults: Faults) -> None:
        self._pattern, self._position, self._form = pattern, position, form
        self._faults, self._saved = faults, b""
        self._listing, self._idle = Listing(pattern), True  # whether to look for new files
        self._known: set[Path] | None = None  # those at the last look, by their names before compression
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
        if self._idle and self._listing.look():
            self._watch_passed()
        self._idle = True
        lines = self._next()
        self._idle = not lines
        return lines

    def _next(self) -> list[str]:
        while True:
            if self.current is None and not self._choose():
                return []
            assert self.current is not None and self.path is not None
            later = self._listing.after(self.path)
            here = self._listing.find(self.path) == self.path
            lines = self._read(self.current, here, complete=later is not None or self.path.suffix == ".gz")
            if lines or later is None or self.current.header_changed is not None:
                self._watch_left()
                return lines
            self._open(later)

    def pass_over(self) -> bool:
        """Leave a file that cannot be read for the next one; False: there is none yet."""
        self._listing.look()
        later = self._listing.after(self.path) if self.path is not None else None
        if later is not None:
            self._open(later)
        return later is not None

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
            files.write_with_folder(self._position, now)
            self._saved = now

    def close(self) -> None:
        """Close the file."""
        if self.current is not None:
            self.current.close()

    def _choose(self) -> bool:
        """Open the file of the stored position, or the first or the newest one."""
        paths = self._listing.paths
        if not paths:
            return False
        at, self._at = self._at, None
        if at is None:
            path = paths[-1] if self._from_end else paths[0]
            self._open(path, Position(), self._from_end)
            return True
        self.path = self._pattern.parent / at.name
        there = self._listing.find(self.path)
        if there is not None:
            if there != self.path:  # it was compressed since then: its text is the same
                at.inode = there.stat().st_ino
            self._open(there, at)
            return True
        later = self._listing.after(self.path)
        if later is not None:
            self._open(later)
        else:  # it was removed and nothing came yet
            self._at, self.path = at, None
        return later is not None

    def _open(self, path: Path, at: Position | None = None, from_end: bool = False) -> None:
        if self.current is not None:
            self.current.close()
            self._left = None
            if self.path is not None:
                with suppress(OSError):
                    self._left = self.path, self.path.stat().st_size
        self.path = path
        self.current = Tail(path, self._position, from_end, self._form, self._faults, at or Position())

    def _watch_passed(self) -> None:
        """Count files that came newly and are not read: earlier ones, and later ones that cannot be followed."""
        names = {unpacked(p): p for p in self._listing.there}
        if self._known is not None and self._known != set(names) and self.path is not None:
            key = order([self.path.name, *(p.name for p in names)])
            for name in set(names) - self._known - {unpacked(self.path)}:
                if is_workbook(name):
                    if key(name) > key(self.path):
                        self._faults.note("workbooks that came and cannot be followed", name.name)
                elif key(name) < key(self.path):
                    self._faults.note("files whose names come before the one that is read", name.name)
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
