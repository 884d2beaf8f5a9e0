# SPDX-License-Identifier: Apache-2.0
"""An HTTP server that keeps its connections open, as most do, until an answer is empty."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO

from support.canned_http import CannedServer, Request
from support.waiting import LONGEST_S


def keep(status: int, body: bytes | str = b"") -> bytes:
    """The bytes of an answer after which the connection stays open."""
    data = body.encode() if isinstance(body, str) else body
    return (
        f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data
    )


MOMENT_S = 0.02


class KeepingServer(CannedServer):
    """Answers requests of several connections; b"" closes one without an answer, and without saying so in TLS.

    most: requests of one connection, a moment after which it is closed without a word.
    """

    def __init__(
        self, answer: Callable[[Request], bytes], context: ssl.SSLContext | None = None, most: int | None = None
    ) -> None:
        self._most = most
        self.open: list[socket.socket] = []
        self.connections = 0  # that had a request
        self._threads: list[threading.Thread] = []
        super().__init__(answer, context)

    def __enter__(self) -> KeepingServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.hang_up()
        super().__exit__()
        for thread in self._threads:
            thread.join(LONGEST_S)

    def hang_up(self) -> None:
        """Close every connection that is idle."""
        for connection in list(self.open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._keep, args=(connection,), daemon=True))
            self._threads[-1].start()

    def _keep(self, raw: socket.socket) -> None:
        with raw.dup() as twin:  # TLS takes the other one away
            self.open.append(twin)
            with suppress(OSError):
                connection = raw if self._context is None else self._context.wrap_socket(raw, server_side=True)
                with connection, connection.makefile("rb") as stream:
                    self._talk(connection, stream)
                twin.shutdown(socket.SHUT_RDWR)
            raw.close()
            self.open.remove(twin)

    def _talk(self, connection: socket.socket, stream: BinaryIO) -> None:
        count = 0
        while self._read(stream):
            count += 1
            self.connections += count == 1
            answer = self.answer(self.requests[-1])
            if not answer:
                return
            connection.sendall(answer)
            if count == self._most:
                connection.settimeout(MOMENT_S)
                connection.recv(1)  # what comes now is not read
                return
