# SPDX-License-Identifier: Apache-2.0
"""Decisions and work orders go on with the state folder on a disk that is full, read-only or failing.

The agent and the MES are real processes; the disk is a real file system that really fails.
"""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from support.disks import PowerCutDisk, SmallDisk
from support.programs import BIN, ENV, Programs

CARD = Card("anomaly", (Channel("a"), Channel("b")), WindowSpec(50, 10, 5), ("mean", "std"))


class Plant(Programs):
    """A gateway whose machine fails every six seconds, and a MES that counts its orders; the state is on `disk`."""

    def __init__(self, folder: Path, disk: Path) -> None:
        super().__init__(folder)
        self.state, self.store = disk / "gw", folder / "mes.sqlite"
        (folder / "gw").symlink_to(self.state)
        (folder / "model.onnx").write_bytes(zoo.autoencoder(CARD, 4, (3, 2)).SerializeToString())
        x = np.random.default_rng(0).normal(size=(3000, 2))
        worn = np.arange(3000) / 50 % 6 > 4.5
        x[worn] += 12
        rows = "".join(f"{a:.3f},{b:.3f},{label:d}\n" for (a, b), label in zip(x, worn, strict=True))
        (folder / "machine.csv").write_text(f"a,b,label\n{rows}")
        command: list[str | Path] = [BIN / "fedge-fleet", "mes", "--store", self.store, "--ready", folder / "mes.port"]
        self.running["mes"] = subprocess.Popen(command, env=ENV)
        self.wait(lambda: (folder / "mes.port").exists() and (folder / "mes.port").read_text(), "the MES")
        (folder / "gw.toml").write_text(
            f"""
[agent]
name = "gw"
state = "{self.state}"
[source.machine]
type = "files"
path = "{folder / "machine.csv"}"
rate_hz = 50.0
at_end = "repeat"
[model.f]
file = "{folder / "model.onnx"}"
training = {{ min_samples = 20 }}
[asset.m]
model = "f"
channels.a = {{ source = "machine", tag = "a" }}
channels.b = {{ source = "machine", tag = "b" }}
label = {{ source = "machine", tag = "label" }}
when = {{ for_windows = 3, min_gap = "0s", score_above = 12.0 }}
[output.mes]
type = "mes"
url = "http://127.0.0.1:{(folder / "mes.port").read_text()}/work-orders"
"""
        )

    def orders(self) -> list[str]:
        with closing(sqlite3.connect(self.store)) as db:
            return [key for (key,) in db.execute("SELECT key FROM orders ORDER BY id")]

    def wait_for_orders(self, count: int) -> None:
        """Until so many more have come."""
        before = len(self.orders())
        self.wait(lambda: len(self.orders()) >= before + count, f"{count} orders")

    def storage(self) -> dict[str, Any]:
        found: dict[str, Any] = self.status("gw")["storage"]
        return found

    def check_orders(self) -> None:
        """One for each event, and none twice."""
        keys = self.orders()
        assert len(set(keys)) == len(keys)
        assert not self.status("gw")["outputs"]["mes"].get("duplicates"), keys


@pytest.fixture
def full(tmp_path: Path) -> Iterator[tuple[SmallDisk, Plant]]:
    with SmallDisk(tmp_path / "disk", mib=16) as disk:
        made = Plant(tmp_path, disk.folder)
        yield disk, made
        made.end()


@pytest.fixture
def failing(tmp_path: Path) -> Iterator[tuple[PowerCutDisk, Plant]]:
    with PowerCutDisk(tmp_path / "disk") as disk:
        made = Plant(tmp_path, disk.folder)
        yield disk, made
        made.end()


def test_orders_leave_from_memory_while_the_disk_is_full_and_come_once(full: tuple[SmallDisk, Plant]) -> None:
    disk, plant = full
    plant.start("gw")
    plant.wait_for_orders(1)
    disk.fill()
    plant.wait(lambda: plant.storage()["in_memory"], "the full disk")
    plant.wait_for_orders(2)
    assert "events are delivered from memory" in plant.text("gw", "/status") or plant.storage()["problems"]["spool"]
    disk.free()
    plant.wait(lambda: not plant.storage()["problems"], "the disk to be used again")
    plant.wait_for_orders(1)
    plant.check_orders()


@pytest.mark.slow
def test_an_agent_starts_and_orders_leave_on_a_full_and_on_a_read_only_disk(full: tuple[SmallDisk, Plant]) -> None:
    disk, plant = full
    plant.start("gw")
    plant.wait_for_orders(1)
    plant.kill("gw")
    disk.fill()
    plant.start("gw")
    plant.wait_for_orders(1)
    plant.kill("gw")
    disk.free()
    disk.read_only()
    log = (plant.folder / "gw.log").open("ab")
    with log:
        command: list[str | Path] = [BIN / "fedge-agent", "start", "--config", plant.folder / "gw.toml"]
        plant.running["gw"] = subprocess.Popen(command, stdout=log, stderr=log, env=ENV)
    plant.wait_for_orders(2)
    disk.writable()
    plant.wait(lambda: plant.state.joinpath("status.addr").exists() and not plant.storage()["problems"], "the disk")
    plant.wait_for_orders(1)
    plant.check_orders()
    assert "Traceback" not in (plant.folder / "gw.log").read_text()


@pytest.mark.slow
def test_orders_leave_while_every_write_fails(failing: tuple[PowerCutDisk, Plant]) -> None:
    disk, plant = failing
    plant.start("gw")
    plant.wait_for_orders(1)
    disk.fail()
    plant.wait(lambda: plant.storage()["in_memory"], "the failing disk")
    plant.wait_for_orders(2)
    plant.check_orders()
    assert {"spool", "samples"} <= plant.storage()["problems"].keys()
    assert "Traceback" not in (plant.folder / "gw.log").read_text()
