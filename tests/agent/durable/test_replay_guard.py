# SPDX-License-Identifier: Apache-2.0
"""A stored row that ends the process while it is replayed is left out at the third start, and the others are not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from fedge_agent.durable.inbox import Inbox
from fedge_agent.durable.replay_guard import FILE, ReplayGuard
from fedge_agent.types import Reading
from support.at_end import AtEnd
from support.waiting import LONGEST_S

REPLAY = """
import os, signal, sys
from pathlib import Path
from fedge_agent.durable.inbox import Inbox
from fedge_agent.durable.replay_guard import ReplayGuard
folder = Path(sys.argv[1])
inbox, guard = Inbox(folder / "inbox.sqlite", 1 << 20, 1e9), ReplayGuard(folder)
for row in inbox.replay(guard):
    for reading in row.readings:
        if reading.value == 13.0:
            os.kill(os.getpid(), signal.SIGKILL)
        print(reading.value, flush=True)
guard.end()
inbox.close()
"""


def replayed(folder: Path) -> tuple[int, list[float]]:
    """The exit code of a process that replays the inbox, and the values that it saw."""
    command = [sys.executable, "-c", REPLAY, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_S, check=False)
    return done.returncode, [float(line) for line in done.stdout.splitlines()]


def test_a_row_that_kills_is_set_aside_in_the_third_life(at_end: AtEnd, tmp_path: Path) -> None:
    stored = Inbox(tmp_path / "inbox.sqlite", 1 << 20, 1e9)
    for value in (1.0, 13.0, 3.0):
        stored.store("s", [Reading("a", int(value), value)])
    stored.close()
    assert replayed(tmp_path) == (-9, [1.0])
    assert replayed(tmp_path) == (-9, [1.0])
    assert replayed(tmp_path) == (0, [1.0, 3.0])
    assert not (tmp_path / FILE).exists()
    assert replayed(tmp_path) == (0, [1.0, 3.0])
    after = at_end(Inbox(tmp_path / "inbox.sqlite", 1 << 20, 1e9))
    assert after.status()["set_aside"] == 1 and after.status()["commits"] == 2
    assert [path.name for path in (tmp_path / "set-aside").iterdir()] == ["inbox-2.msgpack"]


def test_one_kill_is_no_fault_of_the_row(tmp_path: Path) -> None:
    ReplayGuard(tmp_path).mark(7)
    again = ReplayGuard(tmp_path)
    assert again.left_out == frozenset()
    again.mark(8)
    assert ReplayGuard(tmp_path).left_out == frozenset()  # another row
    again.mark(7)
    assert ReplayGuard(tmp_path).left_out == {7}


def test_a_replay_that_ends_forgets_what_was(tmp_path: Path) -> None:
    guard = ReplayGuard(tmp_path)
    guard.mark(7)
    guard.end()
    assert json.loads("[]") == list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", [b"", b"{", b'{"row": "x"}', b"\xff"])
def test_a_damaged_file_stops_no_replay(damage: bytes, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(damage)
    guard = ReplayGuard(tmp_path)
    guard.mark(1)
    assert guard.left_out == frozenset()


def test_a_disk_that_takes_nothing_stops_no_replay(tmp_path: Path) -> None:
    guard = ReplayGuard(tmp_path / "not there")
    guard.mark(1)
    guard.end()
