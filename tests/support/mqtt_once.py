# SPDX-License-Identifier: Apache-2.0
"""A broker for one client: it sends one message of QoS 1 (MQTT 3.1.1) and records whether it is acknowledged.

As a broker does, it sends the message again, marked as a duplicate, to each new connection until it is acknowledged.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

CONNECT, PUBACK, SUBSCRIBE, PINGREQ = 0x10, 0x40, 0x80, 0xC0
CONNACK, SUBACK, PINGRESP = bytes([0x20, 2, 0, 0]), 0x90, bytes([0xD0, 0])
PUBLISH_QOS_1, DUP = 0x32, 0x08


class BrokerOfOneMessage:
    """Sends the message once the client has subscribed; `ended` is set when the client has gone."""

    def __init__(self, topic: str, payload: bytes, connections: int = 1, duplicates: bool = True) -> None:
        """duplicates: whether it marks them; some brokers forget it."""
        self._message = bytes([0, len(topic)]) + topic.encode() + bytes([0, 7]) + payload  # 7: packet identifier
        self.acknowledged, self.ended = False, threading.Event()
        self.sent, self._connections, self._duplicates = 0, connections, duplicates
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"mqtt://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with self._listener:
            for _ in range(self._connections):
                connection, _ = self._listener.accept()
                with connection, connection.makefile("rb") as stream, suppress(ConnectionError):
                    while head := stream.read(2):  # kind, and a length that one byte holds
                        self._answer(connection, head[0] & 0xF0, stream.read(head[1]))
                self.ended.set()

    def _answer(self, connection: socket.socket, kind: int, body: bytes) -> None:
        if kind == CONNECT:
            connection.sendall(CONNACK)
        elif kind == SUBSCRIBE:
            connection.sendall(bytes([SUBACK, 3]) + body[:2] + bytes([1]))
            if not self.acknowledged:
                again = DUP if self.sent and self._duplicates else 0
                self.sent += 1
                connection.sendall(bytes([PUBLISH_QOS_1 | again, len(self._message)]) + self._message)
        elif kind == PUBACK:
            self.acknowledged = True
        elif kind == PINGREQ:
            connection.sendall(PINGRESP)
