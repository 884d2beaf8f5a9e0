# SPDX-License-Identifier: Apache-2.0
"""A message that cannot be read is set aside in a file and acknowledged, also when reading it kills the process."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path

import pytest
from fedge_agent.protocols.mqtt.connection import Message
from fedge_agent.sources import failed_messages
from fedge_agent.sources.failed_messages import FailedMessages, digest_of, entry
from fedge_agent.sources.mqtt import Intake, MqttConfig
from fedge_agent.sources.mqtt_payload import Complaint, Reader
from fedge_agent.types import Reading
from support.mqtt_once import BrokerOfOneMessage
from support.paths import ROOT
from support.recording_host import RecordingHost
from support.waiting import LONGEST_S, until

CONFIG = MqttConfig(url="mqtt://x", client_id="gw")
DEADLY = ROOT / "tests/support/deadly_reader.py"


class Faulty(Reader):
    """A reader in which a library fails at some payloads: so many times, or each time."""

    faults: dict[bytes, int]

    def read(self, topic: str, payload: bytes, now_ns: int) -> tuple[list[Reading], list[Complaint]]:
        if self.faults.get(payload, 0):
            self.faults[payload] -= 1
            raise MemoryError("no room")
        return super().read(topic, payload, now_ns)


def message(payload: bytes, mid: int = 1, repeated: bool = False, retain: bool = False) -> Message:
    return Message("t", payload, 1, retain, repeated, mid)


def intake(host: RecordingHost, **faults: int) -> Intake:
    reader = Faulty(["t"], CONFIG)
    reader.faults = {name.encode(): count for name, count in faults.items()}
    return Intake(CONFIG, reader, host, session_present=True)


def lines(host: RecordingHost) -> list[dict[str, str]]:
    return [json.loads(line) for line in (host.folder / "set-aside.jsonl").read_text().splitlines()]


def test_a_message_whose_reading_fails_once_is_read(tmp_path: Path) -> None:
    host = RecordingHost(tmp_path)
    with intake(host, b=1) as taking:
        messages = [message(b"1", 1), message(b"b", 2), message(b"3", 3)]
        assert taking.take(messages) == messages
    assert host.values("t") == [1.0, "b", 3.0] and host.problems == {} and not (tmp_path / "set-aside.jsonl").exists()


def test_a_message_whose_reading_fails_twice_is_set_aside_and_stops_no_other(tmp_path: Path) -> None:
    host = RecordingHost(tmp_path)
    with intake(host, b=9) as taking:
        messages = [message(b"1", 1), message(b"b", 2), message(b"3", 3)]
        assert taking.take(messages) == messages  # all of them are acknowledged
        assert taking.take([message(b"b", 4), message(b"5", 5)])  # the same again is not tried again
    assert host.values("t") == [1.0, 3.0, 5.0] and host.counts["set_aside"] == 2
    [line] = lines(host)
    assert line["topic"] == "t" and base64.b64decode(line["payload"]) == b"b" and "MemoryError" in line["why"]
    assert str(tmp_path / "set-aside.jsonl") in host.problems["set aside"]


def test_removing_the_file_withdraws_the_problem_and_reads_the_message_again(tmp_path: Path) -> None:
    host = RecordingHost(tmp_path)
    with intake(host, b=2) as taking:
        taking.take([message(b"b")])
        (tmp_path / "set-aside.jsonl").unlink()
        taking.look()
        assert host.problems == {}
        taking.take([message(b"b", 2)])
    assert host.values("t") == ["b"]


def test_a_message_that_cannot_be_stored_is_not_acknowledged(tmp_path: Path) -> None:
    host = RecordingHost(tmp_path)
    (tmp_path / "set-aside.jsonl").mkdir()
    with intake(host, b=9) as taking:
        good, bad = message(b"1", 1), message(b"b", 2)
        assert taking.take([bad, good]) == [good]
    assert "cannot be stored" in host.problems["set aside"] and host.values("t") == [1.0]


@pytest.mark.parametrize("flags", [{"repeated": True}, {"retain": True}, {}])
def test_the_second_attempt_is_marked_before_it_is_made(flags: dict[str, bool], tmp_path: Path) -> None:
    """As a kill leaves it: the process before ended while it read, and so does the one after."""
    FailedMessages(tmp_path).begin()
    host = RecordingHost(tmp_path)
    seen: list[int] = []

    class Looking(Faulty):
        def read(self, topic: str, payload: bytes, now_ns: int) -> tuple[list[Reading], list[Complaint]]:
            seen.append(FailedMessages(tmp_path).failures(digest_of("t", b"b")))  # what is on the disk now
            return super().read(topic, payload, now_ns)

    reader = Looking(["t"], CONFIG)
    reader.faults = {}
    taking = Intake(CONFIG, reader, host, session_present=True).__enter__()
    assert taking.take([message(b"b", **flags)]) and seen == [1]
    killed = FailedMessages(tmp_path)  # the mark is there until the next write, so a kill right now sets it aside
    assert killed.crashed and killed.failures(digest_of("t", b"b")) == 1
    taking.take([message(b"c", 2, **flags)])
    assert FailedMessages(tmp_path).failures(digest_of("t", b"b")) == 0
    taking.__exit__()
    after = FailedMessages(tmp_path)
    assert not after.crashed and not after.any


def test_while_nothing_fails_a_message_costs_no_write(tmp_path: Path) -> None:
    host = RecordingHost(tmp_path)
    with intake(host) as taking:
        before = (tmp_path / "attempts.json").stat()
        for i in range(50):
            taking.take([message(b"1", i, repeated=True)])
        after = (tmp_path / "attempts.json").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


@pytest.mark.parametrize("duplicates", [True, False])
def test_a_message_that_kills_the_process_is_acknowledged_in_the_third_life(duplicates: bool, tmp_path: Path) -> None:
    broker = BrokerOfOneMessage("plant/a", b"die", connections=3, duplicates=duplicates)
    command = [sys.executable, str(DEADLY), broker.url, "plant/a", str(tmp_path)]
    env = {"PYTHONPATH": str(ROOT / "tests"), "PATH": ""}
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, timeout=LONGEST_S, check=False, env=env)
        assert done.returncode == -9, done.stderr
        assert not broker.acknowledged
    third = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
    try:
        until(lambda: broker.acknowledged, "the acknowledgement")
        assert third.poll() is None
    finally:
        third.kill()
        printed, _ = third.communicate()
    assert "count set_aside 1" in printed and "problem set aside 1 messages could not be read" in printed
    [line] = lines(RecordingHost(tmp_path))
    assert base64.b64decode(line["payload"]) == b"die" and "ended each time" in line["why"]


def test_the_file_is_bounded(tmp_path: Path) -> None:
    failed = FailedMessages(tmp_path)
    big = bytes(range(256)) * 4096 * 4
    dropped = sum(failed.set_aside(str(k), entry("now", "t", "why", big)) for k in range(4))
    assert dropped == 3 and failed.count() == 1 and failed.path.stat().st_size <= failed_messages.MAX_BYTES
    [line] = lines(RecordingHost(tmp_path))
    assert int(line["size"]) == len(big) and len(base64.b64decode(line["payload"])) < len(big)
    small = [failed.set_aside(f"s{k}", entry("now", "t", "why", b"x")) for k in range(150)]
    assert failed.count() == failed_messages.MAX_MESSAGES and sum(small) == 51


@pytest.mark.parametrize("damage", [b"", b"{", b'{"failed": 3}', b"\xff\x00"])
def test_damaged_marks_make_the_gateway_careful(damage: bytes, tmp_path: Path) -> None:
    (tmp_path / "attempts.json").write_bytes(damage)
    assert FailedMessages(tmp_path).crashed
    host = RecordingHost(tmp_path)
    with intake(host) as taking:
        taking.take([message(b"1")])
    assert host.values("t") == [1.0]
