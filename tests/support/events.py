# SPDX-License-Identifier: Apache-2.0
"""Events for tests, with the decisions that made them."""

from __future__ import annotations

from typing import Any

import msgspec
from fedge_agent.types import Decision, Event

OF_EVENTS = {"key", "state", "worst", "severity", "since_ns", "kind", "reason"}


def make_event(key: str = "gw:m:pump:1", state: str = "opened", **fields: Any) -> Event:
    """An event of a pump; `fields` are those of the event or of its decision."""
    decision = Decision("pump", "m", 3, 1_700_000_000_000_000_000, 2.5, 1.0, "anomaly", 0.0, 0.001)
    return changed(Event(key, state, decision, 2.5), **fields)


def changed(event: Event, **fields: Any) -> Event:
    """The event with some fields of its own or of its decision changed."""
    own = {name: fields.pop(name) for name in OF_EVENTS & set(fields)}
    return msgspec.structs.replace(event, decision=msgspec.structs.replace(event.decision, **fields), **own)
