# SPDX-License-Identifier: Apache-2.0
"""What a running gateway says of machines that it cannot see: `status`, its exit code, `/healthz` and the metrics."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from asyncua.sync import Client
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from support.gateway import JOURNAL, Gateway
from support.waiting import LONGEST_S

CARD = Card("anomaly", (Channel("temp"), Channel("press")), WindowSpec(1, 10, 5), ("mean", "std"))
START = datetime(2026, 6, 1, 8, tzinfo=timezone.utc)


class Follower(Gateway):
    """An agent that follows a CSV file."""

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
baseline = "2m"
when = { silent_for = "5s" }
[output.scada]
type = "opcua-server"
listen = "127.0.0.1:0"
"""
            + JOURNAL,
            zoo.autoencoder(CARD, 4, (3, 2)),
        )
        self.start("gw")

    def condition(self) -> dict[str, Any]:
        found: dict[str, Any] = self.asset()["condition"]
        return found

    def scada(self, name: str) -> tuple[Any, str]:
        """Value and status of a variable of our OPC UA server."""
        with Client(self.status("gw")["outputs"]["scada"]["listens"]) as client:
            data = client.get_node(f"ns=2;s=pump-1.{name}").read_data_value(raise_on_bad_status=False)
            return data.Value.Value, data.StatusCode.name

    def silences(self) -> list[dict[str, Any]]:
        """The events about its silence."""
        return [e for e in self.events() if e["kind"] == "silent"]

    def becomes(self, state: str, *words: str) -> str:
        """Wait until the asset is in this state, for a reason with these words, as `status` prints it."""

        def holds() -> bool:
            found = self.condition()
            return found["state"] == state and all(w in found["text"] for w in words)

        self.wait(holds, f"{state} {words}")
        return self.told("gw")


class Line:
    """Writes a row each 10 ms, a second of the machine's time apart. `press`: how that value is written."""

    def __init__(self, path: Path) -> None:
        self.press, self._path, self._stop = "{value:.2f}", path, threading.Event()
        path.write_text("time,temp,press\n")
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        rng, row = np.random.default_rng(0), 0
        while not self._stop.wait(0.01):
            value, row = float(rng.normal(3.0, 0.1)), row + 1
            with self._path.open("a") as file:
                time = START + timedelta(seconds=row)
                file.write(f"{time.isoformat()},{20 + rng.normal():.2f},{self.press.format(value=value)}\n")

    def stop(self) -> None:
        """Write no more."""
        self._stop.set()
        self._thread.join(LONGEST_S)


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    made = Line(tmp_path / "data.csv")
    yield made
    made.stop()


@pytest.fixture
def gateway(tmp_path: Path, line: Line) -> Iterator[Follower]:
    made = Follower(tmp_path)
    yield made
    assert made.end() == [0], (tmp_path / "gw.log").read_text()[-2000:]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_machine_that_decides_and_stops_is_stale_and_then_decides_again(gateway: Follower, line: Line) -> None:
    gateway.becomes("waiting", "baseline")
    assert gateway.text("gw", "/healthz") == "ok\n"
    printed = gateway.becomes("deciding")
    assert printed.startswith("asset pump-1: normal, score ") and "PROBLEM" not in printed
    assert gateway.condition()["age_s"] < 10 and gateway.text("gw", "/healthz") == "ok\n"
    metrics = gateway.text("gw", "/metrics")
    assert 'fedge_agent_condition{name="pump-1",reason="",state="deciding"} 1.0' in metrics
    assert 'fedge_agent_decision_age_seconds{name="pump-1"}' in metrics
    gateway.wait(lambda: "listens" in gateway.status("gw")["outputs"]["scada"], "our OPC UA server")
    gateway.wait(lambda: gateway.scada("Score")[1] == "Good", "SCADA to see a score")
    line.press = "broken wire"
    printed = gateway.becomes("stale", "values of press are not numbers, e.g. 'broken wire'")
    assert re.match(r"PROBLEM asset pump-1: STALE no decision for \d+ s: ", printed)
    assert gateway.text("gw", "/healthz") == "not well\n"
    assert 'fedge_agent_problem{name="pump-1"} 1.0' in gateway.text("gw", "/metrics")
    gateway.wait(lambda: gateway.scada("Score") == (None, "BadNoData"), "SCADA to see no old score")
    assert gateway.scada("Label") in (("silent", "Good"), (None, "BadNoData"))
    gateway.wait(gateway.silences, "the event")
    gateway.kill("gw")
    gateway.start("gw")
    gateway.becomes("waiting", "values of press are not numbers")
    line.press = "{value:.2f}"
    gateway.becomes("deciding")
    gateway.wait(lambda: len(gateway.silences()) > 1, "its end")
    opened, cleared = gateway.silences()  # the kill repeated nothing and forgot nothing
    assert (opened["state"], cleared["state"]) == ("opened", "cleared") and opened["key"] == cleared["key"]
    assert "press" in opened["reason"] and opened["score"] is None and cleared["score"] is not None
