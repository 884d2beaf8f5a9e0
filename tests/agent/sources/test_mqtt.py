# SPDX-License-Identifier: Apache-2.0
"""MQTT messages to readings: what each payload means, what is wrong with the malformed ones, and the source at a real
broker."""

from __future__ import annotations

import gc
import json
import math
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fedge_agent.durable.inbox import Inbox
from fedge_agent.protocols.mqtt.broker import Broker
from fedge_agent.protocols.mqtt.connection import Connection
from fedge_agent.sources.host import HostedSource, Queue
from fedge_agent.sources.mqtt import MqttConfig, MqttSource
from fedge_agent.sources.mqtt_payload import Reader
from fedge_agent.types import Batch, Quality, Reading
from fedge_agent.windows.channel import LARGEST
from fedge_models.errors import ConfigError
from support.databases import Disk
from support.mosquitto import Mosquitto
from support.mqtt_once import BrokerOfOneMessage
from support.recording_host import RecordingHost
from support.waiting import LONGEST_S, until

NOW = 1_700_000_000_000_000_000


def config(**keys: Any) -> MqttConfig:
    return MqttConfig(**{"url": "mqtt://x", "client_id": "gw", **keys})


def read(tag: str, data: bytes, **keys: Any) -> Reading:
    topic = tag.partition("#")[0]
    [reading], complaints = Reader([tag], config(**keys)).read(topic, data, NOW)
    assert complaints == []
    return reading


@pytest.mark.parametrize(
    ("tag", "payload", "value"),
    [
        ("t", b"21.5", 21.5),
        ("t", b" -3e2\n", -300.0),
        ("t", b"running", "running"),
        ("t#", b"7", 7.0),
        ("t#", b"true", 1.0),
        ("t#/a", b'{"a": false}', 0.0),
        ("t#/a/b", b'{"a": {"b": 12345678901234567890}}', 12345678901234567890.0),
        ("t#/axes/1/g", b'{"axes": [{"g": 1}, {"g": 2}]}', 2.0),
        ("t#/a~1b/~0/", b'{"a/b": {"~": {"": 3}}}', 3.0),  # RFC 6901, 5
        ("t#/state", b'{"state": "idle"}', "idle"),
        ("plant/£/t#/a", '{"a": "é"}'.encode(), "é"),
    ],
)
def test_value(tag: str, payload: bytes, value: float | str) -> None:
    assert read(tag, payload) == Reading(tag, NOW, value)


@pytest.mark.parametrize(
    ("stamp", "unit", "wanted"),
    [
        ('"2023-11-14T22:13:20Z"', "s", NOW),
        ('"2023-11-14T23:13:20.25+01:00"', "s", NOW + 250_000_000),
        ('"2023-11-14T22:13:20.000001"', "s", NOW + 1000),
        ("1700000000", "s", NOW),
        ("1700000000.5", "s", NOW + 500_000_000),
        ("1700000000001", "ms", NOW + 1_000_000),
        ("1700000000000001", "us", NOW + 1000),
        ("1700000000000000001", "ns", NOW + 1),
        ("1700000000", None, NOW),
        ("1700000000001", None, NOW + 1_000_000),
        ('"1700000000000000001"', None, NOW + 1),
    ],
)
def test_time_stamp(stamp: str, unit: str | None, wanted: int) -> None:
    payload = f'{{"v": 1, "head": {{"ts": {stamp}}}}}'.encode()
    assert read("t#/v", payload, time="/head/ts", time_unit=unit).time_ns == wanted


@pytest.mark.parametrize("endianness", ["little", "big"])
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "float32", "float64"])
def test_binary_array(dtype: str, endianness: str) -> None:
    block = np.array([0, 1, 100], np.dtype(dtype).newbyteorder("<" if endianness == "little" else ">"))
    value = read("t", block.tobytes(), payload="array", dtype=dtype, endianness=endianness).value
    assert isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.tolist() == [0, 1, 100]


def test_channels_of_an_array_take_turns() -> None:
    block = np.arange(6, dtype="<i2")
    value = read("t", block.tobytes(), payload="array", dtype="int16", array_channels=2, array_length=3).value
    assert isinstance(value, np.ndarray) and value.tolist() == [[0, 2, 4], [1, 3, 5]]


def test_arrays_in_json() -> None:
    assert read("t#/w", b'{"w": [1, 2.5]}').value.tolist() == [1.0, 2.5]  # type: ignore[union-attr]
    assert read("t#/w", b'{"w": [[1, 2], [3, 4]]}').value.tolist() == [[1, 2], [3, 4]]  # type: ignore[union-attr]


TIMED = {"time": "/ts"}
MALFORMED: dict[str, tuple[bytes, dict[str, Any], str, str]] = {
    "empty": (b"", {}, "malformed", "expected JSON"),
    "no JSON": (b"{", {}, "malformed", "expected JSON"),
    "invalid UTF-8": (b'{"v": "\xff\xfe"}', {}, "malformed", "(?i)utf-8"),
    "binary": (bytes(range(256)), {}, "malformed", "expected JSON"),
    "deep": (b'{"v": ' + b"[" * 100_000, {}, "malformed", "expected JSON"),
    "deep and whole": (b'{"v": ' + b"[" * 500 + b"]" * 500 + b"}", {}, "unusable", "expected a number"),
    "NaN": (b'{"v": NaN}', {}, "malformed", "expected JSON"),
    "Infinity": (b'{"v": -Infinity}', {}, "malformed", "expected JSON"),
    "too big for a float": (b'{"v": 1e999}', {}, "malformed", "out of range"),
    "integer too big for a float": (b'{"v": ' + b"9" * 400 + b"}", {}, "unusable", "finite"),
    "huge": (b'{"v": "' + b"x" * 2_000_000 + b'"}', {}, "too_large", "2000009 bytes; expected at most 1048576"),
    "long text": (b'{"v": "' + b"x" * 1000 + b'"}', {}, "unusable", "1000 characters"),
    "null": (b'{"v": null}', {}, "unusable", "got None"),
    "object": (b'{"v": {"w": 1}}', {}, "unusable", "expected a number"),
    "empty array": (b'{"v": []}', {}, "unusable", "expected a number"),
    "array of text": (b'{"v": [1, "2"]}', {}, "unusable", "array of numbers"),
    "uneven rows": (b'{"v": [[1, 2], [3]]}', {}, "unusable", "equal rows"),
    "no object": (b"5", {}, "absent", "no such value"),
    "absent": (b'{"w": 1}', {}, "absent", "no such value"),
    "no time": (b'{"v": 1}', TIMED, "malformed", "no time stamp at /ts"),
    "time is null": (b'{"v": 1, "ts": null}', TIMED, "malformed", "neither ISO 8601"),
    "time is true": (b'{"v": 1, "ts": true}', TIMED, "malformed", "neither ISO 8601"),
    "time is a word": (b'{"v": 1, "ts": "yesterday"}', TIMED, "malformed", "neither ISO 8601"),
    "time is no day": (b'{"v": 1, "ts": "2023-02-30T00:00:00Z"}', TIMED, "malformed", "neither ISO 8601"),
    "day numbers": (b'{"v": 1, "ts": 46350.5}', TIMED, "malformed", "1970-01-01 12:52:30; expected 2000 to "),
    "digits of a date": (b'{"v": 1, "ts": 20261124080000}', TIMED, "malformed", "its digits look like a date"),
    "ticks": (b'{"v": 1, "ts": 639000000000000000}', TIMED, "malformed", "its unit may be 'ticks'"),
    "time before 1970": (b'{"v": 1, "ts": -5}', TIMED, "malformed", "out of range"),
    "time in other units": (
        b'{"v": 1, "ts": 1700000000000}',
        {**TIMED, "time_unit": "s"},
        "malformed",
        "; is time_unit 's'",
    ),
    "time without end": (b'{"v": 1, "ts": ' + b"9" * 400 + b"}", TIMED, "malformed", "out of range"),
}
PLAIN: dict[str, tuple[bytes, dict[str, Any], str, str]] = {
    "empty": (b"", {}, "unusable", "empty payload"),
    "invalid UTF-8": (b"\xff\xfe", {}, "unusable", "UTF-8"),
    "nan": (b"nan", {}, "unusable", "finite"),
    "inf": (b"-inf", {}, "unusable", "finite"),
    "long text": (b"x" * 1000, {}, "unusable", "1000 characters"),
    "empty array": (b"", {"payload": "array"}, "unusable", "0 bytes; expected a multiple of 4 \\(1 float32\\)"),
    "half a sample": (b"\0" * 7, {"payload": "array"}, "unusable", "7 bytes"),
    "half a turn": (b"\0" * 4, {"payload": "array", "array_channels": 2}, "unusable", "a multiple of 8"),
    "wrong length": (b"\0" * 8, {"payload": "array", "array_length": 3}, "unusable", "8 bytes; expected 3 times 4"),
}
CASES = [("t#/v", *case) for case in MALFORMED.values()] + [("t", *case) for case in PLAIN.values()]
NAMES = [*MALFORMED, *(f"plain, {name}" for name in PLAIN)]


@pytest.mark.parametrize(("tag", "payload", "keys", "kind", "words"), CASES, ids=NAMES)
def test_malformed_is_counted_in_words_and_stops_no_other(
    tag: str, payload: bytes, keys: dict[str, Any], kind: str, words: str
) -> None:
    reader = Reader([tag, "other"], config(**keys))
    readings, [complaint] = reader.read("t", payload, NOW)
    assert complaint.kind == kind and len(complaint.text) < 400
    assert re.search(words, complaint.text), complaint.text
    assert all(r.quality is Quality.BAD and math.isnan(float(r.value)) for r in readings)
    assert len(readings) == (kind == "unusable")  # the channel has no value from here on


def test_infinite_samples_of_a_block_stay_for_the_window_to_see() -> None:
    block = np.array([1e300, np.nan, 1.0], "<f8")
    value = read("t", block.tobytes(), payload="array", dtype="float64").value
    assert isinstance(value, np.ndarray) and value[2] == 1 and not (np.abs(value[:2]) <= LARGEST).any()


def test_random_bytes_never_raise() -> None:
    rng = np.random.default_rng(0)
    readers = [Reader(["t#/v", "t"], config(payload=p, time=t)) for p in ("text", "array") for t in ("", "/ts")]
    for _ in range(500):
        payload = rng.bytes(int(rng.integers(0, 40)))
        for reader in readers:
            reader.read("t", payload, NOW)


@pytest.mark.parametrize("tag", ["", "#/a", "a/+/b", "t#a", "t#/~2", "t\0"])
def test_tag_that_names_nothing_is_refused(tag: str) -> None:
    with pytest.raises(ConfigError):
        Reader([tag], config())


@pytest.mark.parametrize("text", ["", "a+/b", "a/#/b", "a/b#"])
def test_filter_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="whole levels"):
        MqttSource("s", config(subscriptions=(text,)))


# --- at a real broker -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    made = Mosquitto(tmp_path_factory.mktemp("broker"))
    yield made
    made.stop()


class Running:
    """A hosted source with its queue and inbox."""

    def __init__(self, broker: Mosquitto, folder: Path, tags: Sequence[str], size: int = 10_000, **keys: Any) -> None:
        self.queue = Queue(size)
        self.inbox = Inbox(folder / "inbox.sqlite", 1 << 20, 3600)
        source = MqttSource("broker", config(**{**broker.keys, **keys}))
        self.hosted = HostedSource("broker", source, tags, self.queue, folder, self.inbox)
        self.batches: list[Batch] = []
        self.hosted.start()

    @property
    def readings(self) -> list[Reading]:
        return [r for b in self.batches for r in b.readings]

    def status(self) -> dict[str, Any]:
        return self.hosted.status()

    def wait(self, done: Callable[[], Any]) -> None:
        deadline = time.monotonic() + LONGEST_S
        while not done():
            assert time.monotonic() < deadline, (self.readings[-5:], self.status())
            if (batch := self.queue.get(0.01)) is not None:
                self.batches.append(batch)

    def end(self) -> None:
        self.hosted.join(LONGEST_S)
        self.inbox.close()


class Publisher:
    """Says things at the broker as its operator."""

    def __init__(self, broker: Mosquitto) -> None:
        self.connection = Connection(Broker(**{**broker.keys, "username": "operator"}))
        self.connection.open()

    def publish(self, topic: str, payload: bytes | str, retain: bool = False) -> None:
        data = payload.encode() if isinstance(payload, str) else payload
        self.connection.wait([self.connection.publish(topic, data, retain=retain)])


@pytest.fixture
def publisher(broker: Mosquitto) -> Iterator[Publisher]:
    made = Publisher(broker)
    yield made
    made.connection.close()


def subscribed(running: Running, publisher: Publisher, topic: str) -> None:
    """Wait until messages come: each of `topic` is counted as nobody's."""

    def probe() -> bool:
        publisher.publish(topic, b"")
        return "other_topics" in running.status()["counts"]

    running.wait(probe)


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_twenty_pumps_share_a_subscription(
    broker: Mosquitto, publisher: Publisher, tmp_path: Path, version: str
) -> None:
    tags = [f"plant/hall/pump-{i}/state#/current" for i in range(20)]
    keys: dict[str, Any] = {
        "subscriptions": ("plant/hall/+/state",),
        "client_id": f"hall-{version}",
        "version": version,
    }
    running = Running(broker, tmp_path, tags, **keys)
    subscribed(running, publisher, "plant/hall/none/state")
    for i in range(20):
        publisher.publish(f"plant/hall/pump-{i}/state", json.dumps({"current": i}))
    running.wait(lambda: len(running.readings) == 20)
    running.end()
    assert {r.tag: r.value for r in running.readings} == {tag: float(i) for i, tag in enumerate(tags)}


def test_topics_without_a_filter_are_subscribed_each(broker: Mosquitto, publisher: Publisher, tmp_path: Path) -> None:
    tags = [f"plant/each/{i}" for i in range(250)]
    running = Running(broker, tmp_path, tags, client_id="each")
    for i in (0, 249):
        publisher.publish(f"plant/each/{i}", f"{i}", retain=True)
    running.wait(lambda: {r.value for r in running.readings} == {0.0, 249.0})
    running.end()


def test_retained_message_is_the_value_now(broker: Mosquitto, publisher: Publisher, tmp_path: Path) -> None:
    publisher.publish("plant/stored/v", b"5", retain=True)
    running = Running(broker, tmp_path, ["plant/stored/v"], client_id="stored")
    running.wait(lambda: running.readings)
    running.end()
    assert running.readings[0].value == 5.0 and running.batches[0].fresh


def test_retained_message_may_be_ignored(broker: Mosquitto, publisher: Publisher, tmp_path: Path) -> None:
    publisher.publish("plant/old/v", b"5", retain=True)
    running = Running(
        broker, tmp_path, ["plant/old/v"], client_id="old", retained="ignore", subscriptions=["plant/old/+"]
    )
    subscribed(running, publisher, "plant/old/none")
    publisher.publish("plant/old/v", b"6")
    running.wait(lambda: running.readings)
    running.end()
    assert [r.value for r in running.readings] == [6.0]


def test_malformed_messages_are_counted_shown_and_forgiven(
    broker: Mosquitto, publisher: Publisher, tmp_path: Path
) -> None:
    tags = ["plant/bad/x#/v", "plant/bad/y"]
    running = Running(broker, tmp_path, tags, client_id="bad", subscriptions=["plant/bad/#"], max_bytes=2_000)
    subscribed(running, publisher, "plant/bad/none")
    cases = [payload for payload, keys, _, _ in MALFORMED.values() if not keys]
    for payload in cases:
        publisher.publish("plant/bad/x", payload)
    publisher.publish("plant/bad/wild/" + "level/" * 50, b"1")
    publisher.publish("plant/bad/y", b"2.5")
    running.wait(lambda: any(r.tag == "plant/bad/y" for r in running.readings))
    counts, problems = running.status()["counts"], running.status()["problems"]
    assert sum(counts[k] for k in ("malformed", "unusable", "absent", "too_large")) == len(cases)
    assert "no such value" in problems["plant/bad/x#/v"] and "plant/bad/y" not in problems
    publisher.publish("plant/bad/x", b'{"v": 1}')
    running.wait(lambda: running.readings[-1].value == 1.0)
    assert running.readings[-1].tag == "plant/bad/x#/v" and not running.status()["problems"]
    running.end()


def test_session_is_gone_on_with_and_nothing_comes_twice(
    broker: Mosquitto, publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The acknowledgements are lost, as if the link were cut between commit and PUBACK."""
    tags = ["plant/session/v"]
    real = Connection.acknowledge
    monkeypatch.setattr(Connection, "acknowledge", lambda self, messages: None)
    first = Running(broker, tmp_path, tags, client_id="session", subscriptions=["plant/session/+"])
    subscribed(first, publisher, "plant/session/none")
    for i in range(15):
        publisher.publish("plant/session/v", f"{i % 3}")
    first.wait(lambda: len(first.readings) >= 10)
    first.end()
    while (batch := first.queue.get(0)) is not None:
        first.batches.append(batch)
    monkeypatch.setattr(Connection, "acknowledge", real)
    publisher.publish("plant/session/v", b"99")
    second = Running(broker, tmp_path, tags, client_id="session", subscriptions=["plant/session/+"])
    second.wait(lambda: second.readings[-1:] and second.readings[-1].value == 99)
    second.end()
    assert [r.value for r in first.readings + second.readings] == [*(float(i % 3) for i in range(15)), 99.0]
    assert second.status()["counts"]["repeated"] >= 10
    assert not second.batches[0].fresh  # nothing was lost in between


def test_broker_that_restarts_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedge_agent.sources.host.FIRST_WAIT_S", 0.1)
    broker = Mosquitto(tmp_path / "broker")
    running = Running(broker, tmp_path, ["plant/again/v"], client_id="again", subscriptions=["plant/again/+"])
    publisher = Publisher(broker)
    subscribed(running, publisher, "plant/again/none")
    broker.stop()
    running.wait(lambda: "lost" in running.status()["problems"].get("connection", ""))
    broker.start()
    again = Publisher(broker)
    again.publish("plant/again/v", b"1")
    running.wait(lambda: running.readings)
    assert "connection" not in running.status()["problems"]
    running.end()
    publisher.connection.close()
    again.connection.close()
    broker.stop()


def test_full_disk_stops_no_reading_and_is_shown(
    broker: Mosquitto, publisher: Publisher, tmp_path: Path, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    running = Running(broker, tmp_path, ["plant/full/v"], client_id="full", subscriptions=["plant/full/+"])
    subscribed(running, publisher, "plant/full/none")
    disk.fill()
    for i in range(60):  # more than the broker leaves unacknowledged
        publisher.publish("plant/full/v", f"{i}" + "x" * 250)
    running.wait(lambda: len(running.readings) == 60)
    assert running.status()["counts"]["unkept"] > 0 and "disk is full" in caplog.text
    running.end()


class StoringHost(RecordingHost):
    """Stores one batch, unless the power is cut meanwhile."""

    def __init__(self, folder: Path, power: bool) -> None:
        super().__init__(folder, stop_after=1)
        self._power = power

    def store(
        self,
        readings: Sequence[Reading],
        alive_ns: int | None = None,
        receipts: Sequence[bytes] = (),
        continued: bool = False,
        origin: str | None = None,
    ) -> None:
        if not self._power:
            raise OSError("the power is cut")
        super().store(readings, alive_ns, receipts, continued)


@pytest.mark.parametrize("power", [True, False])
def test_message_is_acknowledged_only_when_it_is_stored(tmp_path: Path, power: bool) -> None:
    broker, host = BrokerOfOneMessage("plant/a", b"1"), StoringHost(tmp_path, power)
    source = MqttSource("broker", config(url=broker.url, client_id="gw", version="3.1.1"))
    with nullcontext() if power else pytest.raises(OSError, match="power"):
        source.run(["plant/a"], host)
    assert broker.ended.wait(LONGEST_S)
    assert broker.acknowledged == power and len(host.readings) == power


def test_a_closed_connection_holds_no_descriptor() -> None:
    """Else each time a broker comes back costs the agent two, until it may open no more."""
    gc.collect()  # what other tests left open is not ours
    before = len(list(Path("/proc/self/fd").iterdir()))
    broker = BrokerOfOneMessage("plant/a", b"1")
    connection = Connection(config(url=broker.url, client_id="gw", version="3.1.1"))
    connection.open()
    connection.close()
    assert broker.ended.wait(LONGEST_S)
    until(lambda: len(list(Path("/proc/self/fd").iterdir())) <= before)


def test_quality_of_service_0_keeps_nothing(broker: Mosquitto, publisher: Publisher, tmp_path: Path) -> None:
    keys: dict[str, Any] = {"client_id": "qos0", "qos": 0, "subscriptions": ["plant/qos0/+"]}
    running = Running(broker, tmp_path, ["plant/qos0/v"], **keys)
    subscribed(running, publisher, "plant/qos0/none")
    publisher.publish("plant/qos0/v", b"1")
    running.wait(lambda: running.readings)
    assert running.inbox.status()["commits"] == 0 and running.batches[0].inbox_row == 0
    running.end()


def test_check_leaves_the_session_of_the_running_agent_alone(
    broker: Mosquitto, publisher: Publisher, tmp_path: Path
) -> None:
    running = Running(broker, tmp_path, ["plant/check/v"], client_id="check", subscriptions=["plant/check/+"])
    subscribed(running, publisher, "plant/check/none")
    assert (
        MqttSource(
            "broker",
            config(
                **broker.keys,
            ),
        ).check(["plant/check/v"])
        == []
    )
    assert "no broker listens" in MqttSource("b", config(url="mqtt://127.0.0.1:9")).check(["t"])[0]
    assert "own topic" in MqttSource("b", config(**broker.keys)).check(["a/+"])[0]
    publisher.publish("plant/check/v", b"1")
    running.wait(lambda: running.readings)
    assert running.status()["reconnects"] == 0
    running.end()


def test_messages_wait_at_the_broker_while_the_agent_is_busy(
    broker: Mosquitto, publisher: Publisher, tmp_path: Path
) -> None:
    running = Running(broker, tmp_path, ["plant/busy/v"], 3, client_id="busy", subscriptions=["plant/busy/+"])
    subscribed(running, publisher, "plant/busy/none")
    for i in range(200):
        publisher.publish("plant/busy/v", f"{i}")
    running.wait(lambda: len(running.readings) == 200)
    assert running.queue.dropped == 0 and [r.value for r in running.readings] == list(range(200))
    running.end()
