# SPDX-License-Identifier: Apache-2.0
"""A broker for one client at a time that records each packet, with the flags that a client library hides.

It speaks as much of MQTT 3.1.1 and 5 as our clients use: CONNECT with its Will, SUBSCRIBE, PUBLISH of QoS 0 and 1,
PINGREQ, DISCONNECT. What a test sends goes to the client that is connected.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from support.waiting import LONGEST_S

KINDS = {1: "CONNECT", 3: "PUBLISH", 4: "PUBACK", 8: "SUBSCRIBE", 12: "PINGREQ", 14: "DISCONNECT"}
SESSION_EXPIRY, PROPERTY_BYTES = 0x11, {0x11: 4, 0x21: 2, 0x27: 4, 0x22: 2, 0x17: 1, 0x19: 1}


class Packet(NamedTuple):
    """What a client sent. `connection`: 0 for the first."""

    connection: int
    kind: str
    topic: str = ""
    payload: bytes = b""
    qos: int = 0
    retain: bool = False
    version: int = 4  # CONNECT: 4 is MQTT 3.1.1
    clean: bool = False
    expiry: int = 0
    will: Packet | None = None
    filters: tuple[tuple[str, int], ...] = ()  # SUBSCRIBE: with QoS
    reason: int = 0  # DISCONNECT


class _Bytes:
    """Reads a packet's body from the front."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, count: int) -> bytes:
        self._at += count
        return self._data[self._at - count : self._at]

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "big")

    def text(self) -> str:
        return self.take(self.number(2)).decode()

    def block(self) -> bytes:
        return self.take(self.number(2))

    def rest(self) -> bytes:
        return self.take(len(self._data) - self._at)

    def properties(self) -> dict[int, int]:
        """Properties of MQTT 5 that are numbers; our clients send no others."""
        end, found = self.number(1) + self._at, {}
        while self._at < end:
            kind = self.number(1)
            found[kind] = self.number(PROPERTY_BYTES[kind])
        return found

    def __bool__(self) -> bool:
        return self._at < len(self._data)


class WireBroker:
    """Use it in a `with` block. `packets`: all that came, oldest first, but for pings and acknowledgements."""

    def __init__(self) -> None:
        self.packets: list[Packet] = []
        self._changed = threading.Condition()
        self._client: socket.socket | None = None
        self._version, self._number = 4, -1
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"mqtt://127.0.0.1:{self._listener.getsockname()[1]}"
        self.on_subscribe: Callable[[str], None] = lambda _: None  # called with each filter after its SUBACK
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> WireBroker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for one in (self._listener, self._client):
            with suppress(OSError):
                if one is not None:
                    one.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(LONGEST_S)

    def send(self, topic: str, payload: bytes, retain: bool = False) -> None:
        """Send a message of QoS 0 to the client."""
        assert self._client is not None
        name = topic.encode()
        body = len(name).to_bytes(2, "big") + name + (b"\0" if self._version == 5 else b"") + payload
        self._client.sendall(bytes([0x30 | retain]) + _length(len(body)) + body)

    def drop(self) -> None:
        """End the connection without a word."""
        assert self._client is not None
        self._client.shutdown(socket.SHUT_RDWR)

    def wait(self, done: Callable[[list[Packet]], Any], what: str) -> Any:
        """The first true result of `done` for the packets so far."""
        with self._changed:
            assert self._changed.wait_for(lambda: done(self.packets), LONGEST_S), f"{what}: {self.packets}"
            return done(self.packets)

    def publishes(self, kind: str = "") -> list[Packet]:
        """Publications whose topic has this part, such as "NBIRTH"."""
        with self._changed:
            return [p for p in self.packets if p.kind == "PUBLISH" and (not kind or f"/{kind}/" in p.topic)]

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                self._client, _ = self._listener.accept()
                self._number += 1
                with self._client, self._client.makefile("rb") as stream, suppress(OSError):
                    while head := stream.read(1):
                        self._answer(head[0], stream.read(_read_length(stream)))

    def _answer(self, head: int, body: bytes) -> None:
        kind, data = KINDS.get(head >> 4, "?"), _Bytes(body)
        assert self._client is not None
        if kind == "CONNECT":
            self._record(self._connect(data))
            self._client.sendall(bytes([0x20, 3, 0, 0, 0] if self._version == 5 else [0x20, 2, 0, 0]))
        elif kind == "SUBSCRIBE":
            self._subscribe(data)
        elif kind == "PUBLISH":
            self._publish(head, data)
        elif kind == "PINGREQ":
            self._client.sendall(bytes([0xD0, 0]))
        elif kind == "DISCONNECT":
            self._record(Packet(self._number, kind, reason=data.number(1) if data else 0))

    def _connect(self, data: _Bytes) -> Packet:
        data.text()
        self._version, flags = data.number(1), data.number(1)
        data.number(2)  # keep alive
        expiry = data.properties().get(SESSION_EXPIRY, 0) if self._version == 5 else 0
        data.text()  # client id
        will = None
        if flags & 4:
            if self._version == 5:
                data.properties()
            topic, payload = data.text(), data.block()
            will = Packet(self._number, "WILL", topic, payload, flags >> 3 & 3, bool(flags & 0x20))
        clean = bool(flags & 2)
        return Packet(self._number, "CONNECT", version=self._version, clean=clean, expiry=expiry, will=will)

    def _subscribe(self, data: _Bytes) -> None:
        assert self._client is not None
        number, filters = data.take(2), []
        if self._version == 5:
            data.properties()
        while data:
            filters.append((data.text(), data.number(1) & 3))
        self._record(Packet(self._number, "SUBSCRIBE", filters=tuple(filters)))
        codes = bytes(qos for _, qos in filters)
        answer = number + (b"\0" if self._version == 5 else b"") + codes
        self._client.sendall(bytes([0x90]) + _length(len(answer)) + answer)
        for filter_, _ in filters:
            self.on_subscribe(filter_)

    def _publish(self, head: int, data: _Bytes) -> None:
        assert self._client is not None
        topic, qos = data.text(), head >> 1 & 3
        number = data.take(2) if qos else b""
        if self._version == 5:
            data.properties()
        self._record(Packet(self._number, "PUBLISH", topic, data.rest(), qos, bool(head & 1)))
        if qos:
            self._client.sendall(bytes([0x40, 2]) + number)

    def _record(self, packet: Packet) -> None:
        with self._changed:
            self.packets.append(packet)
            self._changed.notify_all()


def _length(number: int) -> bytes:
    """The length of a packet, seven bits a byte."""
    out = b""
    while True:
        number, low = divmod(number, 128)
        out += bytes([low | (128 if number else 0)])
        if not number:
            return out


def _read_length(stream: Any) -> int:
    number = shift = 0
    while True:
        byte = stream.read(1)[0]
        number |= (byte & 127) << shift
        if byte < 128:
            return number
        shift += 7
