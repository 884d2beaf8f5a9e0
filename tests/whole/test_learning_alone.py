# SPDX-License-Identifier: Apache-2.0
"""Real processes: a gateway without an aggregator makes of an untrained starter a model with a limit that alarms.

It learns from a log that grows, over kill -9, and goes on with its own model when it joins.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fedge_models import starter
from fedge_models.graph.card import Card, Channel, WindowSpec
from support.gateway import JOURNAL, Gateway
from support.programs import free_port

CARD = Card("anomaly", (Channel("temp"), Channel("press")), WindowSpec(20, 10, 5), ("mean", "std"))
HZ = 20.0
BEGIN_S = 1_772_431_200.0  # 2026-03-02 06:00 UTC: the grid of windows begins at the same phase in each run
FILE = slice(38, 70)  # of own.bin: the digest of the model file that it was trained from
AGGREGATOR = """
[aggregator]
state = "agg"
addresses = ["127.0.0.1"]
listen = "127.0.0.1:{port}"
operator = "127.0.0.1:0"
[federation.m]
"""


class Alone(Gateway):
    """An agent that follows a log, to which `operate` adds."""

    def __init__(self, folder: Path) -> None:
        self._rng, self._time = random.Random(0), BEGIN_S
        self.log = folder / "log.csv"
        self.log.write_text("time,temp,press\n")
        starter(CARD, 4).save(folder / "model.onnx")
        super().__init__(
            folder,
            "pump-1",
            """
[source.csv]
type = "files"
path = "log.csv"
time_column = "time"
tail = true
start = "begin"
poll = "100ms"
[model.m]
file = "model.onnx"
poll = "500ms"
training = { min_samples = 20, new_samples = 60, interval = "1s" }
[asset.pump-1]
model = "m"
baseline = "20s"
learn_after = "1s"
channels.temp = { source = "csv", tag = "temp" }
channels.press = { source = "csv", tag = "press" }
when = { for_windows = 3, min_gap = "1s" }
"""
            + JOURNAL,
        )

    def operate(self, seconds: float, fault: float = 0.0) -> None:
        """Append rows of so much operation."""
        rows = []
        for _ in range(int(seconds * HZ)):
            self._time += 1 / HZ
            rows.append(f"{self._time:.3f},{self._rng.gauss(20, 1):.3f},{self._rng.gauss(3, 0.1) + fault:.3f}\n")
        with self.log.open("a") as file:
            file.write("".join(rows))

    def model(self) -> dict[str, Any]:
        """What the status page says of the model."""
        found: dict[str, Any] = self.status("gw")["models"]["m"]
        return found

    def stored(self) -> int:
        """How many windows are stored."""
        return sum(self.model()["samples"].values())

    def trained(self) -> bool:
        """Whether a model of its own decides by now."""
        return bool(self.model()["own_share"])


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Alone]:
    made = Alone(tmp_path)
    yield made
    made.end()


def test_an_untrained_starter_becomes_a_model_that_alarms_and_outlives_kill_9(gateway: Alone) -> None:
    said = gateway.call("check").output
    assert "model m: learns alone, from this gateway's data: no aggregator is joined" in said
    gateway.start("gw")
    assert "fedge_agent_own_share{" not in gateway.text("gw", "/metrics")
    gateway.operate(60)
    gateway.wait(gateway.trained, "the own model")
    told = gateway.told("gw")
    assert "this site's own model" in told and "learns alone" in told and "to learn with other sites" in told
    metrics = gateway.text("gw", "/metrics")
    assert "fedge_agent_learns_alone{" in metrics and "fedge_agent_own_share{" in metrics
    gateway.kill("gw")
    gateway.start("gw")
    gateway.wait(gateway.trained, "the own model to decide again")
    gateway.operate(40)
    gateway.wait(lambda: gateway.asset()["baseline"]["done"], "the baseline")
    gateway.wait(lambda: gateway.asset()["last"]["threshold"] is not None, "the limit")
    gateway.operate(10, fault=3.0)

    def alarm() -> list[dict[str, Any]]:
        return [e for e in gateway.events() if e["channel"] == "press" and e["score"] > 3 * e["threshold"]]

    gateway.wait(alarm, "the alarm")  # a limit of a few windows may also have been exceeded by chance before
    assert alarm()[0]["release"] == 0 and alarm()[0]["state"] in ("opened", "raised")


@pytest.mark.slow  # test_a_gateway_that_is_switched_off_daily_is_trained_again is its quick twin
def test_new_samples_count_over_kill_9(gateway: Alone) -> None:
    """Of a gateway whose supply is cut daily no run is long enough for `new_samples`; together they are."""
    gateway.start("gw")
    gateway.operate(30)
    gateway.wait(gateway.trained, "the own model")
    file = gateway.folder / "gw/models/m/own.cbor"
    gateway.wait(lambda: gateway.stored() >= 110, "all windows")
    gateway.kill("gw")
    before = file.read_bytes()
    gateway.operate(10)  # 40 windows; 60 make a training due
    gateway.start("gw")
    gateway.wait(lambda: gateway.stored() >= 145, "a run")
    gateway.kill("gw")
    gateway.operate(10)
    gateway.start("gw")
    gateway.wait(lambda: file.read_bytes() != before, "a training")


def test_after_joining_the_own_model_goes_on_beside_the_releases(gateway: Alone) -> None:
    gateway.start("gw")
    gateway.operate(60)
    gateway.wait(gateway.trained, "the own model")
    own = (gateway.folder / "gw/models/m/own.bin").read_bytes()
    (gateway.folder / "agg.toml").write_text(AGGREGATOR.format(port=free_port()))
    config = ["--config", str(gateway.folder / "agg.toml")]
    gateway.run("fedge-aggregator", "model", "add", "m", gateway.folder / "model.onnx", *config)
    gateway.start("agg", "fedge-aggregator")
    text = gateway.run("fedge-aggregator", "invite", "gw", "--federation", "m", *config)
    said = gateway.run("fedge-agent", "join", text.strip(), "--config", gateway.config)
    assert "the agent that runs here takes part once it is started again" in said
    gateway.kill("gw")
    gateway.start("gw")
    gateway.wait(lambda: gateway.model()["head"], "a release")
    entry = gateway.model()
    assert entry["learns"] == "together" and entry["own"]["trained"]
    assert (gateway.folder / "gw/models/m/own.bin").read_bytes()[FILE] == own[FILE]
    gateway.wait(lambda: gateway.model()["update"], "an update for the federation")


def test_check_says_of_a_file_that_is_not_to_be_trained_that_it_is_served_as_it_is(gateway: Alone) -> None:
    text = gateway.config.read_text()
    gateway.config.write_text(text.replace("training = {", "training = { own_model = 0.0,"))
    said = gateway.call("check").output
    assert "model m: is served as it is: own_model is 0, and no aggregator is joined" in said
