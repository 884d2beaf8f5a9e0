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
    "accuracy", "serving", "alone", "tables", "ablation", "start_value", "hostile", "attacks", "alternatives",
    "trust", "privacy", "latency", "footprint", "wire", "training", "convolutions", "trunk", "features",
    "early_warning", "input_drift", "labels", "closing_codes", "rules", "aggregator", "demo", "faults", "soak",
)  # fmt: skip
COSTS = ("memory", "latency", "training", "convolutions", "bytes", "accuracy", "joining", "faults")


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
        values = found[row["from"]].get("values", {})  # of the last run, where it wrote them
        text = row["text"].format(strongest=_strongest(found[row["from"]]), **_range(found[row["from"]]), **values)
        rows.append((row["what"], text, f"`{found[row['from']]['command']}`"))
    return table(("", "measured", "by"), rows)


def _strongest(result: dict[str, Any]) -> str:
    """Each net with its speed beside the strongest peer, by the table that names that peer."""
    speeds: dict[tuple[str, str], list[str]] = {}
    for part in result["tables"]:
        if "strongest peer" in part["columns"]:
            for cells in part["rows"]:
                row = dict(zip(part["columns"], cells, strict=False))
                speeds.setdefault((row["net"], row["strongest peer"]), []).append(row[f"times {row['strongest peer']}"])
    return "; ".join(f"{net} {' and '.join(times)} ({peer})" for (net, peer), times in speeds.items())


def _range(result: dict[str, Any]) -> dict[str, str]:
    """The least and most speed of a table that is about one peer."""
    about = [part for part in result["tables"] if (part["caption"] or "").startswith("Times as fast as")]
    speeds = [row[part["columns"].index(o)] for part in about for row in part["rows"] for o in ("SGD", "Adam")]
    return {"least": min(speeds, key=float), "most": max(speeds, key=float)} if speeds else {}


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
