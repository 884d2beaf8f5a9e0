# SPDX-License-Identifier: Apache-2.0
"""Measured figures, from the JSON that benchmarks left in `benchmarks/results/`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .markdown import code, prose, table

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks/results"
ORDER = (
    "accuracy", "tables", "ablation", "hostile", "attacks", "alternatives", "trust", "privacy", "latency", "footprint",
    "wire", "training", "convolutions", "trunk", "features", "early_warning", "rules", "aggregator", "demo", "faults",
    "soak",
)  # fmt: skip
COSTS = ("memory", "latency", "training", "bytes", "accuracy", "faults")


def results() -> dict[str, dict[str, Any]]:
    """Each result by its benchmark's name."""
    return {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(RESULTS.glob("*.json"))}


def page() -> str:
    """All results, a section each."""
    found = results()
    costs = found.pop("costs")
    if missing := {*(set(ORDER) - set(found)), *(set(COSTS) - {row["what"] for row in costs["rows"]})}:
        raise ValueError(f"benchmarks/results has no {', '.join(sorted(missing))}")
    order = [*ORDER, *sorted(set(found) - set(ORDER))]
    return "\n\n".join(_section(found[name]) for name in order)


def costs() -> str:
    """What it costs, a row each; each figure is one of a result's."""
    found = results()
    rows = []
    for row in found.pop("costs")["rows"]:
        for figure in row["figures"]:
            if not any(figure in str(cell) for cell in _cells(found[row["from"]])):
                raise ValueError(f"{figure!r} is not in benchmarks/results/{row['from']}.json")
        text = row["text"].format(**found[row["from"]].get("values", {}))  # values of the last run, where it wrote them
        rows.append((row["what"], text, f"`{found[row['from']]['command']}`"))
    return table(("", "measured", "by"), rows)


def _cells(result: dict[str, Any]) -> list[Any]:
    return [c for t in result["tables"] for row in t["rows"] for c in row] + result["notes"]


def _section(result: dict[str, Any]) -> str:
    """A result as it was written by hand, or as a benchmark prints it with --json."""
    if "figures" in result:
        return _printed(result)
    parts = [f"## {result['title']}"]
    parts.append(prose(f"`{result['command']}`, {result['date']}: {result['environment']}."))
    parts += map(prose, result["intro"])
    for part in result["tables"]:
        if part["caption"]:
            parts.append(f"**{part['caption']}**")
        parts.append(table(part["columns"], [[_text(c) for c in row] for row in part["rows"]]))
    if result["notes"]:
        parts.append("\n".join(prose(note, "- ", "  ") for note in result["notes"]))
    return "\n\n".join(parts)


def _printed(result: dict[str, Any]) -> str:
    where = ", ".join(f"{k} {v}" for k, v in result["environment"].items())
    rows = [(code(name), f"{value:g}") for name, value in result["figures"].items()]
    head = prose(f"`{result['command']}`, {result['date']}: {where}.")
    return f"## {result['benchmark']}\n\n{head}\n\n{table(('figure', 'value'), rows)}"


def _text(value: Any) -> str:
    return "" if value is None else f"{value}"
