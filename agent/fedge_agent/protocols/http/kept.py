# SPDX-License-Identifier: Apache-2.0
"""Keep connections to other people's servers open between requests, so that a request costs one round trip.

A server may close a kept connection at any time. One that is closed already is not used; one that turns out to be
closed is opened once more, if the request may be sent twice (`again`). A request that may not goes over a connection of
its own, unless the server has proved that it keeps them (`keeping`). Used by one thread.
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
from .keeping import LIVES_S, Keeping
from .settings import Server

IDLE_S = 30.0  # a connection that nothing was sent over for so long is closed
MOST = 4  # servers; a template may name several


class _Open(NamedTuple):
    connection: http.client.HTTPConnection
    used: float  # monotonic, s


class Connections:
    """The connections to one configured target."""

    def __init__(self, target: Server) -> None:
        self._target, self._keeping = target, Keeping()
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
        server, again = _server(url), method == "GET" if again is None else again
        held, began = self._take(server, again), time.monotonic()
        connection = held.connection if held else client.open_connection(url, self._target)
        try:
            before()
            try:
                return client.exchange(connection, method, url, body, headers, expect, may_be_gone)
            except UnreachableError as e:
                if held is None:
                    raise
                now, closed = time.monotonic(), was_closed(e)
                self._keeping.lost(server, began - held.used, closed, now)
                if not (closed and again):
                    raise
            held, connection = None, client.open_connection(url, self._target)
            return client.exchange(connection, method, url, body, headers, expect, may_be_gone)
        finally:
            self._keep(server, connection, held is not None)

    def rest(self) -> None:
        """Close what has ended or was idle for too long; note which servers keep theirs."""
        now = time.monotonic()
        for server, held in list(self._kept.items()):
            idle_s, ended = now - held.used, _has_ended(held.connection)
            if ended:
                self._keeping.ended(server, idle_s, now)
            elif idle_s >= LIVES_S:
                self._keeping.lived(server, now)
            if ended or idle_s > IDLE_S:
                self._kept.pop(server).connection.close()

    def close(self) -> None:
        """Close all; a call after that opens a new one."""
        while self._kept:
            self._kept.popitem()[1].connection.close()

    def _take(self, server: tuple[str, str], again: bool) -> _Open | None:
        """A connection to the server that seems to be open still, and that the request may be risked on."""
        self.rest()
        held = self._kept.pop(server, None)
        if held is None or again or self._keeping.keeps(server):
            return held
        held.connection.close()
        return None

    def _keep(self, server: tuple[str, str], connection: http.client.HTTPConnection, was_kept: bool) -> None:
        """Keep a connection, unless the server or an error has ended it, or the server keeps none."""
        now = time.monotonic()
        if connection.sock is None or not self._keeping.may_keep(server, now):
            connection.close()
            return
        if was_kept:
            self._keeping.lived(server, now)
        self._kept[server] = _Open(connection, now)
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
