# SPDX-License-Identifier: Apache-2.0
"""Show how a table is understood, and write the lines that read it: [source.NAME] and channels. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from fedge_models.system import times
from fedge_models.system.text import printable

from . import listing
from .clock import OFFSET, Clock
from .form import Form, is_workbook
from .guess import Column, Understood, keys_of
from .numbers import reader

SHOWN = 28  # characters of a cell


def key_lines(form: msgspec.Struct) -> list[str]:
    """The keys that are not at their defaults, as TOML."""
    return [f"{name} = {toml(value)}" for name, value in keys_of(form).items()]


def toml(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{toml(key)} = {toml(item)}' for key, item in value.items())} }}"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t")
        return '"' + re.sub(r"[\x00-\x1f\x7f]", lambda m: f"\\u{ord(m[0]):04x}", escaped) + '"'
    return str(value).lower() if isinstance(value, bool) else str(value)


def table(found: Understood) -> Iterator[str]:
    """A line for each column: what it is taken for, its first cell and what is read from it."""
    lines = [("column", "taken as", "first cell", "read as")]
    for column in found.columns:
        cell = column.cells[0] if column.cells else ""
        lines.append(
            (_short(column.name or "(no name)"), _kind(column, found.form), _short(cell), _read(column, found))
        )
    widths = [max(map(len, texts)) for texts in zip(*lines, strict=True)]
    for line in lines:
        yield "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()


def lines(path: Path, found: Understood, name: str) -> Iterator[str]:
    """Configuration lines of a source and of possible channels."""
    form = found.form
    yield f"[source.{name}]"
    yield 'type = "files"'
    yield f"path = {toml(str(path.resolve()))}"
    yield from key_lines(form)
    if form.time_column and can_be_followed(path, found):
        yield "tail = true          # follow what is appended; without it, the file is replayed"
        yield '# start = "begin"    # also the rows that are there already'
    if needs_zone(found):
        yield '# time_zone = "Europe/Berlin"    # the times name no zone and are taken as UTC: say which it is'
        yield "#                 with it, the hour that comes twice when clocks are set back is told apart"
    yield from (f"# {doubt}" for doubt in found.doubts)
    yield ""
    yield "[asset.NAME]"
    for channel, tag in zip(_names(found.tags), found.tags, strict=True):
        yield f"channels.{channel} = {{ source = {toml(name)}, tag = {toml(tag)} }}"


def can_be_followed(path: Path, found: Understood) -> bool:
    """Whether its rows may be followed as they are appended."""
    plain = not is_workbook(path) and (path.suffix != ".gz" or listing.is_pattern(path))
    return plain and found.form.time_format != "elapsed" and found.order.kind in ("forward", "hour again")


def needs_zone(found: Understood) -> bool:
    """Whether the times are local ones of a zone that the file does not name."""
    form = found.form
    if (
        not form.time_column
        or form.time_zone != "UTC"
        or form.time_format.startswith(("unix", "elapsed", "labview", "since", "filetime"))
        or "%z" in form.time_format.lower()
    ):
        return False
    cells = next((c.cells for c in found.columns if c.kind == "time"), [])
    if form.time_format:
        return True
    return bool(cells) and not OFFSET.search(cells[0], 10) and reader(form)(cells[0]) is None


def source_name(path: Path) -> str:
    """A name for the source of a file."""
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", re.split(r"[.*?\[]", path.name)[0]).strip("-_")
    return (stem or "file")[:64]


def _names(tags: Sequence[str]) -> list[str]:
    """Channel names: the tags' letters, made unique."""
    made: list[str] = []
    for tag in tags:
        base = re.sub(r"\W+", "_", tag, flags=re.A).strip("_") or "channel"
        name, n = base, 1
        while name in made:
            n += 1
            name = f"{base}_{n}"
        made.append(name)
    return made


def _kind(column: Column, form: Form) -> str:
    words = {"number": "numbers", "tag": "the row's tag", "value": "values", "text": "text: a label, or context"}
    if column.kind == "time":
        return f"times: {form.time_format or 'ISO 8601 or Unix time'}"
    return words.get(column.kind, column.kind)


def _read(column: Column, found: Understood) -> str:
    if not column.cells:
        return ""
    if column.kind == "time" and not found.form.date_column:
        try:
            time_ns = Clock(found.form).parse(column.cells[0])
        except ValueError as e:
            return str(e)
        return f"{time_ns / 1e9:g} s" if found.form.time_format == "elapsed" else f"{times.shown(time_ns)} UTC"
    if column.kind in ("number", "value"):
        values = [v for cell in column.cells if (v := reader(found.form)(cell)) is not None]
        return f"{values[0]:g} ({min(values):g} to {max(values):g})" if values else ""
    return ""


def _short(text: str) -> str:
    shown = printable(text)
    return shown if len(shown) <= SHOWN else f"{shown[: SHOWN - 1]}…"
