# SPDX-License-Identifier: Apache-2.0
"""A gateway whose machine fails every six seconds, and a MES that counts its orders, as real processes."""

from __future__ import annotations

import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec

from support.programs import BIN, ENV, Programs

CARD = Card("anomaly", (Channel("a"), Channel("b")), WindowSpec(50, 10, 5), ("mean", "std"))


class Plant(Programs):
    """The gateway `gw`, whose state is on `disk`, and the MES."""

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
        (folder / "station.csv").write_text("time,verdict\n")
        (folder / "jobs.csv").write_text("time,job\n" + "".join(f"2026-11-01T10:00:{i:02}Z,{i}\n" for i in range(60)))
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
[source.jobs]
type = "files"
path = "{folder / "jobs.csv"}"
time_column = "time"
tail = true
start = "begin"
[model.f]
file = "{folder / "model.onnx"}"
training = {{ min_samples = 20 }}
[asset.m]
model = "f"
channels.a = {{ source = "machine", tag = "a" }}
channels.b = {{ source = "machine", tag = "b" }}
label = {{ source = "machine", tag = "label" }}
when = {{ for_windows = 3, min_gap = "0s", score_above = 12.0 }}
context.job = {{ source = "jobs", tag = "job" }}
inspection = {{ path = "{folder / "station.csv"}", verdict_column = "verdict", time_column = "time" }}
[output.mes]
type = "mes"
url = "http://127.0.0.1:{(folder / "mes.port").read_text()}/work-orders"
"""
        )

    def start_anyhow(self, user: int | None = None) -> None:
        """Start, and wait for nothing: the disk may not take the address of the status page."""
        be = [] if user is None else ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        with (self.folder / "gw.log").open("ab") as log:
            command: list[str | Path] = [*be, BIN / "fedge-agent", "start", "--config", self.folder / "gw.toml"]
            self.running["gw"] = subprocess.Popen(command, stdout=log, stderr=log, env=ENV)

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

    def is_well(self) -> bool:
        """Whether the agent answers where its address file says, and its disk is used."""
        try:
            return not self.storage()["problems"]
        except OSError:  # the address of the last process
            return False

    def check_orders(self) -> None:
        """One for each event, and none twice."""
        keys = self.orders()
        assert len(set(keys)) == len(keys)
        assert not self.status("gw")["outputs"]["mes"].get("duplicates"), keys
