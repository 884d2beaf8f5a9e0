# SPDX-License-Identifier: Apache-2.0
"""Write tables as TOML: what a configuration can hold, in the form that `settings.read` reads again. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from fedge_agent.protocols.csv.snippet import toml

_BARE = re.compile(r"[A-Za-z0-9_-]+")
DEEP = 2  # tables nested deeper are written on one line


def text(table: Mapping[str, Any]) -> str:
    """The whole file."""
    return "\n".join(_lines(table, ())) + "\n"


def _lines(table: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    tables = {k: v for k, v in table.items() if isinstance(v, dict) and len(path) < DEEP}
    if path and (not table or len(tables) < len(table)):
        yield f"[{'.'.join(map(_key, path))}]"
    for key, value in table.items():
        if key not in tables:
            yield f"{_key(key)} = {toml(value)}"
    for key, value in tables.items():
        yield from _lines(value, (*path, key))


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else toml(name)
