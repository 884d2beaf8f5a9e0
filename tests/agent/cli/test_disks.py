# SPDX-License-Identifier: Apache-2.0
"""Commands on a state folder whose disk is full, without inodes or read-only: lists are read, changes fail in words."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from fedge_agent.cli.main import main
from fedge_agent.durable.event_queue import SPOOL_FILE
from fedge_agent.durable.spool import Spool
from fedge_agent.samples.event_book import EventBook
from fedge_agent.samples.tables import SAMPLES_FILE
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from support.disks import SmallDisk
from support.events import make_event
from support.programs import Programs, free_port
from support.waiting import until

KEY = "gw:m:pump:1"
CONFIG = """
[agent]
name = "gw"
state = "disk/state"
status = "127.0.0.1:{}"
[model.m]
file = "m.onnx"
training = {{ min_samples = 32, new_samples = 32, interval = "1s" }}
[source.s]
type = "files"
path = "d.csv"
tail = true
start = "begin"
time_column = "time"
[asset.pump]
model = "m"
baseline = "1m"
learn_after = "1s"
channels.a = {{ source = "s", tag = "a" }}
when = {{ for_windows = 1, min_gap = 0 }}
[output.journal]
type = "webhook"
url = "http://127.0.0.1:9/"
"""
FULL, NO_INODES, READ_ONLY = "disk is full: 0 bytes free", "no inodes left", "disk is read-only"
FAULTS: dict[str, Callable[[SmallDisk], object]] = {
    FULL: SmallDisk.fill,
    NO_INODES: SmallDisk.exhaust_inodes,
    READ_ONLY: SmallDisk.read_only,
}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    card = Card("anomaly", (Channel("a"),), WindowSpec(1.0, 10, 5))
    (tmp_path / "m.onnx").write_bytes(zoo.autoencoder(card, [1, 10], (2,)).SerializeToString())
    rows = (f"{1_700_000_000 + i},{i * 7919 % 97}" for i in range(400))
    (tmp_path / "d.csv").write_text("\n".join(["time,a", *rows, ""]))
    (tmp_path / "gw.toml").write_text(CONFIG.format(0))
    with SmallDisk(tmp_path / "disk") as made:
        yield made


def store(disk: SmallDisk) -> None:
    """An event in a state folder, as an agent leaves it that is gone."""
    state = disk.folder / "state"
    state.mkdir()
    spool = Spool(state / SPOOL_FILE)
    spool.put_event(["journal"], make_event(KEY), None)
    spool.close()
    book = EventBook(state / SAMPLES_FILE)
    book.note(make_event(KEY))
    book.flush()
    book.stop()


def append(disk: SmallDisk, more: int) -> int:
    """Let the machine go on for 20 s, with values that are higher by so much."""
    path = disk.folder.parent / "d.csv"
    first = 1_700_000_000 + path.read_text().count("\n")
    with path.open("a") as file:
        return file.write("".join(f"{i},{i * 7919 % 97 + more}\n" for i in range(first, first + 20)))


def faults(disk: SmallDisk) -> int:
    """An alarm that begins and one that ends: pages that are there already take the first ones."""
    return append(disk, 5000) + append(disk, 0)


def call(disk: SmallDisk, *words: str) -> Result:
    config = str(disk.folder.parent / "gw.toml")
    return CliRunner().invoke(main, [*words, "--config", config], prog_name="fedge-agent")


@pytest.mark.parametrize("fault", FAULTS)
def test_lists_are_read_and_a_change_says_what_is_wrong(disk: SmallDisk, fault: str) -> None:
    store(disk)
    FAULTS[fault](disk)
    for words in (["order", "list"], ["order", "show", "1"], ["event", "list"]):
        done = call(disk, *words)
        assert done.exit_code == 0 and KEY in done.stdout, done.output
    for words in (
        ["event", "ack", KEY],
        ["event", "comment", KEY, "text"],
        ["event", "shelve", "pump", "--for", "1h"],
        ["order", "drop", "1", "--reason", "x"],
        ["order", "retry", "1"],
        ["label", "pump", "normal", "--at", "2023-11-14 22:13"],
    ):
        done = call(disk, *words)
        assert done.exit_code == 2 and fault in done.stderr and done.stderr.count("\n") == 1, (words, done.output)
        assert str(disk.folder / "state") in done.stderr


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("made", ["made", "still to be made"])
def test_check_fails_with_what_the_disk_lacks(disk: SmallDisk, fault: str, made: str) -> None:
    if made == "made":
        store(disk)
    FAULTS[fault](disk)
    done = call(disk, "check")
    assert done.exit_code == 1 and f"{disk.folder / 'state'}: the {fault}".replace("the no", "the disk has no") in (
        done.stdout
    )


def test_a_command_on_a_disk_with_room_changes_what_it_should(disk: SmallDisk) -> None:
    store(disk)
    assert call(disk, "event", "ack", KEY).exit_code == 0
    assert call(disk, "order", "drop", "1", "--reason", "x").exit_code == 0
    assert "dropped" in call(disk, "order", "list").stdout and "no event waits" not in call(disk, "check").stdout


@pytest.mark.slow
def test_what_an_agent_holds_in_memory_is_listed(disk: SmallDisk) -> None:
    programs = Programs(disk.folder.parent)
    programs.start("gw", state=disk.folder / "state")
    try:
        until(lambda: append(disk, 0) and "score" in call(disk, "status").stdout, "a decision")
        disk.fill()
        until(lambda: faults(disk) and call(disk, "event", "list").exit_code == 2, "no room for more events")
        until(lambda: faults(disk) and call(disk, "order", "list").exit_code == 2, "no room for more orders")
        listed = call(disk, "order", "list")
        assert listed.exit_code == 2 and "waiting:" in listed.stdout and FULL in listed.stderr
        assert "holds these orders in memory" in listed.stderr
        shown = call(disk, "order", "show", "1")
        assert shown.exit_code == 0 and "what is sent" in shown.stdout
        events = call(disk, "event", "list")
        assert events.exit_code == 2 and "pump" in events.stdout and FULL in events.stderr
        disk.free()
        until(lambda: call(disk, "order", "list").exit_code == 0, "the orders in their file")
        until(lambda: call(disk, "event", "list").exit_code == 0, "the events in their file")
        assert "waiting:" in call(disk, "order", "list").stdout and "pump" in call(disk, "event", "list").stdout
    finally:
        programs.end()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_a_folder_of_another_user_is_read_by_root_and_stays_the_users(disk: SmallDisk) -> None:
    store(disk)
    subprocess.run(["chown", "-R", "65534:65534", disk.folder / "state"], check=True)
    for words in (["order", "list"], ["event", "list"], ["event", "ack", KEY]):
        assert call(disk, *words).exit_code == 0
    assert {p.stat().st_uid for p in (disk.folder / "state").iterdir()} == {65534}


def test_an_agent_that_starts_on_a_full_disk_reads_and_is_found(disk: SmallDisk) -> None:
    """Nothing of it is in a file, not even where its page is: that is as configured then."""
    config = disk.folder.parent / "gw.toml"
    config.write_text(CONFIG.format(free_port()))
    disk.fill()
    programs = Programs(disk.folder.parent)
    programs.start("gw", state=None)
    try:
        until(lambda: "source s: 400 readings" in call(disk, "status").stdout, "the readings")
        done = call(disk, "order", "list")
        assert done.exit_code == 2 and FULL in done.stderr, done.output
        assert call(disk, "status").exit_code == 2
    finally:
        programs.end()
