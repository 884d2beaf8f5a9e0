# SPDX-License-Identifier: Apache-2.0
"""What `fedge-agent status` says of the state folder: each is a PROBLEM."""

from __future__ import annotations

from typing import Any


def problems(storage: dict[str, Any]) -> list[str]:
    """What cannot be written or read now, and what was damaged and is still set aside."""
    memory = "; events are delivered from memory, and would not survive the end of the agent"
    made = [f"no aggregator: {storage['identity']}"] if storage["identity"] else []
    made += [text for text in (storage["moved"], storage["copied"]) if text]
    for name, text in storage["problems"].items():
        held = memory if name == "spool" and storage["in_memory"] else ""
        made.append(f"{name} cannot be written: {text}{held}")
    made += [f"{name} cannot be read: {text}" for name, text in storage["unreadable"].items()]
    return [*made, *storage["damaged"]]
