# SPDX-License-Identifier: Apache-2.0
"""The example configuration read as text: its tables, and the comment beside each key."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

HEADER = re.compile(r"^(?:# )?\[(\w+(?:\.[\w-]+)*)\]\s*(?:# (.*))?$")
KEY = re.compile(r"^(?:# )?([a-z]\w*(?:\.\w+)?) = (.*?)(?:\s+# (.*))?$")
MORE = re.compile(r"^\s{8,}# (.*)$")  # a comment that goes on in the next line


@dataclass
class Table:
    """One table of the file."""

    path: tuple[str, ...]  # e.g. ("source", "plc")
    lines: list[str] = field(default_factory=list)  # as written, header included
    comments: dict[str, str] = field(default_factory=dict)  # by key
    type: str = ""  # of a source or output


def read(path: Path) -> list[Table]:
    """All tables of an example, in order; commented ones too."""
    tables: list[Table] = []
    key = ""
    for line in path.read_text("utf-8").splitlines():
        if header := HEADER.match(line):
            tables.append(Table(tuple(header[1].split(".")), [line]))
            key = ""
            continue
        if not tables:
            continue
        tables[-1].lines.append(line)
        if found := KEY.match(line):
            key = found[1].split(".")[0]
            tables[-1].comments.setdefault(key, found[3] or "")
            if key == "type":
                tables[-1].type = found[2].strip('"')
        elif (more := MORE.match(line)) and key:
            tables[-1].comments[key] += f" {more[1]}"
        else:
            key = ""
    return tables


def comments(tables: list[Table], path: tuple[str, ...]) -> dict[str, str]:
    """Comments of all tables at a path; "*" stands for any name."""
    found: dict[str, str] = {}
    for table in tables:
        if len(table.path) == len(path) and all(w in ("*", p) for w, p in zip(path, table.path, strict=True)):
            found = {**table.comments, **found}
    return found
