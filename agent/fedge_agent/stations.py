"""Follows the CSV file of an inspection station as it grows, through rotation and truncation, into the label book.

How far it was read is kept with its labels, together with the bytes before: where they are not found again the file is
another one. Then the rest of the old one is read wherever it was moved to, and the new one from its start. To read a
row twice changes nothing, so that in doubt it is read again.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from fedge_models.errors import DataError

from .config import Inspection
from .inspection import Columns, Mistake, columns, lines
from .types import Label

if TYPE_CHECKING:
    from .labels import LabelBook

CHUNK_BYTES = 1 << 20  # read at once, and the longest line
CHUNKS_AT_ONCE = 8
MARK_BYTES = 64
HEADER_BYTES = 16_384
MAX_SIBLINGS = 50  # rotated files that are looked at


class Station:
    """The file of one asset."""

    def __init__(self, asset: str, config: Inspection) -> None:
        assert config.path is not None
        self._asset, self._config, self._path = asset, config, config.path

    def follow(self, book: LabelBook) -> None:
        """Put what is new, as labels. Raises StorageError when it cannot be kept; it is read again then."""
        try:
            for _ in range(CHUNKS_AT_ONCE):
                if not self._read(book):
                    break
        except OSError as e:
            book.trouble(self._asset, f"{self._path}: cannot be read: {e.strerror or e}")
        except DataError as e:
            book.trouble(self._asset, str(e))
        else:
            book.trouble(self._asset, None)

    def _read(self, book: LabelBook) -> bool:
        """Read on by one chunk, in whichever file the last one ended; whether there may be more."""
        kept = book.position(self._asset)
        offset, mark = (kept[1], kept[2]) if kept and kept[0] == str(self._path) else (0, b"")
        if offset == 0 or _continues(self._path, offset, mark):
            return self._chunk(book, self._path, offset, last=False)
        for old in _siblings(self._path):
            if _continues(old, offset, mark) and self._chunk(book, old, offset, last=True):
                return True
        return self._chunk(book, self._path, 0, last=False)

    def _chunk(self, book: LabelBook, path: Path, offset: int, last: bool) -> bool:
        """Put a chunk's rows, and how far that is. last: the file grows no more, its last line needs no end."""
        with path.open("rb") as file:
            header = file.readline(HEADER_BYTES)
            begin = max(offset, len(header))
            file.seek(max(0, begin - MARK_BYTES))
            before = file.read(min(begin, MARK_BYTES))
            data = file.read(CHUNK_BYTES)
        if not header.endswith(b"\n"):
            if len(header) == HEADER_BYTES:
                raise DataError(f"{path}: its first line has more than {HEADER_BYTES} bytes; expected names of columns")
            return False  # not yet a whole line
        where = columns(_text(header).lstrip("\ufeff"), self._config)
        if isinstance(where, Mistake):
            raise DataError(f"{path}: {where.text}")
        rows = data if last and len(data) < CHUNK_BYTES else data[: data.rfind(b"\n") + 1]
        taken = rows
        if not rows and len(data) == CHUNK_BYTES:
            book.mistake(self._asset, f"{path}: a line of more than {CHUNK_BYTES} bytes at {begin}; left out")
            taken = data
        if taken:
            self._put(book, rows, where, begin + len(taken), (before + taken)[-MARK_BYTES:])
        return len(taken) > 0

    def _put(self, book: LabelBook, rows: bytes, where: Columns, offset: int, mark: bytes) -> None:
        made = lines(self._asset, _text(rows).split("\n"), where, self._config)
        for mistake in made:
            if isinstance(mistake, Mistake):
                book.mistake(self._asset, f"{self._path}: {mistake.text}")
        book.put_all([m for m in made if isinstance(m, Label)], (self._asset, str(self._path), offset, mark))


def _continues(path: Path, offset: int, mark: bytes) -> bool:
    """Whether the file has at `offset` what it had when it was last read."""
    try:
        with path.open("rb") as file:
            if file.seek(0, os.SEEK_END) < offset:
                return False
            file.seek(max(0, offset - len(mark)))
            return file.read(len(mark)) == mark
    except OSError:
        return False


def _siblings(path: Path) -> list[Path]:
    """Files that this one may have been moved to by a rotation, the newest first."""
    found = [p for p in path.parent.iterdir() if p != path and p.name.startswith(path.stem) and p.is_file()]
    return sorted(found, key=lambda p: -p.stat().st_mtime_ns)[:MAX_SIBLINGS]


def _text(data: bytes) -> str:
    return data.decode("utf-8", errors="replace").replace("\r\n", "\n")
