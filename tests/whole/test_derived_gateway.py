# SPDX-License-Identifier: Apache-2.0
"""A running gateway with derived channels: it binds the measured ones only, and says which formula gives no number."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from support.gateway import JOURNAL, Gateway

CARD = Card(
    "anomaly",
    (Channel("torque"), Channel("speed", input=False)),
    WindowSpec(1, 5, 5),
    ("mean", "std"),
    derive={"power": "torque * speed", "ratio": "torque / speed", "swing": "max(torque) - min(torque)"},
)
CONFIG = """
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
[asset.mill]
model = "f"
channels.torque = { source = "csv", tag = "torque" }
channels.speed = { source = "csv", tag = "speed" }
baseline = "2m"
"""


class Table:
    """A table that grows, a row for a second."""

    def __init__(self, path: Path) -> None:
        self._path, self._rng = path, np.random.default_rng(0)
        self._time = datetime(2026, 6, 1, 8, tzinfo=timezone.utc)
        path.write_text("time,torque,speed\n")

    def grow(self, rows: int, speed: float | None = None) -> None:
        with self._path.open("a") as file:
            for _ in range(rows):
                self._time += timedelta(seconds=1)
                value = self._rng.normal(1500, 50) if speed is None else speed
                file.write(f"{self._time.isoformat()},{self._rng.normal(40, 1):.2f},{value:.1f}\n")


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(tmp_path / "data.csv")


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    made = Gateway(tmp_path, "mill", CONFIG + JOURNAL, zoo.autoencoder(CARD, 7, (3, 2)))
    yield made
    assert all(code == 0 for code in made.end()), (tmp_path / "gw.log").read_text()[-2000:]


def test_windows_without_a_number_are_counted(gateway: Gateway, table: Table) -> None:
    table.grow(400)
    table.grow(11, speed=0)  # three windows: rows 401 to 415
    table.grow(200)
    assert gateway.call("check").exit_code == 0
    gateway.start("gw")
    gateway.wait(lambda: gateway.decisions() >= 115, "the decisions on the past")
    assert gateway.asset()["windows_undefined"] == 3
    assert gateway.asset()["condition"]["state"] == "deciding"
    assert "3 windows for which a formula gives no number" in gateway.told("gw")
    made = gateway.decisions()
    table.grow(300, speed=0)
    gateway.wait(lambda: gateway.asset()["windows_undefined"] >= 60, "the windows of the standstill")
    table.grow(50)
    gateway.wait(lambda: gateway.decisions() > made, "decisions again")


def test_check_fails_for_a_formula_that_never_gives_a_number(gateway: Gateway, table: Table) -> None:
    table.grow(400, speed=0)
    done = gateway.call("check")
    assert done.exit_code == 1
    assert "windows the formula ratio = torque / speed gives no number, such as by a division by zero" in done.output


def test_a_tag_for_a_derived_channel_is_refused(gateway: Gateway, table: Table) -> None:
    table.grow(400)
    text, more = gateway.config.read_text(), 'channels.power = { source = "csv", tag = "power" }\n'
    gateway.config.write_text(text.replace("baseline", f"{more}baseline"))
    done = gateway.call("check")
    assert (
        "asset mill: the model derives power = torque * speed itself; remove asset.mill.channels.power" in done.output
    )


def test_one_look_shows_the_derived_values(gateway: Gateway, table: Table) -> None:
    table.grow(400)
    said = gateway.run("fedge-agent", "start", "--once", "--for", "3", "--config", gateway.config)
    assert "  power = torque * speed: " in said and "  swing = max(torque) - min(torque): " in said
    assert re.search("features: torque mean .*, ratio std .*, swing ", said)
