# SPDX-License-Identifier: Apache-2.0
"""A running gateway whose machine's inputs drift: one event, said everywhere, kept over kill -9, and accepted."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from support.gateway import JOURNAL, Gateway

CARD = Card("anomaly", (Channel("temp"), Channel("press")), WindowSpec(1, 10, 5), ("mean", "std"))
START = datetime(2026, 6, 1, 8, tzinfo=timezone.utc)


class Follower(Gateway):
    """An agent that follows a CSV file of a row a second."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            folder,
            "pump-1",
            """
[source.csv]
type = "files"
path = "data.csv"
time_column = "time"
tail = true
start = "begin"
poll = "50ms"
[model.f]
file = "model.onnx"
training = { min_samples = 20 }
[asset.pump-1]
model = "f"
channels.temp = { source = "csv", tag = "temp" }
channels.press = { source = "csv", tag = "press" }
baseline = "10m"
when = { score_above = 1e9, drift_for = "5m", drift_baseline = "10m" }
"""
            + JOURNAL,
            zoo.autoencoder(CARD, 4, (3, 2)),
        )
        self.rows, self.folder = 0, folder
        (folder / "data.csv").write_text("time,temp,press\n")
        self.start("gw")

    def append(self, seconds: int, temp: float = 20.0) -> None:
        rng = np.random.default_rng(self.rows)
        with (self.folder / "data.csv").open("a") as file:
            for _ in range(seconds):
                time = START + timedelta(seconds=self.rows)
                file.write(f"{time.isoformat()},{temp + rng.normal():.4f},{2 + 0.1 * rng.normal():.4f}\n")
                self.rows += 1

    def inputs(self) -> dict[str, Any]:
        found: dict[str, Any] = self.asset()["inputs"]
        return found

    def drifts(self) -> list[dict[str, Any]]:
        return [e for e in self.events() if e["kind"] == "drift"]


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Follower]:
    made = Follower(tmp_path)
    yield made
    assert made.end() == [0], (tmp_path / "gw.log").read_text()[-2000:]


def test_a_drift_is_an_event_of_its_own_until_it_is_accepted(gateway: Follower) -> None:
    gateway.append(1800)
    gateway.wait(lambda: (gateway.inputs()["covered_s"] or 0) >= 600, "a reference")
    assert not gateway.drifts()
    gateway.append(600, temp=29.0)
    gateway.wait(lambda: len(gateway.drifts()) == 1, "a drift")
    [opened] = gateway.drifts()
    assert (opened["channel"], opened["severity"], opened["state"]) == ("temp", "low", "opened")
    assert opened["moved"] > 2 and re.match(r"temp \(mean\) moved to (28|29)\.", opened["reason"])
    text = gateway.told("gw")
    since = r"PROBLEM asset pump-1: its inputs have drifted since 2026-06-01 08:(2[89]|3\d)"  # in blocks of a minute
    assert re.search(since, text) and opened["key"] in text
    gateway.kill("gw")
    gateway.start("gw")
    gateway.append(300, temp=29.0)
    gateway.wait(lambda: gateway.inputs()["outside_share"] is not None, "blocks after the restart")
    assert gateway.inputs()["open"] and len(gateway.drifts()) == 1
    gateway.wait(lambda: opened["key"] in gateway.call("event", "list").output, "the list, though it was killed")
    metrics = gateway.text("gw", "/metrics")
    assert 'fedge_agent_drift{name="pump-1"} 1.0' in metrics and 'drift_moved{name="pump-1/temp (mean)"}' in metrics
    accepted = gateway.call("event", "accept", opened["key"])
    assert accepted.exit_code == 0, accepted.output

    def cleared() -> bool:
        gateway.append(60, temp=29.0)
        return len(gateway.drifts()) == 2

    gateway.wait(cleared, "it is over")
    assert gateway.drifts()[1]["state"] == "cleared" and gateway.drifts()[1]["key"] == opened["key"]
    gateway.append(1200, temp=29.0)
    gateway.wait(lambda: not gateway.inputs()["columns"], "what was accepted is no drift")
    assert "drift" not in gateway.told("gw") and json.dumps(gateway.inputs())
