# SPDX-License-Identifier: Apache-2.0
"""Decisions and work orders go on with the state folder on a disk that is full, read-only or failing.

The agent and the MES are real processes; the disk is a real file system that really fails.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.databases import rows
from support.disks import PowerCutDisk, SmallDisk
from support.mes_plant import Plant
from support.programs import BIN, free_port
from support.rights import NOBODY, folder_of_nobody
from support.waiting import until


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


@pytest.mark.slow
def test_orders_leave_from_memory_while_the_disk_is_full_and_come_once(full: tuple[SmallDisk, Plant]) -> None:
    disk, plant = full
    plant.start("gw")
    plant.wait_for_orders(1)
    disk.fill()
    plant.wait(lambda: plant.storage()["in_memory"], "the full disk")
    plant.wait_for_orders(2)
    assert "full" in plant.storage()["problems"]["spool"]
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
    plant.start_anyhow()
    plant.wait_for_orders(2)
    assert plant.storage()["in_memory"]  # the address was written over the last one
    plant.kill("gw")
    disk.free()
    disk.read_only()
    plant.start_anyhow()
    plant.wait_for_orders(2)
    disk.writable()
    plant.wait(plant.is_well, "the disk to be used again")
    plant.wait_for_orders(1)
    plant.check_orders()
    assert "Traceback" not in (plant.folder / "gw.log").read_text()


def decided_in_memory(plant: Plant, heal: Callable[[], object]) -> None:
    """It learns, and its orders leave; then all comes to the disk, without a restart."""
    plant.wait_for_orders(2)
    heal()
    plant.wait(plant.is_well, "the disk to be used")
    plant.wait_for_orders(1)
    plant.check_orders()
    status = plant.status("gw")
    assert status["storage"]["samples_in_memory"] is None and not any(status["lost"].values()), status["lost"]
    windows = status["models"]["f"]["samples"]
    [(stored,)] = rows(plant.state / "samples.sqlite", "SELECT count(*) FROM samples")
    assert stored >= sum(windows.values()) > 20 and (plant.state / "models" / "f" / "scale.cbor").exists()
    events = {key for (key,) in rows(plant.state / "samples.sqlite", "SELECT key FROM events")}
    assert set(plant.orders()[:2]) <= events
    assert "Traceback" not in (plant.folder / "gw.log").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["full", "read-only", "full after the start"])
def test_a_first_start_learns_and_decides_where_nothing_can_be_stored(full: tuple[SmallDisk, Plant], kind: str) -> None:
    disk, plant = full
    if kind == "read-only":
        plant.state.mkdir()
        disk.read_only()
        plant.start_anyhow()
        decided_in_memory(plant, disk.writable)
    elif kind == "full":
        disk.fill()
        plant.start_anyhow()
        decided_in_memory(plant, disk.free)
    else:
        plant.start("gw")
        disk.fill()
        decided_in_memory(plant, disk.free)


@pytest.mark.slow
@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="only root may start a program as another user"
)
@pytest.mark.parametrize("mode", [0o000, 0o500, 0o700])
def test_a_first_start_learns_and_decides_in_a_folder_that_this_user_may_not_use(mode: int) -> None:
    with folder_of_nobody() as folder:
        plant = Plant(folder, folder)
        try:
            (folder / "gw").unlink()  # a link to itself: the state lies here
            plant.state.mkdir(mode)
            if mode != 0o700:
                os.chown(plant.state, NOBODY, NOBODY)
            toml = folder / "gw.toml"  # commands find no address in the folder
            named = f'[agent]\nstatus = "127.0.0.1:{free_port()}"'
            toml.write_text(toml.read_text().replace("[agent]", named, 1))
            plant.start_anyhow(NOBODY)

            def heal() -> None:
                typed: list[str | Path] = [BIN / "fedge-agent", "event", "ack", plant.orders()[0], "--config", toml]
                done = subprocess.run(typed, capture_output=True, text=True, check=False)
                assert done.returncode == 2 and "holds its events in memory" in done.stderr, done.stderr
                os.chown(plant.state, NOBODY, NOBODY)
                plant.state.chmod(0o700)

            decided_in_memory(plant, heal)
        finally:
            plant.end()


@pytest.mark.slow
def test_a_state_folder_that_is_removed_while_it_runs_is_written_again(full: tuple[SmallDisk, Plant]) -> None:
    _, plant = full
    plant.start("gw")
    plant.wait_for_orders(1)
    address = (plant.state / "status.addr").read_bytes()
    shutil.rmtree(plant.state)
    plant.wait_for_orders(2)
    plant.wait((plant.state / "samples.sqlite").exists, "the folder")
    (plant.state / "status.addr").write_bytes(address)
    plant.wait(plant.is_well, "the disk to be used")
    plant.check_orders()
    lost = plant.status("gw")["lost"]
    assert lost["samples"] == lost["events"] == 0


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


@pytest.mark.slow
def test_orders_leave_while_writes_end_with_an_error_of_the_disk_and_a_sound_file_stays(tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    (tmp_path / "disk").mkdir()
    plant = Plant(tmp_path, tmp_path / "disk")
    try:
        plant.start("gw")
        plant.wait_for_orders(1)
        calls, pid = "pwrite64,fdatasync,fsync", str(plant.running["gw"].pid)
        words = ["strace", "-f", "-qq", "-o", "/dev/null", "-p", pid, "-e", f"trace={calls}", "-e"]
        with subprocess.Popen([*words, f"inject={calls}:error=EIO"]) as faults:
            try:
                until(lambda: faults.poll() is not None or plant.storage()["in_memory"], "the failing disk")
                if faults.poll() is not None:
                    pytest.skip("this container may not trace a process")
                plant.wait_for_orders(2)
            finally:
                faults.send_signal(signal.SIGINT)
        plant.wait(plant.is_well, "the disk to be used again")
        plant.wait_for_orders(1)
        plant.check_orders()
        assert plant.storage()["damaged"] == [] and plant.status("gw")["lost"]["events"] == 0
    finally:
        plant.end()
