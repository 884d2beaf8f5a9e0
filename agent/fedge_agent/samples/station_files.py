# SPDX-License-Identifier: Apache-2.0
"""Follow the CSV file of an inspection station into the label book, as it grows and through rotation.

The position in the file is stored after its labels are durable; to read a row twice changes nothing. A file that begins
again with other columns is read by these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fedge_models.errors import DataError, StorageError

from ..config.schema import Inspection
from ..protocols.csv.tail import MAX_LINE, Tail
from ..types import Label
from .inspection import Mistake, columns, lines

if TYPE_CHECKING:
    from .label_book import LabelBook

CHUNKS = 8  # at once


class Station:
    """The file of one asset; folder: where the position in it is stored."""

    def __init__(self, asset: str, config: Inspection, folder: Path) -> None:
        assert config.path is not None
        self.asset, self._config, self._path = asset, config, config.path
        self._position = folder / f"{asset}.json"
        self._tail: Tail | None = None

    def follow(self, book: LabelBook) -> None:
        """Put what is new, as labels. Raises StorageError when the disk takes nothing; it is read again then."""
        if self._tail is None:
            self._tail = Tail(self._path, self._position, False, self._count_in(book))
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
        """Whether the file can be read and has the columns; problems in the operator's words."""
        try:
            with self._path.open(encoding="utf-8-sig", errors="replace", newline="\n") as file:
                found = columns(file.readline(MAX_LINE).rstrip("\r\n"), self._config)
        except OSError as e:
            return [f"{self._path}: cannot be read: {e.strerror or e}"]
        return [f"{self._path}: {found.text}"] if isinstance(found, Mistake) else []

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

    def _count_in(self, book: LabelBook) -> Callable[[str], None]:
        return lambda what: book.count_malformed(self.asset, f"{self._path}: {what}")

    def _put(self, book: LabelBook, header: str, text: Sequence[str]) -> None:
        where = columns(header, self._config)
        if isinstance(where, Mistake):
            raise DataError(where.text)
        made = lines(self.asset, text, where, self._config)
        for mistake in made:
            if isinstance(mistake, Mistake):
                book.count_malformed(self.asset, f"{self._path}: {mistake.text}")
        book.put_all([m for m in made if isinstance(m, Label)])
