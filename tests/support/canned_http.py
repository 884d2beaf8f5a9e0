# SPDX-License-Identifier: Apache-2.0
"""An HTTP server that gives prepared answers, byte for byte, and records the requests."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO, NamedTuple

from support.waiting import LONGEST_S


class Request(NamedTuple):
    """One request, as it arrived."""

    line: str
    headers: dict[str, str]  # names in lower case
    body: bytes


def reply(status: int, body: bytes | str = b"", kind: str = "application/json", *headers: str) -> bytes:
    """The bytes of an answer with its head."""
    data = body.encode() if isinstance(body, str) else body
    head = [
        f"HTTP/1.1 {status} X",
        f"Content-Type: {kind}",
        f"Content-Length: {len(data)}",
        *headers,
        "Connection: close",
    ]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + data


class CannedServer:
    """Answers one request a connection with `answer(request)`; b"" closes the connection without an answer."""

    def __init__(self, answer: Callable[[Request], bytes], context: ssl.SSLContext | None = None) -> None:
        self.answer, self.requests, self._context = answer, list[Request](), context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http{'s' if context else ''}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> CannedServer:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(LONGEST_S)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                self._answer(self._context.wrap_socket(connection, server_side=True) if self._context else connection)

    def _answer(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream:
            if self._read(stream):  # else the client only looked whether somebody listens
                connection.sendall(self.answer(self.requests[-1]))

    def _read(self, stream: BinaryIO) -> bool:
        """Note the next request of a connection, if there is one."""
        line = stream.readline().decode().strip()
        if line:
            pairs = iter(lambda: stream.readline().decode().strip(), "")
            headers = {name.lower(): value for name, value in (pair.split(": ", 1) for pair in pairs)}
            self.requests.append(Request(line, headers, stream.read(int(headers.get("content-length", 0)))))
        return bool(line)
