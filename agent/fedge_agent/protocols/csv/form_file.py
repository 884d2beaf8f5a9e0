# SPDX-License-Identifier: Apache-2.0
"""The form of a table from a TOML file: its keys alone, or a source of type "files" in an agent's configuration."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from fedge_models.errors import ConfigError
from fedge_models.system import settings

from .form import Form


def load_form(path: Path, data: Path) -> Form:
    """The form for a file of data. Raises ConfigError."""
    table = settings.read(path)
    if "source" not in table:
        return settings.convert(table, Form, str(path))
    name, source = _chosen(path, table["source"], data)
    known = set(Form.__struct_fields__)
    return settings.convert({k: v for k, v in source.items() if k in known}, Form, str(path), f"source.{name}")


def _chosen(path: Path, sources: Any, data: Path) -> tuple[str, dict[str, Any]]:
    """The source that reads this file, or the only one that reads files."""
    tables = sources if isinstance(sources, dict) else {}
    found = {n: t for n, t in tables.items() if isinstance(t, dict) and t.get("type") == "files"}
    for name, table in found.items():
        if fnmatch(str(data.resolve()), str((path.parent / str(table.get("path", ""))).resolve())):
            return name, table
    if len(found) == 1:
        return next(iter(found.items()))
    names = ", ".join(found) or "none"
    raise ConfigError(f'{path}: expected one source of type "files" that reads {data}; there is: {names}')
