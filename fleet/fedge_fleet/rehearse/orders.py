# SPDX-License-Identifier: Apache-2.0
"""What the outputs would have sent: counted from the files of events, with a request as the real output makes it.

A request is made by the output's own `preview`, which sends nothing and shows no secret.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from fedge_agent.durable.event_desk import Desk
from fedge_agent.durable.event_queue import SPOOL_FILE
from fedge_agent.figures import of_event
from fedge_agent.outputs.registry import build
from fedge_agent.types import SEVERITIES, Event, Table
from fedge_models.errors import FedgeError

from .outputs import described
from .plan import Gateway


class Sent(NamedTuple):
    """What one output would have sent."""

    output: str
    target: str  # type and address
    opened: int
    raised: int
    cleared: int
    below: int  # events below the severity that the output asks for
    example: dict[str, Any]  # the request for the first event, without secrets; empty: there was none

    @property
    def total(self) -> int:
        """Events that would have been sent."""
        return self.opened + self.raised + self.cleared


def of_gateway(gateway: Gateway) -> list[Sent]:
    """Read what became of the events of a gateway, output by output."""
    config = gateway.file.config
    return [_of_output(gateway, name, table) for name, table in config.output.items()]


def _of_output(gateway: Gateway, name: str, table: Table) -> Sent:
    least = SEVERITIES.index(table.get("severity", SEVERITIES[0])) if table["type"] == "mes" else 0
    counts, below, made = Counter[str](), 0, set[str]()
    for line in _lines(gateway.place.of_output(name)):
        key, state, severity = line["key"], line["state"], line["severity"]
        if SEVERITIES.index(severity) >= least or (state == "cleared" and key in made):
            made.add(key)
            counts[state] += 1
        else:
            below += 1
    example = _example(gateway, name, table, made)
    return Sent(name, described(table), counts["opened"], counts["raised"], counts["cleared"], below, example)


def _lines(path: Path) -> list[dict[str, Any]]:
    """The events of a file, and before them those of the file that it replaced."""
    found = [p for p in (path.with_name(path.name + ".1"), path) if p.exists()]
    return [msgspec.json.decode(line) for p in found for line in p.read_bytes().splitlines() if line.strip()]


def _example(gateway: Gateway, name: str, table: Table, made: set[str]) -> dict[str, Any]:
    """The request for the first event that would have been sent."""
    event = _first(gateway.place.state / SPOOL_FILE, name, made)
    if event is None:
        return {}
    output = build(name, table, str(gateway.file.path), gateway.place.state)
    try:
        return output.preview(event) or of_event(event)
    except FedgeError as e:
        return {"error": str(e)}
    finally:
        output.end()


def _first(spool: Path, name: str, made: set[str]) -> Event | None:
    if not made or not spool.exists():
        return None
    with Desk(spool) as desk:
        return next((o.event for o in desk.orders(name) if o.event is not None and o.key in made), None)
