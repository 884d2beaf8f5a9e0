# SPDX-License-Identifier: Apache-2.0
"""What both long-running programs offer their operator: systemd notifications and a page on the loopback.

The page answers `/healthz`, `/metrics` (Prometheus) and `/status` (JSON), on the loopback only: counters, no secrets.
"""

from __future__ import annotations

import errno
import http.client
import ipaddress
import logging
import os
import socket
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from typing import Any

import msgspec

from ..errors import ConfigError, UnreachableError, WireError
from . import files, lock
from .http_exchange import exchange
from .text import printable
from .worker import Worker

logger = logging.getLogger(__name__)

REQUEST_TIMEOUT_S = 5.0
STOPS_S = 0.1  # how soon a listener that waits for connections sees that it is to stop
MAX_STATUS_BYTES = 16 * 1024 * 1024


def notify(text: str) -> None:
    """Tell systemd (sd_notify(3)), e.g. "READY=1"; nothing happens elsewhere."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]  # abstract namespace, unix(7)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        try:
            channel.sendto(text.encode(), address)
        except OSError as e:
            logger.warning("systemd cannot be notified: %s", e)


def watchdog_interval() -> float | None:
    """Seconds between "WATCHDOG=1" (half of what systemd allows), or None when it does not watch this process."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 2e6 if microseconds.isdigit() else None


def parse_address(text: str, where: str) -> tuple[str, int]:
    """Host and port of "host:port". Raises ConfigError."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f'{where}: expected "host:port", got {text!r}')
    return host.strip("[]"), int(port)


def parse_loopback(text: str, where: str) -> tuple[str, int]:
    """Like parse_address, for a page without a password: only loopback addresses. Raises ConfigError."""
    host, port = parse_address(text, where)
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ConfigError(
            f"{where}: {host!r} is not a loopback address; put a proxy that asks for a password before it"
        )
    return host, port


def try_address(address: tuple[str, int]) -> None:
    """Listen there for a moment. Raises ConfigError when another program has the port or it is not allowed."""
    HttpServer(address, BaseHTTPRequestHandler).server_close()


class Page:
    """The loopback page, served from threads of its own."""

    def __init__(
        self,
        address: tuple[str, int],
        metrics: Callable[[], bytes],
        status: Callable[[], Any],
        healthy: Callable[[], bool],
        more: Mapping[str, Callable[[], Any]] | None = None,
    ) -> None:
        routes: dict[str, Callable[[], tuple[int, str, bytes]]] = {
            "/metrics": lambda: (200, "text/plain; version=0.0.4", metrics()),
            "/status": lambda: (200, "application/json", msgspec.json.encode(status())),
            "/healthz": lambda: (200, "text/plain", b"ok\n") if healthy() else (503, "text/plain", b"not well\n"),
        }
        for path, call in (more or {}).items():
            routes[path] = lambda call=call: (200, "application/json", msgspec.json.encode(call()))  # type: ignore[misc]
        self._server = _PageServer(address, _PageHandler)
        self._server.routes = routes
        self._worker = Worker("page", lambda: self._server.serve_forever(STOPS_S))

    @property
    def address(self) -> str:
        """host:port as bound."""
        host, port = self._server.server_address[:2]
        return f"{host!s}:{port}"

    def start(self) -> None:
        """Answer from now on."""
        self._worker.start()

    def stop(self) -> None:
        """Stop answering, and close the socket; also before `start`."""
        if self._worker.running:
            self._server.shutdown()
            self._worker.stop(STOPS_S)
        self._server.server_close()


def ask(address_file: Path, program: str, path: str = "/status", configured: str = "") -> bytes:
    """A JSON page of the program whose page is where the file says. Raises ConfigError or UnreachableError.

    configured: the address in the configuration, where it is looked for when the file is missing or out of date, as it
    is when the disk takes nothing.
    """
    fixed = "" if configured.endswith(":0") else configured
    try:
        address = address_file.read_text().strip() or fixed
    except FileNotFoundError as e:
        if not (address := fixed):
            raise UnreachableError(_nowhere(address_file, program)) from e
    except OSError as e:
        if not (address := fixed):
            raise ConfigError(files.explain(e, address_file)) from e
    try:
        return _fetch(address, path)
    except (OSError, ValueError, UnreachableError, WireError) as e:
        with suppress(OSError, ValueError, UnreachableError, WireError):
            if fixed and fixed != address:
                return _fetch(fixed, path)
        raise UnreachableError(_silent(address_file.parent, address, program, e)) from e


def _fetch(address: str, path: str) -> bytes:
    """The answer of a page. Raises ValueError when what answers is no page of ours."""
    host, _, port = address.rpartition(":")
    with closing(http.client.HTTPConnection(host.strip("[]"), int(port), timeout=REQUEST_TIMEOUT_S)) as connection:
        answer = exchange(connection, address, "GET", path, None, {}, MAX_STATUS_BYTES)
    if answer.status == 500:
        raise ValueError(printable(answer.data.decode(errors="replace").strip()))
    if answer.status != 200 or answer.headers.get_content_type() != "application/json":
        raise ValueError(f"another program answers there (HTTP {answer.status})")
    return answer.data


def _nowhere(file: Path, program: str) -> str:
    """Why it is not known where a page is."""
    pid = lock.holder(file.parent)
    if pid is None:
        return f"{program} has not run with the state folder {file.parent} yet"
    advice = 'see its log, make room on the disk, or configure a fixed address, such as status = "127.0.0.1:9465"'
    return f"{program} runs (pid {pid}), but {file}, which says where its page is, could not be written; {advice}"


def _silent(folder: Path, address: str, program: str, error: Exception) -> str:
    """Why a page gives no answer: the program ended, or it runs and is stuck."""
    pid = lock.holder(folder)
    if pid is None:
        return f"{program} is not running with the state folder {folder}; see: systemctl status {program}"
    return f"{program} runs (pid {pid}), but its page at {address} gives no answer: {error}"


class HttpServer(ThreadingHTTPServer):
    """The standard library's server, without its look-up of this machine's name, which may wait for a name service."""

    daemon_threads = True

    def server_bind(self) -> None:
        """Bind the socket. Raises ConfigError when another program has the port or it is not allowed."""
        host, port = self.server_address[:2]
        try:
            TCPServer.server_bind(self)
        except OSError as e:
            advice = {
                errno.EADDRINUSE: "another program listens there; stop it, or choose another port",
                errno.EACCES: "ports below 1024 are the system's; choose a higher one",
                errno.EADDRNOTAVAIL: "this machine does not have that address",
            }.get(e.errno or 0, "choose another address")
            raise ConfigError(f"cannot listen on {host!s}:{port}: {e.strerror}; {advice}") from e


class _PageServer(HttpServer):
    routes: dict[str, Callable[[], tuple[int, str, bytes]]]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever asked is gone: that is no fault of ours."""
        logger.debug("page: a request of %s ended early", client_address, exc_info=True)


class _PageHandler(BaseHTTPRequestHandler):
    timeout = REQUEST_TIMEOUT_S
    server: _PageServer

    def do_GET(self) -> None:
        route = self.server.routes.get(self.path)
        try:
            code, kind, body = route() if route else (404, "text/plain", b"try /status, /metrics or /healthz\n")
        except Exception as e:
            logger.exception("page: %s", self.path)
            code, kind, body = 500, "text/plain", f"unexpected {type(e).__name__}: {e}; see the log\n".encode()
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        logger.debug("page: " + format, *args)
