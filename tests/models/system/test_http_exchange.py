# SPDX-License-Identifier: Apache-2.0
"""The call below every HTTP client: an answer is whole and within its bounds, or it is none."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest
from fedge_models.errors import ConfigError, UnreachableError, WireError
from fedge_models.system.http_exchange import Response, exchange
from support.waiting import LONGEST_S

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"


@contextmanager
def server(answer: Callable[[socket.socket, threading.Event], None]) -> Iterator[int]:
    """The port of a server that answers one request."""
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with listener.accept()[0] as peer:
                peer.recv(65536)
                answer(peer, ended)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        ended.set()
        thread.join(LONGEST_S)


def ask(port: int, cap: int = 100, limit_s: float | None = None) -> Response:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=LONGEST_S)) as connection:
        return exchange(connection, "here", "GET", "/", None, {}, cap, limit_s)


def test_answer_of_just_the_cap_is_whole() -> None:
    with server(lambda peer, _: peer.sendall(HEAD % 100 + b"x" * 100)) as port:
        assert ask(port)[::3] == (200, b"x" * 100)


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (HEAD % 101 + b"x" * 101, WireError, "here: an answer of more than 100 bytes"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 101, WireError, "more than 100 bytes"),
        (HEAD % 50 + b"x" * 40, UnreachableError, "the answer ended 10 bytes early"),
        (b"", UnreachableError, "no whole answer"),
        (b"HTTP/1.1 201 Cr", UnreachableError, "the answer ended in its head"),
        (b"HTTP/1.1 201 Created\r\n", UnreachableError, "the answer ended in its head"),
        (b"HTTP/1.1 201 Created\r\nContent-Le", UnreachableError, "the answer ended in its head"),
        (b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n", UnreachableError, "the answer ended in its head"),
    ],
)
def test_answer_that_is_too_long_or_not_whole_is_an_error(answer: bytes, error: type[Exception], words: str) -> None:
    with server(lambda peer, _: peer.sendall(answer)) as port, pytest.raises(error, match=words):
        ask(port)


def test_sender_that_never_ends_is_cut_off() -> None:
    def trickle(peer: socket.socket, ended: threading.Event) -> None:
        peer.sendall(HEAD % 90)
        while not ended.wait(0.01):
            peer.send(b"x")

    with server(trickle) as port, pytest.raises(UnreachableError, match=r"did not end within 0\.1 s"):
        ask(port, limit_s=0.1)


@pytest.mark.parametrize(("path", "headers"), [("/?key=S3CRET x", {}), ("/S3CRETü", {}), ("/", {"X": "S3CRET\n"})])
def test_request_that_http_does_not_allow_is_said_without_its_text(path: str, headers: dict[str, str]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", 1)
    with pytest.raises(ConfigError, match="here: the request cannot be sent") as caught:
        exchange(connection, "here", "GET", path, None, headers, 100)
    assert "S3CRET" not in str(caught.value) and caught.value.__suppress_context__


def test_plain_http_at_https_is_said() -> None:
    words = "speaks no TLS: plain HTTP answers at https"
    with server(lambda peer, _: peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as port:
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=LONGEST_S)
        with closing(connection), pytest.raises(UnreachableError, match=words):
            exchange(connection, "here", "GET", "/", None, {}, 100)
