"""CSV replay: rows of a recording, in real or accelerated time, stamped as if they were measured now."""

from __future__ import annotations

import csv
import difflib
import gzip
import math
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

import msgspec
from fedge_models.errors import ConfigError

from ..types import Quality, Reading, SourceHost


class FilesConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[source.X] type = "files"``; a tag is a column's name."""

    path: Path  # CSV with a header line; .gz is unpacked
    time_column: str = ""  # ISO 8601 or Unix seconds; empty: rows are 1 / rate_hz apart
    rate_hz: float = 1.0
    speed: float = 1.0  # times real time
    at_end: Literal["stop", "repeat"] = "stop"


class FilesSource:
    """Replays one file."""

    Config = FilesConfig

    def __init__(self, name: str, config: FilesConfig) -> None:
        self._name, self._config = name, config

    def run(self, tags: Sequence[str], host: SourceHost) -> None:
        """Emit row after row when its time has come."""
        begin_ns, begin = time.time_ns(), time.monotonic()
        shift = 0.0
        while not host.stop.is_set():
            last = 0.0
            for offset, row in self._rows(tags):
                last = (offset + shift) / self._config.speed
                if host.stop.wait(max(0.0, begin + last - time.monotonic())):
                    return
                stamp = begin_ns + round(last * 1e9)
                host.emit([_reading(tag, stamp, cell) for tag, cell in zip(tags, row, strict=True)], stamp)
            if self._config.at_end == "stop":
                return
            shift = (last + 1 / self._config.rate_hz) * self._config.speed

    def check(self, tags: Sequence[str]) -> list[str]:
        """Whether the file has the columns and a first row."""
        try:
            return [] if next(self._rows(tags), None) else [f"{self._config.path}: has no rows"]
        except ConfigError as e:
            return [str(e)]

    def _rows(self, tags: Sequence[str]) -> Iterator[tuple[float, list[str]]]:
        """Seconds since the first row, and the tags' cells."""
        path, time_column = self._config.path, self._config.time_column
        try:
            with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
                rows = csv.reader(file)
                header = next(rows, [])
                columns = [_column(path, header, tag) for tag in tags]
                clock = _column(path, header, time_column) if time_column else None
                first: float | None = None
                for i, row in enumerate(rows):
                    at = i / self._config.rate_hz if clock is None else _seconds(path, i + 2, row[clock])
                    first = at if first is None else first
                    yield at - first, [row[c] if c < len(row) else "" for c in columns]
        except (OSError, EOFError, UnicodeDecodeError, csv.Error) as e:
            raise ConfigError(f"{path}: cannot be read as CSV: {e}") from e


def _reading(tag: str, stamp: int, cell: str) -> Reading:
    try:
        value = float(cell)
    except ValueError:
        return Reading(tag, stamp, cell) if cell else Reading(tag, stamp, math.nan, Quality.BAD)
    return Reading(tag, stamp, value)


def _column(path: Path, header: list[str], name: str) -> int:
    if name in header:
        return header.index(name)
    near = difflib.get_close_matches(name, header, n=1, cutoff=0.5)
    raise ConfigError(f"{path}: has no column {name!r}; {f'did you mean {near[0]!r}?' if near else f'it has {header}'}")


def _seconds(path: Path, line: int, cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(cell)
    except ValueError as e:
        raise ConfigError(f"{path}:{line}: time {cell!r} is neither ISO 8601 nor Unix seconds") from e
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
