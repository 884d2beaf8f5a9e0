# SPDX-License-Identifier: Apache-2.0
"""Send one HTTP request and read its whole, bounded answer: the call below every HTTP client of ours.

The clients differ in whom they trust and in what a status means: other people's servers (`protocols.http`), the
aggregator over mutual TLS (`federation.uplink`), the page of a process on the loopback (`service`). They share what is
easy to get wrong: the answer has a cap, a slow sender is cut off, and an answer that ended early is none. Redirects are
left to the caller; nobody follows one, because a request carries secrets meant for one address.
"""

from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from email.message import Message
from typing import Any, NamedTuple

from ..errors import ConfigError, UnreachableError, WireError

PIECE_BYTES = 65536
UNSENDABLE = (
    "the request cannot be sent: its address, or a header, holds characters that HTTP does not allow; correct url, "
    "query or headers"
)
NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE")  # OpenSSL 1.1 to 3.5
OUT_OF_TIME = (9, 10)  # of OpenSSL's verification: not yet valid, has expired


class Response(NamedTuple):
    """A whole answer."""

    status: int
    reason: str  # the status in words
    headers: Message
    data: bytes


def exchange(
    connection: http.client.HTTPConnection,
    where: str,
    method: str,
    path: str,
    body: bytes | None,
    headers: Mapping[str, str | bytes],
    cap: int,
    limit_s: float | None = None,
) -> Response:
    """The answer to a request; `where` begins the messages, `limit_s` is the time for the answer's body.

    Raises UnreachableError when no whole answer came: the server may have done what was asked, or not. Raises WireError
    for an answer of more than `cap` bytes, ConfigError for a request that HTTP does not allow. The connection is then
    closed.
    """
    try:
        connection.response_class = WholeHead
        connection.request(method, path, body, dict(headers))
        with connection.getresponse() as response:
            data = _read(response, where, cap, limit_s)
        return Response(response.status, response.reason, response.headers, data)
    except (OSError, ValueError, http.client.HTTPException) as e:
        connection.close()
        if isinstance(e, http.client.InvalidURL) or not isinstance(e, (OSError, http.client.HTTPException)):
            raise ConfigError(f"{where}: {UNSENDABLE}") from None  # its text quotes what may be a key
        raise UnreachableError(f"{where}: no whole answer: {in_words(e)}") from e
    except BaseException:
        connection.close()
        raise


class _WholeLines:
    """Lines of an answer's head, up to the empty one; an end before that is an answer that was cut off."""

    def __init__(self, lines: Any) -> None:
        self._lines, self._any = lines, False

    def readline(self, most: int) -> bytes:
        line: bytes = self._lines.readline(most)
        if not line.endswith(b"\n") and len(line) < most and (line or self._any):
            raise http.client.HTTPException("the answer ended in its head")
        self._any = True
        return line

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lines, name)


class WholeHead(http.client.HTTPResponse):
    """An answer whose head must have ended; http.client takes one that was cut off for whole."""

    def begin(self) -> None:
        """Read the head. Raises HTTPException when it did not end."""
        stream = self.fp
        self.fp = _WholeLines(stream)  # type: ignore[assignment]
        try:
            super().begin()
        finally:
            self.fp = stream if self.fp is not None else None


def was_closed(error: UnreachableError) -> bool:
    """Whether the other side had closed a kept connection: the request is worth another try on a new one."""
    return isinstance(error.__cause__, (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError))


def in_words(error: Exception) -> str:
    """An error of a connection; a certificate out of its time names this machine's clock, which is more often wrong."""
    text = str(error) or type(error).__name__
    if isinstance(error, ssl.SSLCertVerificationError) and error.verify_code in OUT_OF_TIME:
        now = datetime.fromtimestamp(time.time(), timezone.utc)
        return f"{text}; this machine's clock says {now:%Y-%m-%d %H:%M} UTC: set it if that is wrong"
    if isinstance(error, ssl.SSLError) and getattr(error, "reason", None) in NO_TLS:
        return (
            "what listens there speaks no TLS: plain HTTP answers at https; set url to http://, or to the port with TLS"
        )
    return text


def _read(response: http.client.HTTPResponse, where: str, cap: int, limit_s: float | None) -> bytes:
    data, began = bytearray(), time.monotonic()
    while piece := response.read1(PIECE_BYTES):
        data += piece
        if len(data) > cap:
            raise WireError(f"{where}: an answer of more than {cap} bytes")
        if limit_s is not None and time.monotonic() - began > limit_s:
            raise UnreachableError(f"{where}: the answer did not end within {limit_s:g} s")
    if response.length:
        raise UnreachableError(f"{where}: the answer ended {response.length} bytes early")
    return bytes(data)
