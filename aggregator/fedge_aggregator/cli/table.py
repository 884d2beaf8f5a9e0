# SPDX-License-Identifier: Apache-2.0
"""Rows printed as a table for people, or as JSON for programs."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click
import msgspec

TIMES = ("created", "joined", "seen", "revoked", "time")  # columns with Unix times


def show(rows: list[dict[str, Any]], as_json: bool, empty: str = "") -> None:
    """Print rows; empty: for people, what to do when there are none."""
    if as_json:
        click.echo(msgspec.json.encode(rows))
        return
    if not rows:
        click.echo(empty)
        return
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [columns, *([_cell(key, row.get(key)) for key in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    for line in cells:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def metric_line(metric: str, summary: dict[str, Any]) -> str:
    """What sites report of a release, in a line: mean, spread, number of sites, worst site."""
    return (
        f"{metric} {summary['mean']:.4g} ± {summary['spread']:.2g} over {summary['nodes']} sites, "
        f"worst {summary['worst']:.4g} at {summary['worst_node']}"
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
