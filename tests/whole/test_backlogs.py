# SPDX-License-Identifier: Apache-2.0
"""A past that is read in one go is decided on, whatever the machine still lacks at first: with the real agent."""

from __future__ import annotations

import math
import random
import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from fedge_agent.machines.main_loop import PROGRESS_S
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from support.gateway import JOURNAL, Gateway

CARD = Card("anomaly", (Channel("temp"),), WindowSpec(1.0, 10, 10), ("mean", "std"))
BEGIN = datetime(2026, 3, 2, 6, tzinfo=timezone.utc)
ROWS, FAULTS = 5000, ((4000, 4100), (4500, 4600))  # rows
STEP = timedelta(seconds=1)
BASELINE_S = 1200


def row(number: int) -> str:
    fault = 15 if any(first <= number < end for first, end in FAULTS) else 0
    value = 20 + math.sin(number / 7) + random.Random(number).gauss(0, 0.2) + fault
    return f"{(BEGIN + number * STEP).isoformat()},{value:.3f}\n"


class Logged(Gateway):
    """A machine whose logger wrote for hours before the agent starts."""

    def __init__(self, folder: Path, pattern: str = "log.csv") -> None:
        super().__init__(
            folder,
            "pump",
            f"""
[source.log]
type = "files"
path = "{folder / pattern}"
time_column = "time"
tail = true
start = "begin"
[model.m]
file = "model.onnx"
training = {{ min_samples = 20 }}
[asset.pump]
model = "m"
baseline = "{BASELINE_S}s"
channels.temp = {{ source = "log", tag = "temp" }}
[asset.pump.when]
min_gap = 0
{JOURNAL}
""",
        )

    def write(self, first: int, end: int, name: str = "log.csv") -> None:
        path = self.folder / name
        begin = "" if path.exists() else "time,temp\n"
        with path.open("a") as file:
            file.write(begin + "".join(map(row, range(first, end))))

    def give_model(self) -> None:
        self.give(zoo.autoencoder(CARD, 2, (1,)))

    def opened_rows(self) -> list[int]:
        """The rows at which events were opened."""
        times = [datetime.fromtimestamp(e["since_ns"] / 1e9, timezone.utc) for e in self.opened()]
        return [round((time - BEGIN) / STEP) for time in times]

    def opened(self) -> list[dict[str, Any]]:
        return [event for event in self.events() if event["state"] == "opened"]

    def wait_for_windows(self, count: int) -> None:
        self.wait(lambda: self.asset()["counters"]["windows"] >= count, f"{count} windows")


@pytest.fixture
def logged(tmp_path: Path) -> Iterator[Logged]:
    made = Logged(tmp_path)
    yield made
    made.end()


def assert_both_faults(logged: Logged) -> None:
    logged.wait(lambda: len(logged.events()) >= 4, "the events")
    rows = logged.opened_rows()
    # The last window before the first fault is among the rarest: an alarm may begin with it.
    assert len(rows) == 2 and all(-10 <= row - first < 20 for row, (first, _) in zip(rows, FAULTS, strict=True)), rows


def assert_all_is_decided(logged: Logged) -> None:
    logged.start("gw")
    logged.wait_for_windows(ROWS // 10 - 2)
    asset = logged.asset()
    assert asset["windows_undecided"] == 0
    assert asset["unjudged"] <= BASELINE_S // 10 + 13 and asset["last"]["threshold"] is not None, asset["unjudged"]
    assert_both_faults(logged)


def test_a_fault_in_the_past_that_is_read_at_the_first_start_raises_its_event(logged: Logged) -> None:
    logged.give_model()
    logged.write(0, ROWS)
    assert_all_is_decided(logged)


@pytest.mark.slow
def test_a_fault_in_one_of_many_daily_files_raises_its_event(tmp_path: Path) -> None:
    logged = Logged(tmp_path, "log_*.csv")
    try:
        logged.give_model()
        for i in range(4):
            logged.write(i * ROWS // 4, (i + 1) * ROWS // 4, f"log_2026-03-{i + 1:02}.csv")
        assert_all_is_decided(logged)
    finally:
        logged.end()


SHORT, FAULT = 60, (40, 45)  # windows of each file


class Short(Gateway):
    """Four machines of one model, each with a file that alone is too short for the model's first samples."""

    def __init__(self, folder: Path) -> None:
        self.names = [f"m{i}" for i in range(4)]
        config = '[model.m]\nfile = "model.onnx"\ntraining = { min_samples = 120 }\n' + JOURNAL  # of two whole files
        for name in self.names:
            config += f'''
[source.{name}]
type = "files"
path = "{name}.csv"
time_column = "time"
tail = true
start = "begin"
[asset.{name}]
model = "m"
baseline = "60s"
channels.temp = {{ source = "{name}", tag = "temp" }}
when = {{ score_above = 2.0, min_gap = 0 }}
'''
        super().__init__(folder, "m0", config, zoo.autoencoder(CARD, 2, (1,)))

    def write(self, name: str) -> None:
        """Write a file with a fault in it."""
        rows = []
        for second in range(SHORT * 10):
            fault = 40 if FAULT[0] <= second // 10 < FAULT[1] else 0
            rows.append(f"{(BEGIN + second * STEP).isoformat()},{20 + math.sin(second / 7) + fault:.3f}\n")
        (self.folder / f"{name}.csv").write_text("time,temp\n" + "".join(rows))

    def assets(self) -> list[dict[str, Any]]:
        return list(self.status("gw")["assets"].values())

    def assert_each_fault_raised_its_event(self) -> None:
        self.wait(lambda: len(self.events()) >= 2 * len(self.names), "an event of each, and its end")
        assert sorted((e["asset"], e["state"]) for e in self.events()) == [
            (name, state) for name in self.names for state in ("cleared", "opened")
        ]
        self.wait(lambda: not any(a["windows_waiting"] for a in self.assets()), "the rest to be decided")
        for asset in self.assets():
            assert asset["windows_undecided"] == 0 and asset["counters"]["windows"] >= SHORT - 2


@pytest.fixture
def short(tmp_path: Path) -> Iterator[Short]:
    made = Short(tmp_path)
    yield made
    made.end()


def test_a_fault_in_each_of_many_short_files_raises_its_event_at_the_first_start(short: Short) -> None:
    for name in short.names:
        short.write(name)
    short.start("gw")
    short.assert_each_fault_raised_its_event()


def test_a_kill_while_windows_wait_for_other_machines_loses_none(short: Short) -> None:
    short.write("m0")
    short.start("gw")
    short.wait(lambda: short.asset()["windows_waiting"] >= SHORT - 2, "the windows of the first file")
    assert " windows waiting to be decided" in short.call("status").output.splitlines()[0]
    assert 'fedge_agent_windows_waiting{name="m0"} ' in short.text("gw", "/metrics")
    read = short.status("gw")["uptime_s"]
    short.wait(lambda: short.status("gw")["uptime_s"] > read + 2 * PROGRESS_S, "its next reports of progress")
    short.kill("gw")
    for name in short.names[1:]:
        short.write(name)
    short.start("gw")
    short.assert_each_fault_raised_its_event()


def test_no_row_is_read_before_there_is_a_model_and_then_all_are_decided(logged: Logged) -> None:
    logged.write(0, ROWS)
    logged.start("gw")
    logged.wait(lambda: logged.status("gw")["sources"]["log"]["held"], "the source to be held")
    assert logged.status("gw")["sources"]["log"]["held"] == "pump waits for its model"
    assert "read no further: pump waits for its model" in logged.told("gw")
    assert 'fedge_agent_held_sources{name="log"} 1.0' in logged.text("gw", "/metrics")
    logged.kill("gw")
    logged.give_model()
    logged.start("gw")
    assert_both_faults(logged)


@pytest.mark.slow
def test_a_kill_while_the_limit_is_made_loses_no_window_of_the_past(logged: Logged) -> None:
    logged.give_model()
    logged.write(0, ROWS)
    for _ in range(4):
        logged.start("gw")
        logged.wait(lambda: logged.status("gw")["sources"]["log"]["readings"] or logged.events(), "readings")
        logged.kill("gw")
    logged.start("gw")
    assert_both_faults(logged)


def keys(logged: Logged) -> list[str]:
    return [event["key"] for event in logged.opened()]


@pytest.mark.parametrize("lost", ["newer than the backup", pytest.param("everything", marks=pytest.mark.slow)])
def test_rows_that_are_read_again_give_their_events_the_same_keys(logged: Logged, lost: str) -> None:
    logged.give_model()
    logged.write(0, 2500)
    logged.start("gw")
    logged.wait_for_windows(248)
    logged.kill("gw")
    shutil.copytree(logged.folder / "gw", logged.folder / "backup")
    logged.write(2500, ROWS)
    logged.start("gw")
    assert_both_faults(logged)
    logged.kill("gw")
    first = keys(logged)
    assert len(set(first)) == 2
    shutil.rmtree(logged.folder / "gw")
    if lost != "everything":
        shutil.copytree(logged.folder / "backup", logged.folder / "gw")
    logged.start("gw")
    logged.wait(lambda: len(logged.events()) >= 8, "the events again")
    assert keys(logged) == first * 2
    if lost != "everything":
        assert "was restored from a backup" in logged.told("gw")
        assert 'fedge_agent_copies_total{name="agent"} 1.0' in logged.text("gw", "/metrics")


@pytest.mark.slow
def test_a_position_and_an_inbox_that_are_lost_raise_nothing_new(logged: Logged) -> None:
    logged.give_model()
    logged.write(0, ROWS)
    logged.start("gw")
    assert_both_faults(logged)
    first = keys(logged)
    logged.wait_for_windows(ROWS // 10 - 2)
    stopped = logged.running.pop("gw")
    stopped.terminate()
    stopped.wait()
    (logged.folder / "gw/sources/log/position.json").write_bytes(b"\x80")
    for path in (logged.folder / "gw").glob("inbox.sqlite*"):
        path.unlink()
    logged.start("gw")
    logged.wait(lambda: len(logged.events()) >= 8, "the events again")
    assert keys(logged) == first * 2
    assert "is damaged; the file is read from its beginning" in logged.told("gw")
    assert "2 events of rows that were read before, with the same keys" in logged.told("gw")
