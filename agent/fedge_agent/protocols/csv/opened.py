# SPDX-License-Identifier: Apache-2.0
"""Open files, read at any place: plain, or compressed with gzip, whose places are those of its text.

Of a compressed file only the last part is in memory: whoever goes forward in it unpacks it once.
"""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path
from typing import BinaryIO

from fedge_models.errors import DataError
from fedge_models.system.plain_file import open_plain

BEHIND = 1 << 16  # bytes before a place that stay in memory
STEP = 1 << 18


class Opened:
    """A file of plain text."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = open_plain(path)

    def inode(self) -> int:
        """The number of the file itself, whatever its name is."""
        return os.fstat(self._file.fileno()).st_ino

    def changed_ns(self) -> int:
        """When it was changed last."""
        return os.fstat(self._file.fileno()).st_mtime_ns

    def size(self) -> int:
        """How many bytes it has."""
        return os.fstat(self._file.fileno()).st_size

    def pread(self, size: int, offset: int) -> bytes:
        """The bytes at a place; fewer at the end."""
        return os.pread(self._file.fileno(), size, offset)

    def close(self) -> None:
        """Close it."""
        self._file.close()


class Packed(Opened):
    """A file that is compressed with gzip. Raises DataError when it is damaged, or not whole."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._unpacked: gzip.GzipFile | None = None
        self._first, self._window = 0, b""  # what is in memory, and its place

    def size(self) -> int:
        """How many bytes its text has."""
        at = self._first + len(self._window)
        while data := self.pread(STEP, at):
            at += len(data)
        return at

    def pread(self, size: int, offset: int) -> bytes:
        """The bytes at a place of its text; fewer at the end."""
        try:
            return self._read(size, offset)
        except (EOFError, zlib.error, gzip.BadGzipFile) as e:
            raise DataError(f"cannot be unpacked: {e}") from e

    def _read(self, size: int, offset: int) -> bytes:
        if self._unpacked is None or offset < self._first:
            self._file.seek(0)
            self._unpacked = gzip.GzipFile(fileobj=self._file)
            self._first, self._window = 0, b""
        while self._first + len(self._window) < offset + size:
            data = self._unpacked.read(STEP)
            if not data:
                break
            self._window += data
            gone = min(len(self._window), offset - BEHIND - self._first)
            if gone > 0:
                self._window, self._first = self._window[gone:], self._first + gone
        return self._window[offset - self._first : offset - self._first + size]


def open_file(path: Path) -> Opened:
    """Open a file for reading. Raises OSError."""
    return Packed(path) if path.suffix == ".gz" else Opened(path)
