# SPDX-License-Identifier: Apache-2.0
"""Each database of a running agent and a running aggregator, asked how durable its commits are.

Only ``synchronous=EXTRA`` keeps what was acknowledged through a power cut (https://sqlite.org/pragma.html): the
connections are those that the programs themselves have opened, not others to the same files.
"""

from __future__ import annotations

import sqlite3
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fedge_agent.app import App
from fedge_agent.config import schema as agent_config
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, ImageSpec, WindowSpec
from support.running_aggregator import RunningAggregator
from support.waiting import LONGEST_S

NORMAL, EXTRA = 1, 3  # as SQLite numbers them
CARD = Card("classify", (Channel("c"),), WindowSpec(1, 1, 1), labels=("a", "b"), image=ImageSpec(height=16, width=16))


class Connections:
    """The connections to files that SQLite opens, and what each says as it is closed, by path below a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._changed = folder, threading.Condition()
        self._opened: set[str] = set()
        self.synchronous: dict[str, list[int]] = defaultdict(list)

    def opened(self, path: str) -> None:
        """One more, by the absolute path of its file."""
        with self._changed:
            self._opened.add(path)
            self._changed.notify_all()

    def closing(self, path: str, synchronous: int) -> None:
        """One is about to be closed."""
        with self._changed:
            self.synchronous[str(Path(path).relative_to(self._folder))].append(synchronous)

    def wait_for(self, count: int) -> None:
        """Until so many files have been opened."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self._opened) >= count, LONGEST_S), self._opened


@pytest.fixture
def connections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Connections:
    made, connect = Connections(tmp_path), sqlite3.connect

    class Connection(sqlite3.Connection):
        def close(self) -> None:
            for _, _, path in self.execute("PRAGMA database_list").fetchall():
                if path:  # not in memory
                    made.closing(path, self.execute("PRAGMA synchronous").fetchone()[0])
            super().close()

    def connect_and_note(path: str | Path, **options: Any) -> sqlite3.Connection:
        connection = connect(path, factory=Connection, **options)
        if str(path) != ":memory:":
            made.opened(str(path))
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect_and_note)
    return made


@contextmanager
def running_agent(folder: Path) -> Iterator[None]:
    """An agent with a source and an output of the kinds that have a database of their own."""
    (folder / "in").mkdir()
    (folder / "m.onnx").write_bytes(zoo.cnn2d(CARD, (1, 16, 16), (4,)).SerializeToString())
    path = folder / "agent.toml"
    path.write_text(
        f"""
[agent]
name = "gw"
state = "{folder}/state"
status = "127.0.0.1:0"
[source.camera]
type = "images"
path = "{folder}/in"
[model.m]
file = "{folder}/m.onnx"
[asset.line]
model = "m"
channels.c = {{ source = "camera", tag = "*" }}
[output.orders]
type = "mes"
url = "http://127.0.0.1:9/"
"""
    )
    app, interval = App(agent_config.load(path), path), sys.getswitchinterval()
    thread = threading.Thread(target=app.run)
    thread.start()
    try:
        yield
    finally:
        app.stop()
        thread.join(LONGEST_S)
        sys.setswitchinterval(interval)


def test_every_database_of_an_agent_keeps_what_it_acknowledged(tmp_path: Path, connections: Connections) -> None:
    with running_agent(tmp_path):
        connections.wait_for(5)
    assert {path: sorted(modes) for path, modes in connections.synchronous.items()} == {
        "state/spool.sqlite": [EXTRA],
        "state/inbox.sqlite": [EXTRA],
        "state/samples.sqlite": [NORMAL, EXTRA],  # samples, which are acknowledged to nobody, and labels
        "state/outputs/orders.sqlite": [EXTRA],
        "state/sources/camera/pictures.sqlite": [EXTRA],
    }


def test_every_database_of_an_aggregator_keeps_what_it_acknowledged(tmp_path: Path, connections: Connections) -> None:
    aggregator = RunningAggregator(tmp_path)
    aggregator.stop()
    assert {path: set(modes) for path, modes in connections.synchronous.items()} == {"state/aggregator.sqlite": {EXTRA}}
