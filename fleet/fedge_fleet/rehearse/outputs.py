# SPDX-License-Identifier: Apache-2.0
"""What replaces each output of a gateway: a file with every event, and at the end the requests that it would have made.

Every type of output is replaced alike, also one that a later version adds: no output of a rehearsal reaches anything.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedge_agent.outputs.registry import OUTPUTS
from fedge_agent.types import Table
from fedge_models.system import kinds
from fedge_models.system.addresses import shown_device

MOST_BYTES = 1 << 30  # of a file of events; then a second one begins
ADDRESSES = ("url", "listen", "path")
VALUES_TOO: dict[
    str, Callable[[Table], bool]
] = {  # type -> whether its table also shows decisions, which a file of events does not have
    "mqtt": lambda table: table.get("decisions", "off") != "off",
    "opcua": lambda table: bool(table.get("decisions")),
    "opcua-server": lambda table: True,
    "sparkplug": lambda table: True,
}


def recorder(path: Path) -> Table:
    """The table of an output that writes each event to a file."""
    return {"type": "log", "path": str(path), "max_bytes": MOST_BYTES}


def words(gateway: str, name: str, table: Table, where: str) -> list[str]:
    """Say what an output is replaced by. Raises ConfigError for a type that there is not."""
    kinds.choose(table, {n: n for n in OUTPUTS}, where, f"output.{name}", "type", "output type")
    made = [f"gateway {gateway}: [output.{name}] ({described(table)}) becomes a file of its events; nothing is sent"]
    if (shows := VALUES_TOO.get(table["type"])) is not None and shows(table):
        made.append(f"gateway {gateway}: [output.{name}] would also show each decision; the file has only events")
    return made


def described(table: Table) -> str:
    """An output's type and address, without secrets."""
    at: Any = next((table[key] for key in ADDRESSES if key in table), "")
    return f"{table['type']}, {shown_device(str(at))}" if at else str(table["type"])
