# SPDX-License-Identifier: Apache-2.0
"""A real agent whose limit learns from what people found of its alarms, over a kill, until the label is replaced."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from support.gateway import Gateway

T0, ROWS, ODD = 1_780_000_000, 9000, 10  # one of so many ten minutes is unlike the others, after a quiet hour
CARD = Card("anomaly", (Channel("a"), Channel("b")), WindowSpec(1, 10, 10), ("mean", "std"))


class Pump(Gateway):
    """One agent that follows a log of hours in which some minutes are odd."""

    def __init__(self, folder: Path) -> None:
        chance = random.Random(0)
        rows = []
        for i in range(ROWS):
            odd = i > 4000 and i // 100 % ODD == 0
            a = math.sin(i / 7) + chance.gauss(0, 0.3) + 6 * odd
            rows.append(f"{T0 + i},{a:.4f},{chance.gauss(0, 3 if odd else 1):.4f}")
        (folder / "log.csv").write_text("\n".join(["time,a,b", *rows, ""]))
        super().__init__(
            folder,
            "pump-1",
            """
[source.line]
type = "files"
path = "log.csv"
time_column = "time"
tail = true
start = "begin"
[model.m]
file = "model.onnx"
training = { min_samples = 20 }
questions = { a_day = 0 }
[asset.pump-1]
model = "m"
baseline = "10m"
channels.a = { source = "line", tag = "a" }
channels.b = { source = "line", tag = "b" }
when = { for_windows = 1, min_gap = "1m" }
""",
            zoo.autoencoder(CARD, 4, (2,)),
        )

    def limit(self) -> dict[str, Any]:
        found: dict[str, Any] = self.asset()["limit"] or {}
        return found

    def decided(self) -> bool:
        last = self.asset()["last"]
        return last is not None and last["time_ns"] > (T0 + ROWS - 30) * 10**9


@pytest.fixture
def pump(tmp_path: Path) -> Iterator[Pump]:
    made = Pump(tmp_path)
    yield made
    made.end()


def test_a_false_alarm_raises_the_limit_until_its_label_is_replaced(pump: Pump) -> None:
    pump.start("gw")
    pump.wait(pump.decided, "the end of the log")
    pump.wait(lambda: (pump.asset()["events"] or 0) > 1, "events")
    assert pump.limit()["factor"] == 1.0 and "×" not in pump.call("status").output
    odd = [T0 + 4999, T0 + 5110]  # around one of the alarms
    said = pump.call("label", "pump-1", "normal", "--from", str(odd[0]), "--to", str(odd[1]))
    assert said.exit_code == 0, said.output
    pump.wait(lambda: pump.limit()["factor"] > 1, "the move")
    assert pump.limit()["false_alarms"] == 1
    assert "limit raised to 1.04 × the learnt one after 1 false alarm (at most 1.5 ×)" in pump.call("status").output
    pump.kill("gw")
    pump.start("gw")
    pump.wait(lambda: pump.limit().get("factor", 1) > 1, "the move after a kill")
    assert 'fedge_agent_limit_factor{name="pump-1"} 1.04' in pump.text("gw", "/metrics")
    pump.call("label", "pump-1", "anomaly", "--from", str(odd[0]), "--to", str(odd[1]))
    pump.wait(lambda: pump.limit()["factor"] < 1, "the end of the move")
    assert (pump.limit()["false_alarms"], pump.limit()["faults"]) == (0, 1)
