# SPDX-License-Identifier: Apache-2.0
"""Read a recorded table with the gateway's own reader, and write it as the rows that a gateway follows.

A row of what is written is one value: time (Unix, ns), tag, value, quality. Its source of type "files" is `SOURCE`.
Times stay those of the recording; without any, or with times that only count from 0, rows begin at a given time. What
cannot be used of the user's table is counted, as a gateway counts it.
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from fedge_agent.protocols.csv import guess, listing
from fedge_agent.protocols.csv.cells import Header
from fedge_agent.protocols.csv.faults import Faults
from fedge_agent.protocols.csv.form import Form
from fedge_agent.protocols.csv.lines import WholeFile
from fedge_agent.sources.files_config import FilesConfig
from fedge_agent.sources.files_replay import recorded
from fedge_agent.types import Quality, Reading, Table
from fedge_models.errors import ConfigError
from fedge_models.system import settings

HEADER = "time,tag,value,quality"
POLL_S = 0.2
SOURCE: Table = {
    "type": "files",
    **{"time_column": "time", "time_format": "unix-ns", "tag_column": "tag", "value_column": "value"},
    **{"quality_column": "quality", "delimiter": ",", "tail": True, "start": "begin", "poll": POLL_S},
}
QUALITIES = {Quality.GOOD: "good", Quality.UNCERTAIN: "uncertain", Quality.BAD: "bad"}
COUNTED_FROM_0_NS = 10 * 365 * 86_400_000_000_000  # times before 1980 count from the beginning of a recording


class Recording(NamedTuple):
    """A table, and how it is written."""

    path: Path
    form: Form
    rate_hz: float

    @property
    def files(self) -> list[Path]:
        """The file, or those of a pattern."""
        return listing.found(self.path) if listing.is_pattern(self.path) else [self.path]


class Written(NamedTuple):
    """What was written."""

    rows: int  # values
    first_ns: int
    last_ns: int
    counted: dict[str, int]  # what of the table cannot be used, by what is wrong with it
    examples: dict[str, str]


def form_of(path: Path, given: Table, where: str, key: str) -> tuple[Form, list[str]]:
    """The form of a table: guessed, with the given keys on top; and what is only a guess. Raises ConfigError."""
    first = listing.found(path)[0] if listing.is_pattern(path) else path
    own = settings.convert(given, Form, where, key)
    if "time_column" in given or "columns" in given:
        return own, []
    found = guess.understand(first)
    named = {name: getattr(own, name) for name in given}
    return msgspec.structs.replace(found.form, **named), found.doubts


def names(recording: Recording) -> list[str]:
    """The columns of a table, or the tags of one with a row a value. Raises ConfigError."""
    file = WholeFile(recording.files[0], recording.form, Faults())
    try:
        header = Header(file.path, file.header)
        if not recording.form.tag_column:
            return list(header.names)
        at = header.at(recording.form.tag_column)
        return list(dict.fromkeys(row.cells[at].strip() for row in file if at < len(row.cells)))
    finally:
        file.close()


def is_timed(recording: Recording) -> bool:
    """Whether a table has times of its own, of a day and not counted from its beginning."""
    return bool(recording.form.time_column) and recording.form.time_format != "elapsed"


def write(recording: Recording, tags: Sequence[str], target: Path, begin_ns: int) -> Written:
    """Write every row; `begin_ns`: when a recording without times begins. Raises ConfigError, OSError."""
    counted, examples = Counter[str](), dict[str, str]()

    def count(what: str, by: int = 1, example: str = "") -> None:
        counted[what] += by
        examples[what] = example

    config = _config(recording)
    shift: int | None = None
    rows, first, last = 0, 0, 0
    with target.open("w", encoding="utf-8", newline="") as file:
        file.write(HEADER + "\n")
        out = csv.writer(file, lineterminator="\n")
        for at, cells, parsed in recorded(config, tags, Faults(count)):
            readings = parsed.readings(cells, at)
            if shift is None:
                shift = begin_ns - at if at < COUNTED_FROM_0_NS else 0
            stamp = at + shift
            first, last = (stamp if not rows else min(first, stamp)), max(last, stamp)
            out.writerows(_row(reading, stamp) for reading in readings)
            rows += len(readings)
    if not rows:
        raise ConfigError(f"{recording.path}: no row could be used{_why(counted, examples)}")
    return Written(rows, first, last, dict(counted), examples)


def _config(recording: Recording) -> FilesConfig:
    keys: dict[str, Any] = {name: getattr(recording.form, name) for name in Form.__struct_fields__}
    return FilesConfig(path=recording.path, rate_hz=recording.rate_hz, **keys)


def _row(reading: Reading, stamp: int) -> tuple[int, str, str, str]:
    value = reading.value
    bad = reading.quality is Quality.BAD or (isinstance(value, float) and not math.isfinite(value))
    return stamp, reading.tag, "" if bad else _text(value), QUALITIES[Quality.BAD if bad else reading.quality]


def _text(value: object) -> str:
    return repr(value) if isinstance(value, float) else str(value)


def _why(counted: Counter[str], examples: dict[str, str]) -> str:
    most = counted.most_common(1)
    return f": {most[0][1]} {most[0][0]}, e.g. {examples[most[0][0]]}" if most else "; it has no rows"
