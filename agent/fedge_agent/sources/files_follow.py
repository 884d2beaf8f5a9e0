# SPDX-License-Identifier: Apache-2.0
"""Follow files as they grow: the rows that are appended, with their own times."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from fedge_models.errors import ConfigError, DataError, StorageError, UnreachableError

from ..protocols.csv import listing, order, records, series
from ..protocols.csv.cells import Header, delimiter_of, parse
from ..protocols.csv.faults import Faults
from ..protocols.csv.lines import header_is
from ..protocols.csv.rows import Rows
from ..protocols.csv.tail import Tail
from ..types import Reading, SourceHost
from .files_config import FilesConfig
from .files_position import ANNOUNCED_S, recovered

AHEAD = 4  # batches that wait for the agent while a tail catches up
WAIT_S = 0.01


def follow(config: FilesConfig, tags: Sequence[str], host: SourceHost, faults: Faults) -> None:
    """Emit what is appended until `host.stop`. Raises UnreachableError, ConfigError."""
    reader = Follower(config, tags, host, faults)
    try:
        while not host.stop.is_set():
            found = reader.step()
            host.problem("connection", None)
            if not found:
                host.stop.wait(config.poll)
            while (host.waiting() >= AHEAD or host.held()) and not host.stop.wait(WAIT_S):
                pass
    finally:
        reader.close()


class Follower:
    """One file, or the files of a pattern, one after the other."""

    def __init__(self, config: FilesConfig, tags: Sequence[str], host: SourceHost, faults: Faults) -> None:
        self._config, self._tags, self._host, self._faults = config, tags, host, faults
        self._position, from_end = host.folder / "position.json", config.start == "end"
        self._began = time.monotonic()
        found = recovered(self._position, host.receipts())
        self._continued, self._started_over = found.continues, found.started_over
        if found.what:
            faults.note(found.what, self._position.name)
        if found.started_over:
            from_end = from_end and not found.damaged
            host.problem("started over", f"{self._position}: {found.started_over}")
        self._file: Tail | series.Series
        if listing.is_pattern(config.path):
            self._file = series.Series(config.path, self._position, from_end, config, self._faults)
        else:
            self._file = Tail(config.path, self._position, from_end, config, self._faults)
        self._rows: Rows | None = None
        self._delimiter, self._width = "", 0
        self._open: list[str] = []  # lines of a row whose quote is not closed yet
        self._waited = False  # for the rest of it
        self._said: dict[str, float] = {}  # subject of a problem that ends after a day -> when it was stated
        self._header: tuple[str | None, str | None] = None, None  # of `_rows`, and the later one within the file
        self._forward: dict[str, order.Forward] = {}  # per tag where a row is of one, else of all

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def step(self) -> bool:
        """Emit the next rows; whether there may be more. Of a pattern, a file that cannot be read is passed over.

        Raises UnreachableError, ConfigError.
        """
        try:
            return self._step()
        except ConfigError as e:
            if not isinstance(self._file, series.Series) or not self._file.pass_over():
                raise
            self._faults.note("files that cannot be read", str(e))
            return True

    def _step(self) -> bool:
        lines = self._lines()
        tail = self._tail()
        if tail is not None and tail.at.header is not None and self._key(tail) != self._header:
            self._emit_open()
            self._begin(tail)
        if tail is not None and tail.lost:
            self._say_lost(tail)
        if tail is not None and tail.fresh and self._rows is not None:
            tail.fresh = False
            self._rows.begin()
        if lines and self._rows is not None:
            whole, self._open = records.mended(self._open + lines, self._width, self._delimiter)
            self._emit(whole, self._rows)
        elif self._open and self._waited:
            self._emit_open()
        self._waited = not lines
        if self._started_over and time.monotonic() - self._began > ANNOUNCED_S:
            self._started_over = ""
            self._host.problem("started over", None)
        self._end_said()
        if not self._open:
            self._save()
        return bool(lines)

    def _say_lost(self, tail: Tail) -> None:
        """Count rows that may be missing, and make them a problem for a day."""
        text, tail.lost, self._said["rows"] = tail.lost, "", time.monotonic()
        self._faults.note("stretches of rows that were never seen", text)
        self._host.problem("rows", text)

    def _end_said(self) -> None:
        """Withdraw problems of things that happened once, after a day."""
        for subject in [s for s, at in self._said.items() if time.monotonic() - at > ANNOUNCED_S]:
            del self._said[subject]
            self._host.problem(subject, None)

    @staticmethod
    def _key(tail: Tail) -> tuple[str | None, str | None]:
        return tail.at.header, tail.at.columns

    def _begin(self, tail: Tail) -> None:
        """Begin with the names of a header, or of a later one within the file."""
        line = tail.at.header or ""
        self._delimiter = delimiter_of(self._config, line)
        names = self._names(line)
        self._faults.state("header", None)
        self._said.pop("header", None)
        self._rows = Rows(self._path(), names, self._tags, self._config, self._faults, self._delimiter, among=True)
        self._width, self._header = len(Header(self._path(), names).names), self._key(tail)
        if tail.at.columns is not None:
            self._rows.rename(tail.at.columns)

    def _emit_open(self) -> None:
        """Emit lines whose quote was never closed as they are: they are counted."""
        lines, self._open = self._open, []
        if lines and self._rows is not None:
            self._emit(lines, self._rows)

    def _save(self) -> None:
        """Store the position; a disk that takes nothing stops no reading."""
        try:
            self._file.save()
        except StorageError as e:
            self._host.problem("position", f"{e}; after a kill, rows from the last stored position on are read again")
        else:
            self._host.problem("position", None)

    def _tail(self) -> Tail | None:
        return self._file if isinstance(self._file, Tail) else self._file.current

    def _path(self) -> Path:
        inside = self._file.path if isinstance(self._file, series.Series) else None
        return inside or self._config.path

    def _lines(self) -> list[str]:
        try:
            lines = self._file.lines()
        except OSError as e:
            raise UnreachableError(f"{self._path()}: cannot be read: {e.strerror}") from e
        except DataError as e:
            raise ConfigError(f"{self._path()}: {e}") from e
        tail = self._tail()
        if tail is None:
            raise UnreachableError(f"{self._config.path}: there is no file of this pattern yet")
        if tail.header_changed is not None:
            raise ConfigError(
                f"{self._path()}: its header changed from {tail.at.header!r} to {tail.header_changed!r}; expected the "
                f"same columns. Correct the file, or stop the agent and delete {self._position} to begin with the new "
                "ones"
            )
        return lines

    def _names(self, header: str) -> list[str]:
        """The names of the columns. Raises ConfigError."""
        try:
            return parse(header, self._delimiter)
        except DataError as e:
            raise ConfigError(f"{self._path()}: {header_is(self._config.skip_rows + 1, e)}") from e

    def _emit(self, lines: list[str], rows: Rows) -> None:
        readings: list[Reading] = []
        timed, delimiter, faults = bool(self._config.time_column), self._delimiter, self._faults
        for line in lines:
            try:
                row = parse(line, delimiter) if rows.delimiter == delimiter else rows.cells(line)
            except DataError as e:
                faults.add("lines that are no CSV", f"{e}: {line[:60]!r}", "lines")
                continue
            if not any(row):
                continue
            renamed = rows.renamed
            at = (rows.time_ns(row) if timed else time.time_ns()) if rows.fits(row) else None
            if rows.renamed > renamed:
                self._rename(line)
                self._said.pop("header", None)
            if rows.words:
                rows.words, self._said["header"] = "", time.monotonic()
            if at is not None:
                found = rows.readings(row, at)
                if found:
                    self._watch_order(found[0].tag if self._config.tag_column else "", at, line)
                readings += found
            if faults.lasting:
                faults.end("lines")
        if readings:
            # Nothing is known between two rows. The position comes with the rows: neither is stored without the other.
            self._host.store(readings, None, [self._file.position()], self._continued, self._origin())
            self._continued = True

    def _rename(self, line: str) -> None:
        """Read what follows by the names of this line, after a restart, too."""
        tail = self._tail()
        assert tail is not None
        tail.at.columns = line
        self._header = self._key(tail)

    def _origin(self) -> str | None:
        """The file of a pattern; rows that get their time when they are read come only once."""
        if not self._config.time_column:
            return None
        return self._path().name if isinstance(self._file, series.Series) else ""

    def _watch_order(self, tag: str, at: int, line: str) -> None:
        known = self._forward.get(tag) or self._forward.setdefault(tag, order.Forward())
        if known.goes_back(at):
            self._faults.add("rows that go back in time", repr(line[:60]), "order")
        elif self._faults.lasting:
            self._faults.end("order")
