# SPDX-License-Identifier: Apache-2.0
"""The rooms of the code and what each promises, in the first sentence of its own docstring."""

from __future__ import annotations

import ast
from pathlib import Path

from .markdown import prose

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("models/fedge_models", "agent/fedge_agent", "aggregator/fedge_aggregator", "fleet/fedge_fleet")


def rooms(package: str) -> list[Path]:
    """Every folder of a package that is imported, the package itself first."""
    return sorted(p.parent for p in (ROOT / package).rglob("__init__.py"))


def sentence(room: Path) -> str:
    """The first paragraph of a room's docstring."""
    docstring = ast.get_docstring(ast.parse((room / "__init__.py").read_text("utf-8"))) or ""
    return " ".join(docstring.split("\n\n")[0].split())


def page() -> str:
    """A list a package: its rooms and their sentences, the deeper ones indented."""
    parts = []
    for package in PACKAGES:
        top, *below = rooms(package)
        lines = [prose(f"**`{top.relative_to(ROOT)}/`**: {sentence(top)}"), ""]
        for room in below:
            inner = room.relative_to(top)
            indent = "  " * (len(inner.parts) - 1)
            lines.append(prose(f"`{inner}/`: {sentence(room)}", f"{indent}- ", f"{indent}  "))
        parts.append("\n".join(lines))
    return "\n\n".join(parts)
