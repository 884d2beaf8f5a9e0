# SPDX-License-Identifier: Apache-2.0
"""Follow the CSV file of an inspection station into the label book, as it grows and through rotation.

The position in the file is stored after its labels are durable; to read a row twice changes nothing. A file that begins
again with other columns is read by these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from fedge_models.errors import ConfigError, DataError, StorageError

from ..config.schema import Inspection
from ..protocols.csv.faults import Faults
from ..protocols.csv.lines import COMMENTS, WholeFile
from ..protocols.csv.tail import Tail
from ..types import Label
from . import station_rows
from .inspection import Columns, Mistake, columns, columns_of, verdict

if TYPE_CHECKING:
    from .label_book import LabelBook

CHUNKS = 8  # at once
CHECKED = 1000  # rows that `check` reads
MANY = 1000  # rows of other machines in a row
NOT_OF = "bytes that are not"  # how lines with undecodable bytes are counted
UNDECODABLE = "\ufffd"


class Station:
    """The file of one asset; folder: where the position in it is stored."""

    def __init__(self, asset: str, config: Inspection, folder: Path) -> None:
        assert config.path is not None
        self.asset, self._config, self._path = asset, config, config.path
        self._position = folder / f"{asset}.json"
        self._tail: Tail | None = None
        self.remark = ""  # of `check`
        self._others = 0  # rows in a row that are not of this machine
        self._where: tuple[str, Columns] | None = None  # the last header, and the columns in it

    def follow(self, book: LabelBook) -> None:
        """Put what is new, as labels. Raises StorageError when the disk takes nothing; it is read again then."""
        if self._tail is None:
            self._tail = Tail(self._path, self._position, False, self._config, self._faults(book))
        try:
            for _ in range(CHUNKS):
                if not self._read(book, self._tail):
                    break
        except (OSError, DataError, StorageError) as e:
            self.close()  # the next tail begins at the stored position
            if isinstance(e, StorageError):
                raise
            why = f"cannot be read: {e.strerror or e}" if isinstance(e, OSError) else str(e)
            book.state_problem(self.asset, f"{self._path}: {why}")
        else:
            many = f"none of the last {self._others:,} rows is of this machine: only = {dict(self._config.only)}"
            book.state_problem(self.asset, f"{self._path}: {many}" if self._others >= MANY else None)

    def check(self, known: Callable[[str | float], bool] | None = None) -> list[str]:
        """Whether the file has the columns, and its first rows can be used; problems in the operator's words.

        known: whether the asset's model knows a verdict. `remark` is then what is no problem: a file that is empty yet.
        """
        if self._path.is_file() and not self._path.stat().st_size:
            self.remark = f"{self._path} is empty yet; its columns are checked when they come"
            return []
        strange: list[str] = []

        def count(what: str, by: int = 1, example: str = "") -> None:
            if NOT_OF in what:
                strange.append(f"{what}: {example}")

        try:
            file = WholeFile(self._path, self._config, Faults(count), strict=True)
        except ConfigError as e:
            return [str(e)]
        try:
            found = columns_of([name.strip() for name in file.header], file.delimiter, self._config)
            if isinstance(found, Mistake):
                return [f"{self._path}: {found.text}"]
            rows = list(islice(file, CHECKED))
            tried = station_rows.Tried(self.asset, found, self._config, known)
            return [f"{self._path}: {text}" for text in (*strange[:1], *tried.problems(rows))]
        except ConfigError as e:
            return [str(e)]
        finally:
            file.close()

    def close(self) -> None:
        """Close the file."""
        if self._tail is not None:
            self._tail.close()
            self._tail = None

    def _read(self, book: LabelBook, tail: Tail) -> bool:
        """Put the next chunk; whether there may be more."""
        text = tail.lines()
        if tail.header_changed is not None:
            tail.accept_header()
            return True
        if tail.at.header is not None:
            self._put(book, tail.at.header, text)
        tail.save()
        return bool(text)

    def _faults(self, book: LabelBook) -> Faults:
        def count(what: str, by: int = 1, example: str = "") -> None:
            if NOT_OF in what:  # counted with its row
                return
            if what == COMMENTS:
                book.count_skipped(self.asset, f"{self._path}: {what}: {example}")
                return
            book.count_malformed(self.asset, f"{self._path}: {what}: {example}")

        return Faults(count)

    def _put(self, book: LabelBook, header: str, text: Sequence[str]) -> None:
        if self._where is None or self._where[0] != header:
            found = columns(header, self._config)
            if isinstance(found, Mistake):
                raise DataError(found.text)
            self._where = header, found
        where = self._where[1]
        labels = list[Label]()
        for line in text:
            made = verdict(self.asset, line, where, self._config)
            if isinstance(made, Label):
                labels.append(made)
            if isinstance(made, Mistake) or UNDECODABLE in line:
                why = made.text if isinstance(made, Mistake) else f"bytes that are not of its encoding: {line[:60]!r}"
                book.count_malformed(self.asset, f"{self._path}: {why}")
            self._note_other(book, line, made is None and bool(line.strip(where.delimiter + " ")))
        book.put_all(labels)

    def _note_other(self, book: LabelBook, line: str, other: bool) -> None:
        """Count a row of another machine; a problem when so many come that this one must have other values."""
        if not other:
            self._others = 0
            return
        self._others += 1
        book.count_skipped(self.asset, f"{self._path}: {line[:60]!r}")
