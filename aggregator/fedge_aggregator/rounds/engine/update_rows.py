# SPDX-License-Identifier: Apache-2.0
"""The rows of a round, read block by block of columns: from memory, or from a scratch file.

Promises a block of all rows at once in the memory of that block. The rows are codes (d,) int8 that the caller has
verified. A scratch file is not durable; after a crash it is written again from the stored updates.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from fedge_models.errors import StorageError
from fedge_models.messages.quantize import Codes

BLOCK_BYTES = 5 << 19  # of codes: smaller blocks fit caches better, but make threads wait for each other between calls
MOST_COLUMNS = 1 << 17  # of few rows: results take more bytes than the codes
BUFFER_BYTES = 32 << 20  # of rows, collected before they are written to their blocks


def columns_per_block(n: int) -> int:
    """The number of columns of n rows in a block; a multiple of 64, a cache line."""
    return max(256, min(BLOCK_BYTES // max(n, 1), MOST_COLUMNS) // 64 * 64)


class Rows(Protocol):
    """n rows of d codes."""

    @property
    def n(self) -> int:
        """How many rows."""

    @property
    def d(self) -> int:
        """Codes in each."""

    @property
    def width(self) -> int:
        """The number of columns that are best read at once; blocks start at its multiples."""

    def block(self, start: int, stop: int, out: Codes | None = None) -> Codes:
        """Columns start..stop-1 of all rows (n, stop - start), in `out` if given; the caller may overwrite them."""

    def narrow(self, start: int, stop: int) -> Rows:
        """Only those columns, counted from 0, to be sent elsewhere; start is a multiple of `width`."""


def each_block(rows: Rows, start: int, stop: int) -> Iterator[tuple[int, int, Codes]]:
    """Yield columns start..stop-1 as (first, last, block), all in the same memory; start as in `narrow`.

    Otherwise the kernel would clear new pages for every block, because the C library returns large arrays at once.
    """
    room = np.empty(rows.n * min(rows.width, stop - start), np.int8)
    for first in range(start, stop, rows.width):
        last = min(first + rows.width, stop)
        yield first, last, rows.block(first, last, room[: rows.n * (last - first)].reshape(rows.n, last - first))


def choose(rows: Rows, chosen: Sequence[int]) -> Rows:
    """Choose rows by their numbers; of rows in memory the others are not even read."""
    return rows.choose(chosen) if isinstance(rows, MemoryRows) else ChosenRows(rows, tuple(chosen))


class MemoryRows:
    """Rows in memory: a sequence of (d,) int8, or one (n, d)."""

    def __init__(self, rows: Sequence[Codes] | Codes) -> None:
        if not len(rows) or len({len(row) for row in rows}) > 1 or any(row.dtype != np.int8 for row in rows):
            raise ValueError(f"expected rows of one length, int8; got {[(len(r), str(r.dtype)) for r in rows][:5]}")
        self._rows = rows
        self.n, self.d = len(rows), len(rows[0])
        self.width = columns_per_block(self.n)

    def block(self, start: int, stop: int, out: Codes | None = None) -> Codes:
        """A copy of those columns, row by row."""
        return np.stack([row[start:stop] for row in self._rows], out=out)

    def narrow(self, start: int, stop: int) -> MemoryRows:
        """A copy of those columns."""
        return MemoryRows(self.block(start, stop))

    def choose(self, chosen: Sequence[int]) -> MemoryRows:
        """The same rows, not copied."""
        return MemoryRows([self._rows[i] for i in chosen])


@dataclass(frozen=True)
class FileRows:
    """Rows in a file that `RowsWriter` wrote. Small and picklable: other machines open the same path."""

    path: Path
    n: int
    d: int
    width: int
    capacity: int  # rows that each block of the file has room for
    first: int = 0  # block of the file that has column 0

    def narrow(self, start: int, stop: int) -> FileRows:
        """The part of the file with those columns, synced: a network file system may hide other data. StorageError."""
        fd = self._open()
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        return replace(self, d=stop - start, first=self.first + start // self.width)

    def block(self, start: int, stop: int, out: Codes | None = None) -> Codes:
        """Those columns, read from the blocks they lie in. Raises StorageError."""
        first, last = start // self.width, -(-stop // self.width)
        fd = self._open()
        try:
            if out is not None and out.shape == (self.n, self.width) and out.flags.c_contiguous and last - first == 1:
                return self._read(fd, self.first + first, out)
            whole = [self._read(fd, index) for index in range(self.first + first, self.first + last)]
        finally:
            os.close(fd)
        joined = whole[0] if len(whole) == 1 else np.concatenate(whole, axis=1)
        block = joined[:, start - first * self.width : stop - first * self.width]
        if out is None:
            return block
        out[:] = block
        return out

    def _open(self) -> int:
        try:
            return os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as e:
            raise StorageError(f"{self.path}: rows of the round cannot be read: {e.strerror}") from e

    def _read(self, fd: int, index: int, out: Codes | None = None) -> Codes:
        block = np.empty((self.n, self.width), np.int8) if out is None else out
        got = os.preadv(fd, [block.data], index * self.capacity * self.width)
        if got != block.nbytes:
            raise StorageError(f"{self.path}: block {index} has {got} bytes, expected {block.nbytes}")
        return block


class RowsWriter:
    """Write rows one by one into a new scratch file, block by block; the end of the `with` removes the file.

    Holds at most BUFFER_BYTES of them (at least one row). Raises StorageError when the disk is full.
    """

    def __init__(self, path: Path, d: int, capacity: int) -> None:
        self._path, self._d, self._capacity = path.absolute(), d, capacity
        self._width = min(columns_per_block(capacity), -(-d // 64) * 64)
        self._blocks = -(-d // self._width)
        span = self._blocks * self._width
        self._buffer = np.zeros((max(1, min(capacity, BUFFER_BYTES // span)), span), np.int8)
        self._written = self._held = 0

    def __enter__(self) -> RowsWriter:
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
        self._path.unlink(missing_ok=True)

    def append(self, codes: Codes) -> None:
        """Append a row (d,)."""
        if codes.shape != (self._d,) or codes.dtype != np.int8:
            raise ValueError(f"expected a row of {self._d} int8, got {codes.dtype} {codes.shape}")
        if self._written + self._held == self._capacity:
            raise ValueError(f"{self._path}: has room for {self._capacity} rows")
        self._buffer[self._held, : self._d] = codes
        self._held += 1
        if self._held == len(self._buffer):
            self._flush()

    def rows(self) -> FileRows:
        """The rows so far, to be read."""
        self._flush()
        return FileRows(self._path, self._written, self._d, self._width, self._capacity)

    def _flush(self) -> None:
        if not self._held:
            return
        try:
            for index in range(self._blocks):
                part = np.ascontiguousarray(self._buffer[: self._held, index * self._width : (index + 1) * self._width])
                place = (index * self._capacity + self._written) * self._width
                if os.pwrite(self._fd, part.data, place) != part.nbytes:
                    raise OSError(28, "No space left on device")
        except OSError as e:
            raise StorageError(f"{self._path}: rows of the round cannot be written: {e.strerror}") from e
        self._written, self._held = self._written + self._held, 0


@dataclass(frozen=True)
class ChosenRows:
    """Some rows of others, by their numbers."""

    rows: Rows
    chosen: tuple[int, ...]

    @property
    def n(self) -> int:
        """How many were chosen."""
        return len(self.chosen)

    @property
    def d(self) -> int:
        """As of the rows."""
        return self.rows.d

    @property
    def width(self) -> int:
        """As of the rows."""
        return self.rows.width

    def narrow(self, start: int, stop: int) -> ChosenRows:
        """The same rows of fewer columns."""
        return ChosenRows(self.rows.narrow(start, stop), self.chosen)

    def block(self, start: int, stop: int, out: Codes | None = None) -> Codes:
        """A copy of those columns of the chosen rows."""
        return np.take(self.rows.block(start, stop), self.chosen, axis=0, out=out)
