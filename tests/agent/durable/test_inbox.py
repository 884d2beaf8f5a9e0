# SPDX-License-Identifier: Apache-2.0
"""The inbox: what it keeps through kills, what it lets go of, and that assets go on where they were."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fedge_agent.config.schema import TagConfig
from fedge_agent.durable.inbox import Inbox, Progress
from fedge_agent.durable.progress_writer import ProgressWriter
from fedge_agent.types import Batch, Quality, Reading, Window
from fedge_agent.windows.assembler import Assembler
from fedge_models.errors import StorageError
from support.at_end import AtEnd
from support.databases import Disk
from support.waiting import LONGEST_S


def inbox(folder: Path, max_bytes: int = 1 << 20, max_age: float = 3600) -> Inbox:
    return Inbox(folder / "inbox.sqlite", max_bytes, max_age)


def progress(done: int, needed: int, **marks: bytes) -> Progress:
    return Progress({"s": done}, marks, {"s": needed})


def test_readings_come_back_as_they_were(at_end: AtEnd, tmp_path: Path) -> None:
    readings = [
        Reading("a", 1_700_000_000_000_000_001, 1.5),
        Reading("a", 2, float("inf"), Quality.UNCERTAIN),
        Reading("state", 3, "läuft"),
        Reading("wave", 4, np.array([1, 2, 3], np.float32)),
        Reading("image", 5, np.arange(12, dtype=np.uint8).reshape(2, 2, 3)),
    ]
    made = at_end(inbox(tmp_path))
    first = made.store("s", readings, alive_ns=7, fresh=True, receipts=[b"r1", b"r2"])
    second = made.store("s", [])
    made.close()
    again = at_end(inbox(tmp_path))
    row, empty = again.replay()
    assert (row.id, row.source, row.alive_ns, row.fresh, row.decided) == (first, "s", 7, True, False)
    assert row.readings[:3] == readings[:3]
    for got, put in zip(row.readings[3:], readings[3:], strict=True):
        assert got[:2] == put[:2] and got.value.dtype == put.value.dtype and (got.value == put.value).all()  # type: ignore[union-attr]
    assert empty.id == second and empty.readings == [] and again.receipts("s") == [b"r1", b"r2"]


def test_lets_go_of_what_no_window_needs_but_for_last_values(at_end: AtEnd, tmp_path: Path) -> None:
    made = at_end(inbox(tmp_path))
    rows = [made.store("s", [Reading("a", t, float(t)), Reading(f"state-{t % 2}", t, f"{t}")]) for t in range(10)]
    made.store("other", [Reading("b", 0, 0.0)])
    made.record(progress(rows[6], 4, pump=b"mark"))
    last, *left = made.replay()
    found = [last, *left]
    values = {r.tag: r.value for row in found if row.id == 0 for r in row.readings}
    assert values == {"a": 3.0, "state-0": "2", "state-1": "3"}
    live = [row for row in found if row.id and row.source == "s"]
    assert [row.readings[0].time_ns for row in live] == [4, 5, 6, 7, 8, 9]
    assert [row.decided for row in live] == [True, True, True, False, False, False]
    assert made.checkpoint("pump") == b"mark" and made.checkpoint("unknown") is None and made.dropped == 0


def test_row_that_was_not_taken_in_stays_however_old(at_end: AtEnd, tmp_path: Path) -> None:
    made = at_end(inbox(tmp_path))
    made.store("s", [Reading("a", 1, 1.0)])
    made.record(progress(0, 1000))
    assert [row.readings[0].time_ns for row in made.replay()] == [1]


def test_bounded_in_bytes_and_counted(at_end: AtEnd, tmp_path: Path) -> None:
    made = at_end(inbox(tmp_path, max_bytes=100_000))
    for t in range(100):
        made.store("s", [Reading("wave", t, np.zeros(2500, np.float32))])
    status = made.status()
    assert status["bytes"] <= 100_000 and status["commits"] == 9 and made.dropped == 91
    assert [row.readings[0].time_ns for row in made.replay()] == list(range(91, 100))
    made.close()
    assert at_end(inbox(tmp_path)).status()["bytes"] == status["bytes"]


def test_bounded_in_age_and_counted(at_end: AtEnd, tmp_path: Path) -> None:
    made = at_end(inbox(tmp_path, max_age=-1))
    made.store("s", [Reading("a", 1, 1.0)])
    made.record(progress(0, 0))
    assert made.dropped == 1 and not list(made.replay())


@pytest.mark.parametrize("years", [-56, 400])
def test_setting_the_clock_makes_no_row_too_old(
    at_end: AtEnd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, years: int
) -> None:
    """Rows stored at 1970 are there when NTP comes, over a restart too; so are those of a clock that was ahead."""
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + years * 365 * 86400)
    inbox(tmp_path).store("s", [Reading("a", 1, 1.0)])
    monkeypatch.setattr(time, "time", lambda: now)
    made = at_end(inbox(tmp_path))
    made.record(progress(0, 0))
    assert made.dropped == 0 and len(list(made.replay())) == 1


def test_receipts_are_of_the_newest(at_end: AtEnd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedge_agent.durable.inbox.RECEIPTS", 3)
    made = at_end(inbox(tmp_path))
    rows = [made.store("s", [Reading("a", t, 0.0)], receipts=[b"%d" % t]) for t in range(10)]
    made.record(progress(rows[-1], 100))
    assert made.receipts("s") == [b"7", b"8", b"9"]


def test_full_disk_is_a_storage_error_and_counts_stay_right(at_end: AtEnd, disk: Disk, tmp_path: Path) -> None:
    made = at_end(inbox(tmp_path))
    disk.fill(pages_left=10)
    with pytest.raises(StorageError, match="inbox cannot be written"):
        for t in range(100):
            made.store("s", [Reading("wave", t, np.zeros(1000, np.float32))])
    status = made.status()
    made.close()
    assert at_end(inbox(tmp_path)).status() == status


def test_damaged_file_is_set_aside(at_end: AtEnd, tmp_path: Path) -> None:
    (tmp_path / "inbox.sqlite").write_bytes(b"not a database" * 1000)
    assert not list(at_end(inbox(tmp_path)).replay()) and list(tmp_path.glob("inbox.sqlite.damaged-*"))


WRITER = """
import sys
from pathlib import Path
from fedge_agent.durable.inbox import Inbox, Progress
from fedge_agent.types import Reading
made = Inbox(Path(sys.argv[1]), 1 << 24, 3600)
rows = [row for row in made.replay() if row.id]
t = rows[-1].readings[-1].time_ns if rows else 0
while True:
    row = made.store("s", [Reading("a", t + 1, float(t + 1))])
    t += 1
    print(t, flush=True)
    if t % 7 == 0:
        made.record(Progress({"s": row}, {}, {"s": t - 3}))
"""


def test_kill_at_six_moments_keeps_what_was_stored(at_end: AtEnd, tmp_path: Path) -> None:
    printed = 0
    for i in range(6):
        command = [sys.executable, "-c", WRITER, str(tmp_path / "inbox.sqlite")]
        writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        for _ in range(3 + 11 * i):  # kill after so many, in the middle of the next
            printed = int(writer.stdout.readline())
        os.kill(writer.pid, signal.SIGKILL)
        printed = max([printed, *(int(x) for x in writer.stdout.read().split("\n")[:-1])])
        writer.stdout.close()
        writer.wait()
    rows = [row for row in at_end(inbox(tmp_path, 1 << 24)).replay() if row.id]
    times = [row.readings[0].time_ns for row in rows]
    assert (
        times[-1] in (printed, printed + 1)
        and times == list(range(times[0], times[-1] + 1))
        and len(times) <= 3 + 7 + 1
    )


# --- where windows go on ------------------------------------------------------------------------------------------


def assembler(length: int, hop: int) -> Assembler:
    return Assembler("m", {"a": TagConfig(source="s", tag="a")}, [], 10.0, length, hop, 0.3, 0.2)


def batch(i: int) -> Batch:
    return Batch("s", [Reading("a", 1_700_000_000_000_000_000 + i * 100_000_000, float(i))], None, 0)


@pytest.mark.parametrize(("length", "hop"), [(10, 5), (10, 10), (5, 20), (7, 3)])
def test_windows_after_a_restart_are_those_without_one(length: int, hop: int) -> None:
    def cut(windows: list[Window]) -> list[Any]:
        return [(w.end_ns, w.values.tolist()) for w in windows]

    whole = assembler(length, hop)
    wanted = cut([w for i in range(120) for w in whole.push(batch(i))])
    for stop in range(1, 100, 7):
        before = assembler(length, hop)
        found = cut([w for i in range(stop) for w in before.push(batch(i))])
        start = before.next_start()
        assert start is not None
        after = assembler(length, hop)
        after.resume(start)
        needed = [i for i in range(stop) if batch(i).readings[0].time_ns >= start - 0.3e9]
        assert not [w for i in needed for w in after.push(batch(i))]  # decided already
        found += cut([w for i in range(stop, 120) for w in after.push(batch(i))])
        assert found == wanted


def test_settling_writes_the_newest_once_it_is_durable(at_end: AtEnd, tmp_path: Path) -> None:
    made, asked, durable = at_end(inbox(tmp_path)), threading.Event(), threading.Event()

    def ready() -> bool:
        asked.set()
        return durable.is_set()

    settling = ProgressWriter(made, ready)
    settling.start()
    settling.put(progress(1, 0, m=b"early"))
    assert asked.wait(LONGEST_S)
    assert made.checkpoint("m") is None  # its samples and events are not written yet
    durable.set()
    settling.put(progress(2, 0, m=b"old"))
    settling.put(progress(3, 0, m=b"new"))
    settling.stop()
    assert made.checkpoint("m") == b"new" and settling.problem is None


def resident_mib(line: str, reset: bool = False) -> float:
    """What this process holds (VmRSS), or the most since the last reset (VmHWM)."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    text = Path("/proc/self/status").read_text()
    return int(next(x for x in text.splitlines() if x.startswith(line)).split()[1]) / 1024


def test_a_large_picture_is_let_go_without_being_read_and_replayed_alone(at_end: AtEnd, tmp_path: Path) -> None:
    made, size = at_end(inbox(tmp_path, max_bytes=1 << 28)), 24 << 20
    for i in range(8):
        made.store("s", [Reading("camera", i, np.full(size, i, np.uint8))])
    made.store("s", [Reading("state", 8, "on"), Reading("wave", 8, np.zeros(8, np.float32))])
    before = resident_mib("VmRSS", reset=True)
    shown = [[r.value[0] for r in row.readings if isinstance(r.value, np.ndarray)] for row in made.replay()]
    assert [v[0] for v in shown] == [*range(8), 0]
    assert resident_mib("VmHWM") - before < 6 * size / 2**20  # a row is read, decoded and copied; not all eight
    before = resident_mib("VmRSS", reset=True)
    made.record(progress(9, 10))
    assert resident_mib("VmHWM") - before < 10
    assert [r.value for row in made.replay() for r in row.readings] == ["on"]


def test_what_readings_are_stored_in_outlives_a_restart(tmp_path: Path) -> None:
    for origin in (None, "", "log_1.csv"):
        inbox(tmp_path).store("s", [Reading("a", 1, 1.0)], origin=origin)
    assert [stored.origin for stored in inbox(tmp_path).replay()] == [None, "", "log_1.csv"]
