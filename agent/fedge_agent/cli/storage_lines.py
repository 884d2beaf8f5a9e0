# SPDX-License-Identifier: Apache-2.0
"""What `fedge-agent status` says of the state folder: each is a PROBLEM."""

from __future__ import annotations

from typing import Any

from ..machines.condition_words import duration

_MEMORY = "; events are delivered from memory, and would not survive the end of the agent"


def problems(storage: dict[str, Any]) -> list[str]:
    """What cannot be written or read now, and what was damaged and is still set aside."""
    memory = {"spool": _MEMORY if storage["in_memory"] else "", "samples": _held(storage["samples_in_memory"])}
    made = [f"no aggregator: {storage['identity']}"] if storage["identity"] else []
    made += [text for text in (storage["moved"], storage["copied"]) if text]
    for name, text in storage["problems"].items():
        made.append(f"{name} cannot be written: {text}{memory.get(name, '')}")
    made += [f"{name} cannot be read: {text}" for name, text in storage["unreadable"].items()]
    return [*made, *storage["damaged"]]


def _held(held: dict[str, Any] | None) -> str:
    """Where samples are meanwhile."""
    if held is None:
        return ""
    return (
        f"; for {duration(held['age_s'])} samples have been in memory only, at most {held['bytes'] >> 20} MiB of them; "
        f"what came since ({held['samples']:,} samples) would not survive the end of the agent"
    )
