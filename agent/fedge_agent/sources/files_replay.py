# SPDX-License-Identifier: Apache-2.0
"""Replay recordings: each row when its time comes, stamped as if it was measured now.

Rows that are not in the order of time are sorted when the first ones show it, or when a row has the value of one tag:
exports of historians go tag by tag. Otherwise the file is streamed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from copy import copy
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import NamedTuple

from fedge_models.errors import ConfigError

from ..protocols.csv import listing
from ..protocols.csv.faults import Faults
from ..protocols.csv.lines import WholeFile
from ..protocols.csv.rows import Rows
from ..types import SourceHost
from .files_config import FilesConfig

LOOK_AHEAD = 1000  # rows that show whether a file is in order
MAX_SORTED = 1_000_000  # rows that are sorted in memory


class Timed(NamedTuple):
    """A row, and its time."""

    time_ns: int
    cells: list[str]
    rows: Rows


def replay(config: FilesConfig, tags: Sequence[str], host: SourceHost, faults: Faults) -> None:
    """Emit the rows until the end, or again and again."""
    begin_ns, begin = time.time_ns(), time.monotonic()
    shift_ns = 0
    while not host.stop.is_set():
        first: int | None = None
        last = 0
        for at, cells, rows in recorded(config, tags, faults):
            first = at if first is None else first
            last = round((at - first + shift_ns) / config.speed)
            if host.stop.wait(max(0.0, begin + last / 1e9 - time.monotonic())):
                return
            host.emit(rows.readings(cells, begin_ns + last), begin_ns + last)
        if config.at_end == "stop":
            return
        shift_ns = round(last * config.speed) + round(1e9 / config.rate_hz)


def recorded(config: FilesConfig, tags: Sequence[str], faults: Faults) -> Iterator[Timed]:
    """The rows of the file, or of all files of the pattern, in the order of their times. Raises ConfigError."""
    if not listing.is_pattern(config.path):
        yield from _in_order(config, config.path, tags, faults)
        return
    paths = listing.found(config.path)
    if not paths:
        raise ConfigError(f"{config.path}: there is no file of this pattern")
    shift = 0
    for path in paths:
        last = shift
        for timed in _in_order(config, path, tags, faults):
            last = timed.time_ns + (0 if config.time_column else shift)
            yield timed._replace(time_ns=last)
        shift = last + round(1e9 / config.rate_hz)


def _in_order(config: FilesConfig, path: Path, tags: Sequence[str], faults: Faults) -> Iterator[Timed]:
    """The rows of one file in the order of their times."""
    rows = _rows(config, path, tags, faults)
    if not config.time_column:
        return rows
    first = list(islice(rows, LOOK_AHEAD))
    if config.tag_column or any(b.time_ns < a.time_ns for a, b in pairwise(first)):
        return iter(_sorted(path, chain(first, rows)))
    return chain(first, rows)


def _sorted(path: Path, rows: Iterator[Timed]) -> list[Timed]:
    found = list(islice(rows, MAX_SORTED + 1))
    if len(found) > MAX_SORTED:
        raise ConfigError(
            f"{path}: its rows are not in the order of time and more than {MAX_SORTED}; sort it, or split it"
        )
    found.sort(key=lambda row: row.time_ns)
    return found


def _rows(config: FilesConfig, path: Path, tags: Sequence[str], faults: Faults) -> Iterator[Timed]:
    """The rows that have a time, as they stand in the file."""
    file = WholeFile(path, config, faults)
    try:
        rows = Rows(path, file.header, tags, config, faults, file.delimiter)
        step, i, names, named = 1e9 / config.rate_hz, 0, 0, copy(rows)
        for row in file:
            if not rows.fits(row.cells):
                continue
            at = rows.time_ns(row.cells) if config.time_column else round(i * step)
            i += 1
            if rows.renamed > names:  # what was read before keeps its names
                names, named = rows.renamed, copy(rows)
            if at is not None:
                yield Timed(at, row.cells, named)
    finally:
        file.close()
