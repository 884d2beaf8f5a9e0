# SPDX-License-Identifier: Apache-2.0
"""Keep connections to other people's servers open between requests, so that a request costs one round trip.

A server may close a kept connection at any time. One that is closed already is not used; one that turns out to be
closed is opened once more, if the request may be sent twice (`again`). Used by one thread.
"""

from __future__ import annotations

import http.client
import select
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from fedge_models.errors import UnreachableError
from fedge_models.system.http_exchange import was_closed

from . import client
from .client import Answer, Expect
from .settings import Server

IDLE_S = 30.0  # a connection that nothing was sent over for so long is closed
MOST = 4  # servers; a template may name several


class _Open(NamedTuple):
    connection: http.client.HTTPConnection
    used: float  # monotonic, s


class Connections:
    """The connections to one configured target."""

    def __init__(self, target: Server) -> None:
        self._target = target
        self._kept: dict[tuple[str, str], _Open] = {}  # (scheme, host and port), the one used last at the end

    def call(
        self,
        method: str,
        url: str,
        body: bytes | None,
        headers: Mapping[str, str],
        expect: Expect = "json",
        may_be_gone: bool = False,
        before: Callable[[], None] = lambda: None,
        again: bool | None = None,
    ) -> Answer:
        """Send a request and read its answer, as `client.exchange`; `before` is called when the connection is open.

        again: whether the request may be sent twice, when a kept connection ends without an answer; default: a GET.
        """
        connection = self._take(url)
        kept = connection is not None
        connection = connection or client.open_connection(url, self._target)
        try:
            before()
            try:
                return client.exchange(connection, method, url, body, headers, expect, may_be_gone)
            except UnreachableError as e:
                if not (kept and was_closed(e) and (method == "GET" if again is None else again)):
                    raise
            connection = client.open_connection(url, self._target)
            return client.exchange(connection, method, url, body, headers, expect, may_be_gone)
        finally:
            self._keep(url, connection)

    def rest(self) -> None:
        """Close what was idle for too long."""
        now = time.monotonic()
        for key in [key for key, held in self._kept.items() if now - held.used > IDLE_S]:
            self._kept.pop(key).connection.close()

    def close(self) -> None:
        """Close all; a call after that opens a new one."""
        while self._kept:
            self._kept.popitem()[1].connection.close()

    def _take(self, url: str) -> http.client.HTTPConnection | None:
        """A connection to the server that seems to be open still."""
        self.rest()
        held = self._kept.pop(_server(url), None)
        if held is None or not _has_ended(held.connection):
            return held.connection if held else None
        held.connection.close()
        return None

    def _keep(self, url: str, connection: http.client.HTTPConnection) -> None:
        """Keep a connection, unless the server or an error has ended it."""
        if connection.sock is None:
            connection.close()
            return
        self._kept[_server(url)] = _Open(connection, time.monotonic())
        if len(self._kept) > MOST:
            self._kept.pop(next(iter(self._kept))).connection.close()


def _server(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


def _has_ended(connection: http.client.HTTPConnection) -> bool:
    """Whether the other side closed it, or sent what nobody asked for."""
    look = select.poll()
    look.register(connection.sock, select.POLLIN)
    return bool(look.poll(0))
