# SPDX-License-Identifier: Apache-2.0
"""Follow the CSV file of an inspection station into the label book, as it grows and through rotation.

The position in the file is stored after its labels are durable; to read a row twice changes nothing. A file that begins
again with other columns is read by these.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from fedge_models.errors import ConfigError, DataError, StorageError

from ..config.schema import Inspection
from ..protocols.csv.faults import Faults
from ..protocols.csv.lines import Row, WholeFile
from ..protocols.csv.tail import Tail
from ..types import Label
from .inspection import Columns, Mistake, columns, columns_of, lines, verdict_of

if TYPE_CHECKING:
    from .label_book import LabelBook

CHUNKS = 8  # at once
CHECKED = 1000  # rows that `check` reads


class Station:
    """The file of one asset; folder: where the position in it is stored."""

    def __init__(self, asset: str, config: Inspection, folder: Path) -> None:
        assert config.path is not None
        self.asset, self._config, self._path = asset, config, config.path
        self._position = folder / f"{asset}.json"
        self._tail: Tail | None = None
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
            book.state_problem(self.asset, None)

    def check(self) -> list[str]:
        """Whether the file has the columns, and its first rows can be read; problems in the operator's words."""
        try:
            file = WholeFile(self._path, self._config, Faults(), strict=True)
        except ConfigError as e:
            return [str(e)]
        try:
            found = columns_of([name.strip() for name in file.header], file.delimiter, self._config)
            if isinstance(found, Mistake):
                return [f"{self._path}: {found.text}"]
            return self._unread(found, list(islice(file, CHECKED)))
        except ConfigError as e:
            return [str(e)]
        finally:
            file.close()

    def _unread(self, where: Columns, rows: list[Row]) -> list[str]:
        """A problem when most rows give no verdict: some malformed rows stop nothing."""
        wrong = []
        for row in rows:
            line = where.delimiter.join(row.cells)
            made = verdict_of(self.asset, row.cells, line, where, self._config)
            if isinstance(made, Mistake):
                wrong.append(f"row {row.number}: {made.text}")
        if 2 * len(wrong) <= len(rows):
            return []
        return [f"{self._path}: {len(wrong)} of the first {len(rows)} rows cannot be read: {wrong[0]}"]

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
            book.count_malformed(self.asset, f"{self._path}: {what}: {example}")

        return Faults(count)

    def _put(self, book: LabelBook, header: str, text: Sequence[str]) -> None:
        if self._where is None or self._where[0] != header:
            found = columns(header, self._config)
            if isinstance(found, Mistake):
                raise DataError(found.text)
            self._where = header, found
        where = self._where[1]
        made = lines(self.asset, text, where, self._config)
        for mistake in made:
            if isinstance(mistake, Mistake):
                book.count_malformed(self.asset, f"{self._path}: {mistake.text}")
        book.put_all([m for m in made if isinstance(m, Label)])
