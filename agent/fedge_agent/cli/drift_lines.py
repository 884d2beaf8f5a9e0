# SPDX-License-Identifier: Apache-2.0
"""What `fedge-agent status` says of a machine's inputs: what drifts, how many windows are outside what was learnt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fedge_models.system import times

from ..machines.condition_words import duration, names

ALONE = 5  # machines that drift get a line each
SHOWN = 2  # columns in a line
LEAST_SHARE = 0.02  # of windows outside, from which a line says so: of those that were learnt from 1 % are


def of_inputs(entry: Mapping[str, Any]) -> str:
    """The inputs of a machine in its line; empty where nothing is outside and enough was learnt."""
    if not entry["watched"]:
        return ""
    share, covered = entry["outside_share"], entry["covered_s"]
    said = f"; {share:.0%} of the last windows outside what was learnt" if share and share >= LEAST_SHARE else ""
    if entry["columns"] and not entry["open"]:
        now = names((column["text"] for column in entry["columns"].values()), SHOWN)
        said += f" (now {now})" if said else f"; in the last windows {now}"
    if said and covered < entry["baseline_s"]:
        said += f"; a drift counts once {duration(entry['baseline_s'])} are learnt, {duration(covered)} are"
    return said


def problems(assets: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """A line for each machine whose inputs have drifted; of many, the others are named."""
    those = [name for name, entry in assets.items() if entry["inputs"]["open"]]
    for name in those[:ALONE]:
        yield "", (_drift(name, assets[name]["inputs"]),)
    if others := those[ALONE:]:
        yield "", (f"the inputs of {len(others)} more assets ({names(others)}) have drifted: fedge-agent event list",)


def _drift(name: str, entry: Mapping[str, Any]) -> str:
    reason, columns = entry["reason"], entry["columns"]
    more = [c["text"] for column, c in columns.items() if c["lasts"] and not reason.startswith(f"{column} ")]
    also, since = f"; also {names(more)}" if more else "", times.shown(entry["since_ns"])
    accept = f"if this is the new normal: fedge-agent event accept {entry['key']}"
    return f"asset {name}: its inputs have drifted since {since} UTC: {reason}{also}; {accept}"
