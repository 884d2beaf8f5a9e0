# SPDX-License-Identifier: Apache-2.0
"""The reference configuration calls commented values defaults: each is what the agent takes when the key is left out.

A key without a default (a path, an address) shows an example, and so do the requests that no preset fills in; where a
key has a default and the line shows something else, its comment says "e.g.".
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple, get_args

import msgspec
import pytest
from fedge_agent.config import schema
from fedge_agent.config.plugins import load_class
from fedge_agent.outputs.mes.presets import complete
from fedge_agent.outputs.mes.settings import MesConfig, Step
from fedge_agent.outputs.registry import OUTPUTS
from fedge_agent.sources.registry import SOURCES
from fedge_models.system import settings
from support.paths import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

EXAMPLE = ROOT / "agent/fedge_agent/agent.example.toml"
TABLE = re.compile(r"^(?:# )?\[([\w.-]+)\]")
KEY = re.compile(r"^# ([a-z]\w*) = (.+)$")
PLUGINS = {"source": SOURCES, "output": OUTPUTS}


class Shown(NamedTuple):
    """A commented line: in which table, of which type, which key, the value, and the line."""

    table: str
    struct: type[msgspec.Struct]
    key: str
    value: Any
    line: str


def value_of(text: str) -> tuple[Any, bool]:
    """The value of a line, and whether the line is whole: an array may go on in the next one."""
    try:
        return tomllib.loads(f"x = {text}")["x"], True
    except tomllib.TOMLDecodeError:
        return None, False


def inner(struct: type, name: str) -> type | None:
    """The struct in a field, also of an optional one."""
    types = {field.encode_name: field.type for field in msgspec.structs.fields(struct)}
    parts = [types.get(name), *get_args(types.get(name))]
    return next((t for t in parts if isinstance(t, type) and issubclass(t, msgspec.Struct)), None)


def struct_of(table: str, kind: str) -> type | None:
    """The struct of a table such as "source.plc" (with its `type`), "asset.pump-1.window" or "output.mes.create"."""
    first, _, rest = table.partition(".")
    _, _, path = rest.partition(".")
    if first in PLUGINS:
        struct: type | None = load_class(PLUGINS[first][kind]).Config if kind in PLUGINS[first] else None
    else:
        struct = inner(schema.Config, first)
    for part in path.split(".") if path else []:
        struct = inner(struct, part) if struct is not None else None
    return struct


def kinds() -> dict[tuple[int, str], str]:
    """(line of its header, table) -> the `type` of each source and output."""
    found, at = {}, (0, "")
    for number, line in enumerate(EXAMPLE.read_text().splitlines()):
        if header := TABLE.match(line):
            at = (number, header[1])
        elif kind := re.match(r'^(?:# )?type = "([\w-]+)"', line):
            found[at] = kind[1]
    return found


def shown() -> Iterator[Shown]:
    """Every commented key of the example."""
    known, table, kind = kinds(), "", ""
    for number, line in enumerate(EXAMPLE.read_text().splitlines()):
        if header := TABLE.match(line):
            table = header[1]
            kind = known.get((number, table), kind if table.count(".") > 1 else "")
        elif (found := KEY.match(line)) and (struct := struct_of(table, kind)) is not None:
            value, whole = value_of(found[2])
            if whole and found[1] != "type" and (struct is not Step or table.endswith(".create")):
                yield Shown(table, struct, found[1], value, line)


LINES = list(shown())


def default_of(line: Shown) -> Any:
    """The default of the line's key; NODEFAULT where it must be given, or is left out without one."""
    if line.table.endswith(".create") and line.struct is Step:  # that of the preset
        step = complete(MesConfig(url="http://x"), "x").create
        return getattr(step, line.key)
    for field in msgspec.structs.fields(line.struct):
        if field.encode_name == line.key:
            return (
                field.default_factory()
                if field.default is msgspec.NODEFAULT and callable(field.default_factory)
                else field.default
            )
    raise AssertionError(f"{line.table}: no key {line.key}: {line.line}")


def test_there_are_lines_to_compare() -> None:
    assert len(LINES) > 150 and len({line.struct for line in LINES}) > 15


@pytest.mark.parametrize("line", LINES, ids=lambda line: f"{line.table}.{line.key}")
def test_commented_value_is_the_default(line: Shown) -> None:
    default = default_of(line)
    if default in (None, msgspec.NODEFAULT) or "e.g." in line.line:
        return
    type_ = next(f.type for f in msgspec.structs.fields(line.struct) if f.encode_name == line.key)
    given = settings.convert(line.value, type_, str(EXAMPLE))
    assert given == default, f"[{line.table}] {line.line}: the default is {default!r}"
