# SPDX-License-Identifier: Apache-2.0
"""Subscribe at an MQTT broker, and acknowledge each message once the inbox has stored its readings.

Promises: a message of QoS 1 that the broker delivers becomes readings exactly once, also through kill -9 and lost
links, as long as the broker keeps our session. A bad message stops no other: it is counted, shown, and acknowledged.
One that ends the reading, or the process, twice is stored in a file (`failed_messages`) and then acknowledged.
Leaves the connection to `protocols.mqtt`, the meaning of payloads to `mqtt_payload`, back-off to the host.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Literal

import msgspec
from fedge_models.errors import ConfigError, FedgeError

from ..protocols.mqtt.broker import check_broker, session_claims
from ..protocols.mqtt.connection import Connection, Message
from ..types import Reading, Source, SourceHost
from .mqtt_attempts import Attempts
from .mqtt_payload import Complaint, Payload, Reader, parse_pointer

IDLE_S = 0.2
MAX_PER_COMMIT = 500  # messages; of pictures one, because they unpack to many times their size
MAX_WAITING_BYTES = 8 * 1024 * 1024  # of messages not read yet; beyond that the broker waits
MESSAGE_BYTES = 500  # memory of an empty message
FILTERS_PER_REQUEST = 100
RECEIPT_BYTES = 8
STORED_COPIES = 3  # of a picture's pixels on their way into the inbox: the row, and SQLite's two


class MqttConfig(Payload, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[source.X] type = "mqtt"``; a tag is "topic", or "topic#/json/pointer"."""

    client_id: str  # fixed, and no other client's at this broker, which stores under it what we miss
    subscriptions: tuple[str, ...] = ()  # filters, with + and #, instead of one per topic of a tag
    qos: Literal[0, 1] = 1  # 0: at most once; nothing is stored for a restart
    retained: Literal["use", "ignore"] = "use"  # the newest message of each topic from before we subscribed


class MqttSource(Source):
    """Subscribes, and hands over the readings of each message."""

    Config = MqttConfig
    reader = Reader  # makes readings of messages

    def __init__(self, name: str, config: MqttConfig) -> None:
        self._name, self._config = name, config
        self.claims = session_claims(config)
        where = f"source {name}"
        check_broker(config, where)
        if not config.client_id:
            raise ConfigError(f"{where}: client_id is empty; give this gateway one of its own that never changes")
        if config.time:
            parse_pointer(config.time, f"{where}: time")
        for text in config.subscriptions:
            _check_filter(text, where)

    def run(self, tags: Sequence[str], host: SourceHost) -> None:
        """Deliver until `host.stop`. Raises UnreachableError, or ConfigError for tags and files that cannot be used."""
        reader = self.reader(tags, self._config, STORED_COPIES if self._config.qos else 0)
        waiting = Waiting(1 if self._config.payload == "image" else MAX_PER_COMMIT)
        connection = Connection(self._config, waiting.put)
        try:
            connection.open()
            self._subscribe(connection, reader, host)
            host.problem("connection", None)
            intake = Intake(self._config, reader, host, connection.session_present)
            with intake:
                while not host.stop.is_set():
                    if messages := waiting.take(IDLE_S):
                        done = intake.take(messages)
                        connection.acknowledge(done)
                    intake.look()
                    connection.check()
        finally:
            waiting.close()
            connection.close()

    def leave_no_trace(self) -> None:
        """Connect under another id and without a session, so that the running agent keeps its own."""
        self._config = msgspec.structs.replace(self._config, client_id="")

    def check(self, tags: Sequence[str]) -> list[str]:
        """Connect under another id, so that the running agent keeps its session, and subscribe."""
        config = msgspec.structs.replace(self._config, client_id="")
        try:
            reader = Reader(tags, config)
            connection = Connection(config)
            try:
                connection.open()
                refused: dict[str, str] = {}
                for part in _parts(_filters(config, reader)):
                    refused |= connection.subscribe(part, config.qos)
                return [f"subscription {f!r}: {why}" for f, why in refused.items()]
            finally:
                connection.close()
        except FedgeError as e:
            return [str(e)]

    def _subscribe(self, connection: Connection, reader: Reader, host: SourceHost) -> None:
        for part in _parts(_filters(self._config, reader)):
            refused = connection.subscribe(part, self._config.qos)
            for text in part:
                host.problem(f"subscription {text}", refused.get(text))


class Waiting:
    """Messages between paho's thread and ours. When it is full, paho's thread waits, and with it the broker."""

    def __init__(self, at_most: int) -> None:
        self._at_most = at_most
        self._messages: deque[Message] = deque()
        self._bytes, self._closed, self._changed = 0, False, threading.Condition()

    def put(self, message: Message) -> None:
        """Append a message, in paho's thread; waits for room."""
        with self._changed:
            self._changed.wait_for(lambda: self._bytes < MAX_WAITING_BYTES or self._closed)
            self._messages.append(message)
            self._bytes += len(message.payload) + MESSAGE_BYTES
            self._changed.notify_all()

    def take(self, timeout: float) -> list[Message]:
        """Remove and return the oldest messages, up to `at_most`; [] if none arrives in time."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._messages), timeout)
            taken = [self._messages.popleft() for _ in range(min(len(self._messages), self._at_most))]
            self._bytes -= sum(len(m.payload) + MESSAGE_BYTES for m in taken)
            self._changed.notify_all()
        return taken

    def close(self) -> None:
        """Let paho's thread go; messages that wait are not acknowledged, so the broker sends them again."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class Intake:
    """Turns messages of one connection into stored readings."""

    def __init__(self, config: MqttConfig, reader: Reader, host: SourceHost, session_present: bool) -> None:
        self._config, self._reader, self._host = config, reader, host
        self._continued = session_present and config.qos == 1
        # A broker repeats messages without an acknowledgement, with the same number and only on a new connection (MQTT
        # 5, 4.4): so these are all that may have been stored already.
        self._known = set(host.receipts())
        self._wrong: set[str] = set()
        self._attempts = Attempts(reader, host)

    def __enter__(self) -> Intake:
        self._attempts.begin()
        return self

    def __exit__(self, *_: object) -> None:
        self._attempts.end()

    def look(self) -> None:
        """Look now and then whether a person removed the messages that were set aside."""
        self._attempts.look(time.monotonic())

    def take(self, messages: Sequence[Message]) -> list[Message]:
        """Store the readings of messages; return those that may be acknowledged."""
        readings: list[Reading] = []
        receipts: list[bytes] = []
        done: list[Message] = []
        for message in messages:
            receipt = _receipt(message)
            if message.repeated and receipt in self._known:
                self._host.count("repeated")
                done.append(message)
                continue
            found = self._read(message)
            if found is None:
                continue
            done.append(message)
            readings += found
            if found and message.qos:
                receipts.append(receipt)
        if readings and self._config.qos == 0:
            self._host.emit(readings)
        elif readings:
            self._host.store(readings, None, receipts, self._continued)
        return done

    def _read(self, message: Message) -> list[Reading] | None:
        """The readings of a message; None while it can be neither read nor set aside."""
        if message.retain and self._config.retained == "ignore":
            return []
        outcome = self._attempts.read(message)
        if outcome is None:
            return None
        readings, complaints = outcome
        for complaint in complaints:
            self._complain(complaint)
        if self._wrong:
            self._withdraw(message.topic, readings, complaints)
        return readings

    def _complain(self, complaint: Complaint) -> None:
        self._host.count(complaint.kind)
        if complaint.subject:
            self._wrong.add(complaint.subject)
            self._host.problem(complaint.subject, complaint.text)

    def _withdraw(self, topic: str, readings: Sequence[Reading], complaints: Sequence[Complaint]) -> None:
        """Withdraw problems of subjects that this message has without a complaint."""
        still = {c.subject for c in complaints}
        for subject in self._wrong & ({topic} | {r.tag for r in readings}) - still:
            self._wrong.discard(subject)
            self._host.problem(subject, None)


def _receipt(message: Message) -> bytes:
    number = message.mid.to_bytes(2, "big")
    digest = hashlib.blake2b(number + message.topic.encode() + b"\0", digest_size=RECEIPT_BYTES)
    digest.update(message.payload)
    return digest.digest()


def _filters(config: MqttConfig, reader: Reader) -> list[str]:
    """The configured subscriptions, and one for each topic that none of them covers."""
    uncovered = [t for t in reader.topics if not any(_matches(f, t) for f in config.subscriptions)]
    return [*config.subscriptions, *uncovered]


def _parts(filters: list[str]) -> list[list[str]]:
    return [filters[i : i + FILTERS_PER_REQUEST] for i in range(0, len(filters), FILTERS_PER_REQUEST)]


def _matches(text: str, topic: str) -> bool:
    """Whether a filter covers a topic (MQTT 5, 4.7), without the prefix of a shared subscription."""
    from paho.mqtt.client import topic_matches_sub

    parts = text.split("/", 2)
    return bool(topic_matches_sub(parts[2] if parts[0] == "$share" and len(parts) == 3 else text, topic))


def _check_filter(text: str, where: str) -> None:
    levels = text.split("/")
    bad = not text or "\0" in text or any("+" in x and x != "+" for x in levels) or "#" in "".join(levels[:-1])
    if bad or ("#" in levels[-1] and levels[-1] != "#"):
        raise ConfigError(f"{where}: subscription {text!r}: + and # stand for whole levels, # only at the end")
