# SPDX-License-Identifier: Apache-2.0
"""Decisions and work orders go on with the state folder on a disk that is full, read-only or failing.

The agent and the MES are real processes; the disk is a real file system that really fails.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.disks import PowerCutDisk, SmallDisk
from support.mes_plant import Plant
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
