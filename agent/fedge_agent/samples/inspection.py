# SPDX-License-Identifier: Apache-2.0
"""Turn the verdicts of inspections into labels: from readings of any source, or from rows of a CSV file. Pure.

A verdict is of a part, whose windows are found by `context.part`, or of a time. What cannot be read as a verdict is a
`Mistake` in the operator's words, and the next one is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import tzinfo
from typing import NamedTuple

from fedge_models.errors import ConfigError, DataError
from fedge_models.system import times

from ..config.schema import Inspection
from ..protocols.csv.cells import Header, Times, delimiter_of, parse
from ..protocols.csv.lines import header_is
from ..types import Batch, Label, Quality, Reading
from ..windows.context import plain

ALWAYS_NS = (1 << 63) - 1


class Mistake(NamedTuple):
    """Something that should be a verdict and cannot be read as one."""

    text: str


class Verdicts:
    """The verdicts on one asset that come as readings."""

    def __init__(self, asset: str, config: Inspection) -> None:
        self._asset, self._config, self._zone = asset, config, times.find_zone(config.time_zone)
        tags = {"part": config.part, "time": config.time, "verdict": config.verdict}
        self._roles = {(t.source, t.tag): role for role, t in tags.items() if t}
        self._last: dict[str, Reading] = {}  # the last part and time
        self._together: set[str] = set()

    def take(self, batch: Batch) -> list[Label | Mistake]:
        """The verdicts of a batch, in the order of time; a part's id comes with its verdict or before it."""
        roles = ((self._roles.get((batch.source, r.tag)), r) for r in batch.readings)
        found = [(role, r) for role, r in roles if role is not None]
        messages: list[dict[str, Reading]] = []
        for role, reading in sorted(found, key=lambda f: f[1].time_ns):
            before = next(iter(messages[-1].values())) if messages else None
            if before is None or before.time_ns != reading.time_ns or role in messages[-1]:
                messages.append({})  # two in one second are told apart by what comes again
            messages[-1][role] = reading
        return [made for message in messages for made in self._message(message)]

    def _message(self, message: dict[str, Reading]) -> Iterator[Label | Mistake]:
        verdict = message.pop("verdict", None)
        if verdict is not None:  # what came with a verdict once is not taken from an earlier one
            self._together |= message.keys()
            self._last = {role: r for role, r in self._last.items() if role not in self._together}
        self._last.update(message)
        if verdict is not None and verdict.quality is not Quality.BAD:
            yield self._verdict(verdict)

    def _verdict(self, reading: Reading) -> Label | Mistake:
        part, time_ns, config = "", reading.time_ns, self._config
        if config.part:
            sent = self._last.get("part")
            part = (sent and sent.quality is not Quality.BAD and plain(sent.value)) or ""
            if not part:
                return Mistake(f"verdict {shown(reading.value)} of {sent and shown(sent.value)}: no part id")
        if config.time:
            sent = self._last.get("time")
            moment = _time(sent.value, self._zone) if sent and sent.quality is not Quality.BAD else None
            if moment is None:
                return Mistake(f"verdict {shown(reading.value)}: time {sent and shown(sent.value)} is no time")
            time_ns = moment
        if not isinstance(reading.value, (str, int, float)):
            return Mistake(f"verdict {shown(reading.value)}: expected a name or a number")
        return label(self._asset, reading.value, part, time_ns, config)


class Columns(NamedTuple):
    """Where in a row of a CSV a verdict is."""

    delimiter: str
    verdict: int
    part: int | None
    times: Times | None
    only: tuple[tuple[int, str], ...]
    cells: int  # that a row needs


def columns(header: str, config: Inspection) -> Columns | Mistake:
    """The columns of a header line."""
    delimiter = delimiter_of(config, header)
    try:
        names = [cell.strip() for cell in parse(header, delimiter)]
    except DataError as e:
        return Mistake(header_is(config.skip_rows + 1, e))
    return columns_of(names, delimiter, config)


def columns_of(names: Sequence[str], delimiter: str, config: Inspection) -> Columns | Mistake:
    """The columns among these names."""
    wanted = [config.verdict_column, config.part_column, config.time_column, *config.only]
    try:
        header = Header("", list(names))
        at = {name: header.at(name) for name in filter(None, wanted)}
        timed = Times(header, config) if config.time_column else None
    except ConfigError as e:
        return Mistake(str(e).removeprefix(": "))
    only = tuple((at[name], value) for name, value in config.only.items())
    needed = max(*at.values(), header.at(config.date_column) if config.date_column else 0) + 1
    return Columns(delimiter, at[config.verdict_column], at.get(config.part_column), timed, only, needed)


def verdict(asset: str, line: str, where: Columns, config: Inspection) -> Label | Mistake | None:
    """A row's verdict; None when the row is of another machine, or empty."""
    try:
        cells = parse(line, where.delimiter, strict=True)
    except DataError as e:
        return Mistake(f"{shown(line)}: {e}")
    return verdict_of(asset, cells, line, where, config)


def verdict_of(asset: str, row: Sequence[str], line: str, where: Columns, config: Inspection) -> Label | Mistake | None:
    """The verdict of a row's cells; line: the row in messages."""
    cells = [cell.strip() for cell in row]
    if any(cells) and where.cells > len(cells):
        return Mistake(f"{shown(line)}: has {len(cells)} cells, expected at least {where.cells}")
    if not any(cells) or any(cells[i] != value for i, value in where.only):
        return None
    for column, at in ((config.verdict_column, where.verdict), (config.part_column, where.part)):
        if at is not None and not cells[at]:
            return Mistake(f"{shown(line)}: nothing in column {column!r}")
    part = cells[where.part] if where.part is not None else ""
    if where.times is None:
        return Label(asset, 0, ALWAYS_NS, cells[where.verdict], "inspection", part)
    try:
        time_ns = where.times.parse(cells)
    except ValueError as e:
        return Mistake(f"{shown(line)}: {e}")
    return label(asset, cells[where.verdict], part, time_ns, config)


def label(asset: str, value: str | float, part: str, time_ns: int, config: Inspection) -> Label:
    """A verdict of a part, or of the time around `time_ns`."""
    before = config.part_age if part else config.tolerance
    start = max(0, time_ns - round(before * 1e9))
    text = value.strip() if isinstance(value, str) else value
    return Label(asset, start, time_ns + round(config.tolerance * 1e9), text, "inspection", part)


def _time(value: object, zone: tzinfo) -> int | None:
    """Nanoseconds since 1970 of a station's time stamp, a number in whatever unit; None: it is no time."""
    try:
        return times.parse(value, None, zone)
    except ValueError:
        return None


def shown(value: object) -> str:
    """Anything that came from outside, short."""
    return repr(value if isinstance(value, (str, int, float)) else f"a {type(value).__name__}")[:80]
