# SPDX-License-Identifier: Apache-2.0
"""Read CSV files: replay a recording, or follow (`tail`) the rows that a program appends to a file.

A replay runs in real or accelerated time, and its rows are stamped as if they were measured now; followed rows have the
times they contain. Malformed rows are counted and stop nothing.
"""

from __future__ import annotations

import gzip
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from fedge_models.errors import ConfigError, DataError, UnreachableError
from fedge_models.system.settings import Seconds

from ..protocols.csv.rows import Count, Rows, parse
from ..protocols.csv.tail import Tail
from ..types import Reading, Source, SourceHost

AHEAD = 64  # batches that wait for the agent while a tail catches up
WAIT_S = 0.01


class FilesConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[source.X] type = "files"``; a tag is a column's name."""

    path: Path  # CSV with a header line; .gz is unpacked
    time_column: str = ""  # ISO 8601 or Unix seconds; empty: rows are 1 / rate_hz apart, or (tail) stamped on arrival
    delimiter: Annotated[str, msgspec.Meta(min_length=1, max_length=1)] = ","
    rate_hz: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    speed: Annotated[float, msgspec.Meta(gt=0)] = 1.0  # times real time
    at_end: Literal["stop", "repeat"] = "stop"
    tail: bool = False  # follow rows that are appended
    start: Literal["end", "begin"] = "end"  # tail: where to start in a file never read before
    poll: Seconds = Seconds(1)  # tail: how often to look


class FilesSource(Source):
    """Reads one file."""

    Config = FilesConfig

    def __init__(self, name: str, config: FilesConfig) -> None:
        if config.tail and config.path.suffix == ".gz":
            raise ConfigError(f"source {name}: {config.path}: a compressed file cannot be followed; expected plain CSV")
        self._name, self._config = name, config

    def run(self, tags: Sequence[str], host: SourceHost) -> None:
        """Emit each row when its time comes (replay), or when it was written (tail)."""
        if self._config.tail:
            self._follow(tags, host)
        else:
            self._replay(tags, host)

    def check(self, tags: Sequence[str]) -> list[str]:
        """Check that the file has the columns and, for a replay, a row."""
        try:
            found = next(self._rows(tags, lambda _: None), None)
            return [] if found or self._config.tail else [f"{self._config.path}: has no rows"]
        except ConfigError as e:
            return [str(e)]

    def _replay(self, tags: Sequence[str], host: SourceHost) -> None:
        begin_ns, begin = time.time_ns(), time.monotonic()
        shift = 0.0
        while not host.stop.is_set():
            last = 0.0
            for offset, row, rows in self._rows(tags, host.count):
                last = (offset + shift) / self._config.speed
                if host.stop.wait(max(0.0, begin + last - time.monotonic())):
                    return
                stamp = begin_ns + round(last * 1e9)
                host.emit(rows.readings(row, stamp), stamp)
            if self._config.at_end == "stop":
                return
            shift = last * self._config.speed + 1 / self._config.rate_hz

    def _rows(self, tags: Sequence[str], count: Count) -> Iterator[tuple[float, list[str], Rows]]:
        """Seconds since the first row, and its cells."""
        path = self._config.path
        try:
            opened = gzip.open if path.suffix == ".gz" else open
            with opened(path, "rt", encoding="utf-8-sig", errors="replace", newline="") as file:
                header = self._header(next((line for line in file if line.strip()), ""))
                rows = Rows(path, header, tags, self._config.time_column, count)
                first: float | None = None
                for i, row in enumerate(_cells(file, self._config.delimiter, count)):
                    at = rows.seconds(row) if self._config.time_column else i / self._config.rate_hz
                    if at is not None:
                        first = at if first is None else first
                        yield at - first, row, rows
        except (OSError, EOFError, zlib.error) as e:
            raise ConfigError(f"{path}: cannot be read as CSV: {e}") from e

    def _header(self, line: str) -> list[str]:
        """The names of the columns. Raises ConfigError."""
        try:
            return parse(line.rstrip("\r\n"), self._config.delimiter)
        except DataError as e:
            raise ConfigError(f"{self._config.path}: its first line is {e}; expected the names of the columns") from e

    def _follow(self, tags: Sequence[str], host: SourceHost) -> None:
        position = host.folder / "position.json"
        tail = Tail(self._config.path, position, self._config.start == "end", host.count)
        rows: Rows | None = None
        try:
            while not host.stop.is_set():
                lines = self._look(tail, position)
                host.problem("connection", None)
                if rows is None and tail.at.header is not None:
                    header = self._header(tail.at.header)
                    rows = Rows(self._config.path, header, tags, self._config.time_column, host.count)
                if lines and rows is not None:
                    self._emit(lines, rows, host)
                tail.save()
                if not lines:
                    host.stop.wait(self._config.poll)
                while host.waiting() >= AHEAD and not host.stop.wait(WAIT_S):
                    pass
        finally:
            tail.close()

    def _look(self, tail: Tail, position: Path) -> list[str]:
        path = self._config.path
        try:
            lines = tail.lines()
        except OSError as e:
            raise UnreachableError(f"{path}: cannot be read: {e.strerror}") from e
        except DataError as e:
            raise ConfigError(f"{path}: {e}") from e
        if tail.header_changed is not None:
            raise ConfigError(
                f"{path}: its header changed from {tail.at.header!r} to {tail.header_changed!r}; expected the same "
                f"columns. Correct the file, or stop the agent and delete {position} to begin with the new ones"
            )
        return lines

    def _emit(self, lines: list[str], rows: Rows, host: SourceHost) -> None:
        readings: list[Reading] = []
        newest: int | None = None
        for row in _cells(lines, self._config.delimiter, host.count):
            at = rows.seconds(row) if self._config.time_column else time.time()
            if at is not None:
                newest = round(at * 1e9)
                readings += rows.readings(row, newest)
        host.emit(readings, newest)


def _cells(lines: Iterable[str], delimiter: str, count: Count) -> Iterator[list[str]]:
    """The cells of each line that is CSV and not empty. A line is a row, so an unclosed quote damages only one."""
    for line in lines:
        try:
            row = parse(line.rstrip("\r\n"), delimiter)
        except DataError:
            count("lines that are no CSV")
            continue
        if row:
            yield row
