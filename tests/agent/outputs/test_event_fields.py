# SPDX-License-Identifier: Apache-2.0
"""The texts that people read in a work order: which channel, labels or targets they name."""

from __future__ import annotations

import msgspec
import pytest
from fedge_agent.outputs import event_fields
from support.events import make_event

VALUES = {"worn": 0.9123456, "leak": 1e-06, "loose": 0.75, "slip": 2.5e-07}


@pytest.mark.parametrize(
    ("label", "channel", "values", "cause"),
    [
        ("worn;loose", "", VALUES, "(worn 0.912) (loose 0.75)"),
        ("worn", "", VALUES, "(worn 0.912)"),
        ("wear", "", {"wear": 41.5, "life": 12.0}, "(wear 41.5)"),
        ("normal", "", {"wear": 41.5, "life": 12.0}, "(wear 41.5) (life 12)"),  # an event that is over
        ("anomaly", "current", {}, "(current)"),
        ("anomaly", "", {}, ""),
    ],
)
def test_a_cause_names_what_is_in_alarm(label: str, channel: str, values: dict[str, float], cause: str) -> None:
    event = make_event()
    decision = msgspec.structs.replace(event.decision, label=label, channel=channel, values=values)
    made = event_fields.values(msgspec.structs.replace(event, decision=decision))
    assert made["cause"] == cause and set(made["values"]) == set(values)
    assert made["summary"].startswith(f"{label} on pump{' ' if cause else ''}{cause}: score ")
