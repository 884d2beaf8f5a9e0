# SPDX-License-Identifier: Apache-2.0
"""Tables and remarks of a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Literal

Kind = Literal["", "good", "bad", "weak", "kept", "broken"]


@dataclass(frozen=True)
class Cell:
    """A cell with a meaning: how it is coloured."""

    text: str
    kind: Kind = ""


@dataclass
class Table:
    """A table; its first column names the rows."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]
    caption: str = ""
    words: bool = False  # whether the cells hold words, not figures

    def html(self) -> str:
        """The table; empty without a row."""
        if not self.rows:
            return ""
        head = "".join(f"<th scope='col'>{escape(h)}</th>" for h in self.header)
        body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in self.rows)
        caption = f"<figcaption>{escape(self.caption)}</figcaption>" if self.caption else ""
        kind = " class='words'" if self.words else ""
        return (
            f"<figure><h2>{escape(self.title)}</h2><div class='scroll'><table{kind}><thead><tr>{head}</tr></thead>"
            f"<tbody>{body}</tbody></table></div>{caption}</figure>"
        )

    def texts(self) -> list[list[str]]:
        """Header and rows as plain text."""
        return [[*self.header], *([c if isinstance(c, str) else c.text for c in row] for row in self.rows)]


@dataclass
class Note:
    """A list of remarks under a heading."""

    title: str
    items: Sequence[str]

    def html(self) -> str:
        """The list; empty without an item."""
        if not self.items:
            return ""
        items = "".join(f"<li>{escape(item)}</li>" for item in self.items)
        return f"<section><h2>{escape(self.title)}</h2><ul>{items}</ul></section>"


@dataclass
class Details:
    """Parts that are folded away until they are asked for."""

    title: str
    parts: Sequence[Table | Note] = field(default_factory=list)

    def html(self) -> str:
        """The parts behind their title."""
        inner = "".join(part.html() for part in self.parts)
        return f"<details><summary>{escape(self.title)}</summary>{inner}</details>" if inner else ""


def _cell(cell: str | Cell) -> str:
    if isinstance(cell, str):
        return f"<td>{escape(cell)}</td>"
    named = f" class='{cell.kind}'" if cell.kind else ""
    return f"<td{named}>{escape(cell.text)}</td>"
