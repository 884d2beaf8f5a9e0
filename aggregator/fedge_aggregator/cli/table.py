# SPDX-License-Identifier: Apache-2.0
"""Rows printed as a table for people, or as JSON for programs."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import click
import msgspec
from fedge_models.messages import idle

INDENT = "    "
TIMES = ("created", "joined", "seen", "revoked", "time")  # columns with Unix times


def show(rows: list[dict[str, Any]], as_json: bool, empty: str = "", width: int | None = None) -> None:
    """Print rows; empty: for people, what to do when there are none; width: of lines.

    Columns that do not fit are listed below each row, with their names, so that nothing is left out.
    """
    if as_json:
        click.echo(msgspec.json.encode(rows))
        return
    if not rows:
        click.echo(empty)
        return
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [columns, *([_cell(key, row.get(key)) for key in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    fitting = len(widths) if width is None else _fitting(widths, width)
    for number, line in enumerate(cells):
        click.echo("  ".join(cell.ljust(w) for cell, w in zip(line[:fitting], widths, strict=False)).rstrip())
        rest = [f"{name} {cell}" for name, cell in zip(columns[fitting:], line[fitting:], strict=True) if cell != "-"]
        if number and rest:
            lines = textwrap.wrap(" · ".join(rest), width or 0, initial_indent=INDENT, subsequent_indent=INDENT)
            click.echo("\n".join(lines))


def _fitting(widths: list[int], width: int) -> int:
    """How many columns fit, with two spaces between them; the first always does."""
    ends = [sum(widths[: n + 1]) + 2 * n for n in range(len(widths))]
    return max(1, sum(end <= width for end in ends))


def metric_line(metric: str, summary: dict[str, Any]) -> str:
    """What sites report of a release, in a line: median, spread, number of sites, worst site."""
    middle = summary.get("median", summary.get("mean"))  # earlier state folders have means
    return (
        f"{metric} {middle:.4g} ± {summary['spread']:.2g} over {summary['nodes']} sites, "
        f"worst {summary['worst']:.4g} at {summary['worst_node']}"
    )


def idle_words(said: Mapping[str, str]) -> str:
    """Why nodes send no update, in words: "gw-3 (too few samples)"."""
    return ", ".join(f"{node} ({idle.WORDS[idle.Idle(why)]})" for node, why in said.items())


def older_words(said: Mapping[str, int]) -> str:
    """Which older release serves at nodes that refused the newest, in words: "gw-3 (release 33 serves there)"."""
    return ", ".join(
        f"{node} ({f'release {version} serves' if version else 'its model file serves'} there)"
        for node, version in said.items()
    )


def _cell(key: str, value: Any) -> str:
    if value is None:
        return "-"
    if key in TIMES:
        return datetime.fromtimestamp(value).strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, dict):
        return ", ".join(f"{k} {v:g}" for k, v in value.items()) or "-"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
