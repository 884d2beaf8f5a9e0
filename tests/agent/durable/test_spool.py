# SPDX-License-Identifier: Apache-2.0
"""The spool outlives its disk: damage, a full disk, an older copy; no number repeats."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from fedge_agent.durable.spool import Spool
from fedge_agent.types import AlertState
from fedge_models.errors import StorageError
from fedge_models.system import copies, damage, healing
from support.at_end import AtEnd
from support.databases import Disk, change
from support.events import changed, make_event

EVENT = make_event()


def test_damaged_file_is_set_aside_and_numbers_still_rise(at_end: AtEnd, tmp_path: Path) -> None:
    spool = at_end(Spool(tmp_path / "s"))
    last = [spool.reserve_sequence("f") for _ in range(5)][-1]
    spool.close()
    (tmp_path / "s").write_bytes(b"not a database" * 1000)
    assert at_end(Spool(tmp_path / "s")).reserve_sequence("f") > last
    assert damage.before(tmp_path / "s")


def test_numbers_are_at_least_the_clock_and_never_fall(at_end: AtEnd, tmp_path: Path) -> None:
    clock = [120]
    spool = at_end(Spool(tmp_path / "s", lambda: clock[0]))
    given = []
    for clock[0] in (120, 120, 1_800_000_000_000_000, 5, 1 << 60, 1_800_000_000_000_001):  # 1970, NTP, back, 36,500 AD
        given.append(spool.reserve_sequence("f"))
    spool.raise_sequence("f", 1_900_000_000_000_000)
    spool.raise_sequence("f", 7)
    now = 1_800_000_000_000_000
    assert [*given, spool.reserve_sequence("f")] == [120, 121, now, now + 1, now + 2, now + 3, 1_900_000_000_000_001]


def test_an_older_copy_of_the_file_repeats_no_number(at_end: AtEnd, tmp_path: Path) -> None:
    spool = at_end(Spool(tmp_path / "s"))
    spool.reserve_sequence("f")
    spool.close()
    shutil.copy(tmp_path / "s", tmp_path / "backup")
    later = [at_end(Spool(tmp_path / "s")).reserve_sequence("f") for _ in range(5)]
    assert at_end(Spool(tmp_path / "backup")).reserve_sequence("f") > later[-1]


def test_events_go_on_in_memory_while_the_disk_is_full_and_updates_wait(
    at_end: AtEnd, disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, big = at_end(Spool(tmp_path / "s")), changed(EVENT, label="x" * 5000)
    spool.put_event(["mes"], big, AlertState(1, True))
    number = spool.reserve_sequence("f")
    disk.fill()
    for i in range(20):
        spool.put_event(["mes"], big, AlertState(2 + i, True))
    assert spool.in_memory and "full" in str(spool.problem)
    for _ in range(11):
        entry = spool.next_event("mes")
        assert entry is not None
        spool.delivered(entry)
    assert spool.counts("mes")["pending"] == 10
    with pytest.raises(StorageError, match="full"):
        spool.reserve_sequence("f")
    with pytest.raises(StorageError, match="full"):
        spool.put_update("f", 4, number, b"body", b"graph", b"left")
    disk.free()
    monkeypatch.setattr(healing, "TRY_S", 0.0)
    assert spool.reserve_sequence("f") > number and not spool.in_memory and spool.problem is None
    again = at_end(Spool(tmp_path / "s"))
    assert again.counts("mes")["pending"] == 10 and again.alert_state("pump").number == 21


def test_what_memory_does_not_take_is_a_storage_error(
    at_end: AtEnd, disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "MOST_PAGES", 100)
    spool, big = at_end(Spool(tmp_path / "s")), changed(EVENT, label="x" * 5000)
    disk.fill()
    with pytest.raises(StorageError, match="full"):
        for _ in range(1000):
            spool.put_event(["mes"], big, AlertState(1, True))
    assert 10 < spool.counts("mes")["pending"] < 100


def test_a_stored_alert_that_was_changed_by_a_bad_disk_begins_again(at_end: AtEnd, tmp_path: Path) -> None:
    spool = at_end(Spool(tmp_path / "s"))
    spool.put_event(["mes"], EVENT, AlertState(7, True))
    change(tmp_path / "s", "UPDATE alerts SET state = x'ff00'")
    assert spool.alert_state("pump") == AlertState()
