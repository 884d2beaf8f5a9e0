# SPDX-License-Identifier: Apache-2.0
"""HTTP/1.1 over TLS 1.3 for gateways: translate requests to calls and answers back.

Promises that no client can hold up another: the handshake runs in the connection's own thread under a time-out, every
read has a cap, a connection that is too slow with a request is cut, and the number of connections is bounded. Error
answers are JSON ``{"error": reason}``, never a traceback.
"""

from __future__ import annotations

import io
import logging
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
from fedge_models.errors import FedgeError, IdentityError, ReplayError, RetryError, StaleError
from fedge_models.messages import idle
from fedge_models.system import service

from .calls import Calls

logger = logging.getLogger(__name__)

FIRST_BYTE_S = 10.0  # a client speaks first, as soon as it is connected
HANDSHAKE_S = 30.0  # then one round trip, which may take 10 s
IDLE_S = 120.0  # between two requests of a connection
MAX_HEADER_BYTES = 16 * 1024  # request line and headers together
MAX_JOIN_BYTES = 8 * 1024
Answer = tuple[int, str, bytes, dict[str, str]]  # status, type and body, headers
KEPT = ("ETag", "Fedge-Asked", "Fedge-Statistics")  # headers of an answer without a body
_ROUTE = re.compile(r"/v1/federations/([A-Za-z0-9][A-Za-z0-9_.-]{0,63})/(model|release|updates|statistics)")


class NodeServer(service.HttpServer):
    """The listener for gateways."""

    request_queue_size = 128

    def __init__(
        self, address: tuple[str, int], context: ssl.SSLContext, calls: Calls, max_connections: int, request_s: float
    ) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.context, self.calls, self.request_s = context, calls, request_s
        self._free = threading.BoundedSemaphore(max_connections)
        self._deadlines: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        super().__init__(address, _Handler)

    def start(self) -> None:
        """Serve from threads of its own."""
        threading.Thread(target=self.serve_forever, args=(service.STOPS_S,), name="listener", daemon=True).start()
        threading.Thread(target=self._cut_late_connections, name="deadlines", daemon=True).start()

    def stop(self) -> None:
        """Accept no more connections; those that are open end with their threads."""
        self._stopping.set()
        self.shutdown()
        self.server_close()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Close a connection over the cap; give others a thread."""
        if not self._free.acquire(blocking=False):
            self.calls.metrics.turned_away.inc()
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one connection, from handshake to end."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Do the handshake in the connection's own thread, then answer its requests."""
        request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.allow(request, FIRST_BYTE_S)
        try:
            request.settimeout(FIRST_BYTE_S)
            if not request.recv(1, socket.MSG_PEEK):
                raise ConnectionError("closed before a byte came")
            connection = self.context.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
        except OSError:
            self.forget(request)
            return
        self.forget(request)
        try:
            self.allow(connection, HANDSHAKE_S)
            connection.settimeout(HANDSHAKE_S)
            connection.do_handshake()
            super().finish_request(connection, client_address)
        except OSError as e:
            logger.debug("connection from %s ended: %s", client_address, e)
        finally:
            self.forget(connection)
            with suppress(OSError):
                connection.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log a fault of the server in one connection's thread."""
        logger.exception("connection from %s failed", client_address)

    def allow(self, connection: socket.socket, seconds: float) -> None:
        """Cut this connection in `seconds`, unless this is called again before."""
        with self._lock:
            self._deadlines[connection] = time.monotonic() + seconds

    def forget(self, connection: socket.socket) -> None:
        """Forget the deadline of a connection that has ended."""
        with self._lock:
            self._deadlines.pop(connection, None)

    def _cut_late_connections(self) -> None:
        while not self._stopping.wait(0.5):
            with self._lock:
                late = [c for c, deadline in self._deadlines.items() if deadline < time.monotonic()]
            for connection in late:
                self.forget(connection)
                with suppress(OSError):  # SSLSocket.shutdown would forget TLS and let plain bytes through
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)


class _Capped(io.RawIOBase):
    """A reader whose lines share one budget until `renew`: endless headers end the connection."""

    def __init__(self, inner: io.BufferedIOBase) -> None:
        self._inner, self._left = inner, MAX_HEADER_BYTES

    def renew(self) -> None:
        self._left = MAX_HEADER_BYTES

    def readline(self, size: int | None = -1, /) -> bytes:
        line = self._inner.readline(self._left)
        self._left -= len(line)
        if line and self._left <= 0:
            raise ConnectionError("headers are too long")
        return line

    def read(self, size: int | None = -1, /) -> bytes:
        return self._inner.read(size)

    def close(self) -> None:
        self._inner.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: NodeServer
    rfile: Any

    def setup(self) -> None:
        super().setup()
        self.rfile = _Capped(self.rfile)

    def handle_one_request(self) -> None:
        self.rfile.renew()
        self.server.allow(self.connection, IDLE_S)
        self.connection.settimeout(IDLE_S)
        super().handle_one_request()

    def parse_request(self) -> bool:
        self.server.allow(self.connection, self.server.request_s)
        return super().parse_request()

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def _answer(self, call: Callable[[], Answer]) -> None:
        metrics = self.server.calls.metrics
        try:
            code, kind, body, headers = call()
        except FedgeError as e:
            code, kind, body, headers = _refusal(e)
            metrics.refused.labels(type(e).__name__).inc()
            logger.info("%s %s from %s: %d %s", self.command, self.path[:100], self.client_address[0], code, e)
            self.close_connection = True  # the body may not have been read
        self.send_response(code)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            if code != 304 or name in KEPT:
                self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        metrics.bytes_out.inc(len(body))

    def _get(self) -> Answer:
        url = urlsplit(self.path)
        if url.path == "/v1/ca":
            return 200, "application/pkix-cert", self.server.calls.authority_certificate(), {}
        match = _ROUTE.fullmatch(url.path)
        if not match or match[2] == "updates":
            return 404, "application/json", _error("no such path"), {}
        node = self._node()
        federation = self.server.calls.federation(match[1], node)
        if match[2] == "model":
            etag = {"ETag": f'"{federation.model.graph.hex()}"'}
            return 200, "application/octet-stream", self.server.calls.model(federation), etag
        have = parse_qs(url.query).get("have", ["0"])[0]
        if not have.isdigit() or len(have) > 16:
            return 400, "application/json", _error("have: expected the version number that the node holds"), {}
        if match[2] == "statistics":
            found = federation.statistics.body_for(node.name, int(have))
            return (304, "", b"", {}) if found is None else (200, "application/cose", found, {})
        federation.note_idle(node.name, idle.parse(parse_qs(url.query).get("idle", [""])[0]))
        federation.note_serves(node.name, _version(parse_qs(url.query).get("serves", [""])[0]))
        body = federation.body_for(int(have))
        etag = {"ETag": f'"{federation.current.header.version}"'}
        if not federation.asks(node.name):
            etag["Fedge-Asked"] = "no"
        if number := federation.statistics.number_for(node.name):
            etag["Fedge-Statistics"] = str(number)
        return (304, "", b"", etag) if body is None else (200, "application/cose", body, etag)

    def _post(self) -> Answer:
        calls = self.server.calls
        if self.path == "/v1/join":
            body = self._body(MAX_JOIN_BYTES)
            return (200, "application/cbor", calls.join(body), {}) if isinstance(body, bytes) else body
        if self.path == "/v1/renew":
            node, body = self._node(), self._body(MAX_JOIN_BYTES)
            return (200, "application/pkix-cert", calls.renew(node, body), {}) if isinstance(body, bytes) else body
        match = _ROUTE.fullmatch(self.path)
        if not match or match[2] not in ("updates", "statistics"):
            return 404, "application/json", _error("no such path"), {}
        return self._take(match[1], match[2])

    def _take(self, name: str, what: str) -> Answer:
        """Take an update or statistics for a federation."""
        calls, node = self.server.calls, self._node()
        federation = calls.federation(name, node)
        body = self._body(federation.max_body if what == "updates" else federation.statistics.max_body)
        if not isinstance(body, bytes):
            return body
        if what == "updates":
            calls.update(federation, node, body)
            calls.metrics.accepted.labels(federation.name).inc()
        else:
            calls.statistics(federation, node, body)
            calls.metrics.statistics.labels(federation.name).inc()
        return 202, "application/json", b"{}", {}

    def _node(self) -> Any:
        return self.server.calls.authenticate(self.connection.getpeercert(binary_form=True))

    def _body(self, cap: int) -> bytes | Answer:
        """The request's body; or the refusal of one without a length or over its cap, before a byte is read."""
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or self.headers.get("Transfer-Encoding"):
            self.close_connection = True
            return 411, "application/json", _error("Content-Length is needed"), {}
        if len(length) > 12 or int(length) > cap:
            self.close_connection = True
            return 413, "application/json", _error(f"body of {length} bytes, expected at most {cap}"), {}
        body: bytes = self.rfile.read(int(length))
        if len(body) != int(length):
            raise ConnectionError("body ended early")
        self.server.calls.metrics.bytes_in.inc(len(body))
        return body

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Send a refusal of http.server itself in this server's form."""
        self.close_connection = True
        body = _error(message or "bad request")
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def version_string(self) -> str:
        return "fedge"

    def log_message(self, format: str, *args: Any) -> None:
        logger.debug("%s: " + format, self.client_address[0], *args)


def _refusal(error: FedgeError) -> Answer:
    """The answer to an error: its status says what the caller should do next."""
    codes: list[tuple[type[FedgeError], int]] = [(IdentityError, 403), (StaleError, 409), (RetryError, 503)]
    code = next((code for kind, code in codes if isinstance(error, kind)), 422)
    last = {"last_sequence": error.last} if isinstance(error, ReplayError) else {}
    return code, "application/json", _error(str(error), **last), {"Retry-After": "30"} if code == 503 else {}


def _version(word: str) -> int | None:
    """A release's version in a query; None for anything else."""
    return int(word) if word.isascii() and word.isdigit() and len(word) <= 16 else None


def _error(reason: str, **more: int) -> bytes:
    return msgspec.json.encode({"error": reason, **more})
