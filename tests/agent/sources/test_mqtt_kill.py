# SPDX-License-Identifier: Apache-2.0
"""kill -9 of the agent at random moments, while a real broker delivers: nothing is lost, nothing is decided twice."""

from __future__ import annotations

import json
import random
import re
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from fedge_agent.protocols.mqtt.broker import Broker
from fedge_agent.protocols.mqtt.connection import Connection
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from support.mosquitto import Mosquitto
from support.programs import Programs
from support.waiting import LONGEST_S

HZ, LENGTH, HOP = 50.0, 10, 5
CALM, FAR = 580, 20  # readings in turns: the calm ones are many, since the agent learns from all
BEGIN_NS = 1_700_000_000_000_000_000
PERIOD_NS = 20_000_000
RUN = re.compile(r":[a-z0-9]+-(?=\d+$)")  # of a key: which start of the agent opened the event
LEARN = 200  # readings from which the agent learns what is usual
CARD = Card("anomaly", (Channel("a"), Channel("b")), WindowSpec(HZ, LENGTH, HOP), ("mean", "std"))


class Machine:
    """Publishes readings with their time, the next as soon as the broker has the last; alternately calm and not."""

    def __init__(self, broker: Mosquitto, count: int) -> None:
        self.sent, self.count = 0, count
        self._broker, self._rng = broker, random.Random(1)
        self.pace = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def level(self, i: int) -> float:
        return 1000.0 if i >= LEARN and (i - LEARN) % (CALM + FAR) < FAR else 0.0

    def _run(self) -> None:
        connection = Connection(Broker(**self._broker.keys))
        connection.open()
        while self.sent < self.count and not self._stop.is_set():
            if self.sent == LEARN:
                self.pace.wait()
            value = self.level(self.sent)
            body = {
                "t": (BEGIN_NS + self.sent * PERIOD_NS) // 1000,
                "a": value + self._rng.gauss(0, 1),
                "axes": [{"b": value + self._rng.gauss(0, 1)}],
            }
            connection.wait([connection.publish("plant/line1/m/state", json.dumps(body).encode())])
            self.sent += 1
            self._stop.wait(0.004)
        connection.close()

    def stop(self) -> None:
        self._stop.set()
        self.pace.set()
        self._thread.join(LONGEST_S)


def configuration(folder: Path, broker: Mosquitto) -> str:
    return f"""
[agent]
name = "gw"
state = "{folder / "gw"}"
[source.broker]
type = "mqtt"
url = "mqtt://127.0.0.1:{broker.port}"
client_id = "gw"
username = "gw"
password_file = "{broker.folder / "gw.password"}"
subscriptions = ["plant/line1/+/state"]
time = "/t"
time_unit = "us"
[model.f]
file = "{folder / "model.onnx"}"
training = {{ min_samples = 20, new_samples = 1000000, holdout = 0.0 }}
max_samples = 1000000
[asset.m]
baseline = 0
model = "f"
channels.a = {{ source = "broker", tag = "plant/line1/m/state#/a" }}
channels.b = {{ source = "broker", tag = "plant/line1/m/state#/axes/0/b" }}
when = {{ for_windows = 2, min_gap = "0s", score_above = 6.0 }}
[output.events]
type = "log"
path = "{folder / "events.jsonl"}"
"""


def decided(folder: Path) -> list[int]:
    """End of each window that was decided, as the samples tell."""
    with closing(sqlite3.connect(f"file:{folder / 'gw/samples.sqlite'}?mode=ro", uri=True)) as db:
        return [t for (t,) in db.execute("SELECT time_ns FROM samples ORDER BY id")]


def events(folder: Path) -> list[tuple[str, str, int]]:
    """Openings and clearings, with their keys but for the name of the start that opened them; whether one is raised in
    between depends on the threshold, which the site learns."""
    lines = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    return [(RUN.sub(":", e["key"]), e["state"], e["time_ns"]) for e in lines if e["state"] in ("opened", "cleared")]


def is_received(broker: Mosquitto, agents: Programs) -> bool:
    """Whether a message of nobody reaches the agent: from then on the broker stores its session."""
    connection = Connection(Broker(**broker.keys))
    connection.open()
    connection.wait([connection.publish("plant/line1/nobody/state", b"{}")])
    connection.close()
    return "other_topics" in agents.status("gw")["sources"]["broker"]["counts"]


def expected_events(machine: Machine, windows: list[int]) -> list[tuple[str, str, int]]:
    """Two windows in a row that are far from usual open; two that are wholly usual clear."""
    found: list[tuple[str, str, int]] = []
    above = below = number = 0
    opened = False
    for end in windows:
        last = (end - BEGIN_NS) // PERIOD_NS
        far = any(machine.level(i) for i in range(last - LENGTH + 1, last + 1))
        above, below = (above + 1, 0) if far else (0, below + 1)
        if (above if not opened else below) == 2:
            opened, number = not opened, number + (not opened)
            found.append((f"gw:f:m:{number}", "opened" if opened else "cleared", end))
    return found


def marks(folder: Path, sql: str) -> int:
    """Run a statement on the agent's inbox; how many marks there are then."""
    with closing(sqlite3.connect(folder / "gw/inbox.sqlite", timeout=20)) as db, db:
        db.execute(sql)
        return int(db.execute("SELECT count(*) FROM marks").fetchone()[0])


@pytest.mark.parametrize(("kills", "marked"), [(3, True), (1, False), pytest.param(20, True, marks=pytest.mark.slow)])
def test_kill_at_random_moments_loses_no_window_and_decides_none_twice(
    tmp_path: Path, kills: int, marked: bool
) -> None:
    broker = Mosquitto(tmp_path / "broker", "max_queued_messages 100000")
    agents, rng = Programs(tmp_path), random.Random(kills)
    (tmp_path / "model.onnx").write_bytes(zoo.autoencoder(CARD, 4, (3, 2)).SerializeToString())
    (tmp_path / "gw.toml").write_text(configuration(tmp_path, broker))
    agents.start("gw")
    agents.wait(lambda: agents.status("gw")["models"]["f"]["waits_for"] != "a model", "the model")
    agents.wait(lambda: is_received(broker, agents), "its subscription")
    if not marked:  # as if killed before the first mark: what was decided is on the disk, how far that was is not
        marks(tmp_path, "DELETE FROM marks")  # of the start, before any reading
        marks(tmp_path, "CREATE TRIGGER slow BEFORE INSERT ON marks BEGIN SELECT RAISE(ABORT, 'a slow disk'); END")
    machine = Machine(broker, 100_000)
    try:
        agents.wait(lambda: agents.status("gw")["models"]["f"]["threshold"], "a threshold")
        machine.pace.set()
        for _ in range(kills):
            time.sleep(rng.uniform(0.05, 1.2))
            agents.kill("gw")
            assert marks(tmp_path, "DROP TRIGGER IF EXISTS slow") == 0 or marked
            agents.start("gw")
        machine.count = machine.sent + 100
        agents.wait(lambda: machine.sent >= machine.count, "the last reading")
        windows = (machine.sent - LENGTH) // HOP + 1
        ends = [BEGIN_NS + (LENGTH - 1 + k * HOP) * PERIOD_NS for k in range(windows - 1)]
        agents.wait(lambda: decided(tmp_path)[-1:] >= ends[-1:], "the last window")
        agents.wait(lambda: agents.status("gw")["unwritten_events"]["waiting"] == 0, "the disk")
        agents.wait(lambda: agents.status("gw")["outputs"]["events"]["pending"] == 0, "the last event")
        found = decided(tmp_path)
        assert len(found) == len(set(found)), "decided twice"
        assert sorted(found)[: len(ends)] == ends
        wanted = expected_events(machine, sorted(found))
        got = events(tmp_path)
        assert sorted(set(got), key=got.index) == wanted and len(wanted) >= kills / 2
        assert agents.status("gw")["inbox"]["dropped"] == 0
        agents.wait(lambda: agents.status("gw")["inbox"]["commits"] < 3 * LENGTH, "the inbox to let go")
        assert agents.end() == [0]
    finally:
        machine.stop()
        agents.end()
        broker.stop()
