# SPDX-License-Identifier: Apache-2.0
"""A recorded table: a CSV file with a header, packed by gzip. Every fault of the file is a ConfigError."""

from __future__ import annotations

import csv
import gzip
import zlib
from pathlib import Path

import numpy as np
from fedge_models.errors import ConfigError
from numpy.typing import NDArray


class TableFile:
    """The rows of one file, by column."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
                self._header, *self._rows = [row for row in csv.reader(file) if row] or [[]]
        except (OSError, EOFError, UnicodeDecodeError, csv.Error, zlib.error) as e:
            raise ConfigError(f"{path}: cannot be read: {e}") from e
        for number, row in enumerate(self._rows, 2):
            if len(row) != len(self._header):
                raise ConfigError(f"{path}: row {number} has {len(row)} cells, the header {len(self._header)}")

    def texts(self, column: str) -> list[str]:
        """A column as it is written. Raises ConfigError when there is none of the name."""
        if column not in self._header:
            raise ConfigError(f"{self._path}: no column {column!r}; it has {', '.join(self._header)}")
        at = self._header.index(column)
        return [row[at] for row in self._rows]

    def numbers(self, column: str) -> NDArray[np.float64]:
        """A column as float64. Raises ConfigError for a cell that is not a number."""
        try:
            return np.array(self.texts(column), np.float64)
        except ValueError as e:
            raise ConfigError(f"{self._path}: column {column!r}: {e}") from e

    def times(self, column: str) -> NDArray[np.int64]:
        """A column of ISO 8601 times as Unix seconds. Raises ConfigError for a cell that is not a time."""
        try:
            return np.array(self.texts(column), "datetime64[s]").astype(np.int64)
        except ValueError as e:
            raise ConfigError(f"{self._path}: column {column!r}: {e}") from e
