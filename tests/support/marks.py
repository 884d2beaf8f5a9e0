# SPDX-License-Identifier: Apache-2.0
"""The marks of a test module, by what it imports: whether its tests start processes, or need software of others."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from support.paths import SUPPORT

PROCESS = {"subprocess", "multiprocessing", "fedge_fleet.machines.processes"}
COUNTERPART = {"support.counterparts"}


def marks_of(path: Path) -> set[str]:
    """`process` and `counterpart` as they apply to the module; `unit` where neither does."""
    imports = imported(path)
    marks = {"process"} if imports & PROCESS else set()
    if imports & COUNTERPART:
        marks.add("counterpart")
    return marks or {"unit"}


@cache
def imported(path: Path) -> frozenset[str]:
    """Every module that the file imports, at its top or later; those that its support modules import too."""
    names = set(_names(ast.parse(path.read_text())))
    inside = [name.removeprefix("support.").replace(".", "/") for name in names if name.startswith("support.")]
    ours = [SUPPORT / f"{name}.py" for name in inside]
    return frozenset(names.union(*(imported(file) for file in ours if file.exists())))


def _names(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
