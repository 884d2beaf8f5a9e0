"""One request, one bounded answer: whatever a stranger sends becomes an Answer, a RetryError or a RefusedError.

RefusedError: the target understood and will never take this event. Everything else may heal, by itself or because a
person renews a key or corrects an address, and no order may be lost over it: RetryError. Redirects are not followed,
because what we send carries secrets meant for the address that was configured.
"""

from __future__ import annotations

import http.client
import re
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.message import Message
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

import msgspec
from fedge_models.errors import ConfigError, RefusedError, RetryError, StaleError, UnreachableError

from ..tls import client_context
from .settings import Server

MAX_ANSWER_BYTES = 1024 * 1024
GONE = 410
Expect = Literal["json", "no page", "anything"]
_WORDS = {
    401: "the key or password is not accepted; renew it (orders wait meanwhile)",
    403: "this account may not do that; give it the right (orders wait meanwhile)",
    404: "there is nothing at this address; correct url (orders wait meanwhile)",
    407: "a proxy wants a password",
    408: "it took too long",
    425: "too early",
    429: "too many requests",
}


class Answer(NamedTuple):
    """A status below 300, or one that the caller asked to see; `data` is its JSON, None when there is none."""

    status: int
    data: Any


def check_url(url: str, where: str) -> None:
    """Raise ConfigError unless it is http or https with a host, and without a password in it."""
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise ConfigError(f"{where}: url {url!r}: expected http://host/path or https://host/path")
    if "@" in urlsplit(url).netloc:
        raise ConfigError(f"{where}: url holds a name or password; give username and password_file instead")


def shown(url: str) -> str:
    """A URL for messages: without its query, which may hold a key."""
    return url.partition("?")[0]


@contextmanager
def connected(url: str, target: Server) -> Iterator[http.client.HTTPConnection]:
    """A connection that is made. Raises UnreachableError: nothing was sent."""
    parts, timeout = urlsplit(url), float(target.timeout)
    if parts.scheme == "http":
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=timeout)
    else:
        context = _context(target)
        connection = http.client.HTTPSConnection(
            parts.hostname or "", parts.port or 443, timeout=timeout, context=context
        )
    try:
        try:
            connection.connect()
        except (OSError, http.client.HTTPException) as e:
            raise UnreachableError(f"{shown(url)}: {e or type(e).__name__}") from e
        yield connection
    finally:
        connection.close()


def exchange(
    connection: http.client.HTTPConnection,
    method: str,
    url: str,
    body: bytes | None,
    headers: Mapping[str, str],
    expect: Expect = "json",
    may_be_gone: bool = False,
) -> Answer:
    """Send and read. Raises UnreachableError when no answer came: the target may have done what was asked, or not.

    expect: what a success says: JSON or nothing at all; no web page, as that is what proxies and login forms send; or
    anything. may_be_gone: "not found" is an answer too, as one with the status GONE.
    """
    parts = urlsplit(url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request(method, path, body, dict(headers))
        with connection.getresponse() as response:
            data = _read(response, shown(url), (connection.timeout or 10.0) * 3)
    except (OSError, http.client.HTTPException) as e:
        raise UnreachableError(f"{shown(url)}: no whole answer: {e or type(e).__name__}") from e
    if may_be_gone and response.status in (404, GONE):
        return Answer(GONE, None)
    return judge(shown(url), response.status, response.headers, data, expect)


def judge(url: str, status: int, headers: Mapping[str, str] | Message, data: bytes, expect: Expect) -> Answer:
    """What an answer means. Raises RetryError or RefusedError."""
    html = "html" in (headers.get("Content-Type") or "").lower() or data.lstrip()[:1] == b"<"
    said = _title(data) if html else data[:300].decode(errors="replace")
    if 300 <= status < 400:
        to = (headers.get("Location") or "nowhere")[:200]
        raise RetryError(
            f"{url}: status {status}: redirects to {to}, which is not followed; set url to the right address"
        )
    if status in _WORDS or status >= 500 or status < 200:
        later = f" (asks to wait {headers['Retry-After'][:30]})" if headers.get("Retry-After") else ""
        raise RetryError(f"{url}: status {status}: {_WORDS.get(status, 'the target failed')}{later}: {said}")
    if status == 409:
        raise StaleError(f"{url}: status {status}: {said}")
    if status >= 400:
        raise RefusedError(f"{url}: status {status}: {said}")
    if html and expect != "anything":
        raise RetryError(
            f"{url}: status {status} with a web page instead of JSON ({said}); a proxy or login page answers"
        )
    return Answer(status, _json(url, data) if expect == "json" else None)


def _json(url: str, data: bytes) -> Any:
    if not data.strip():
        return None
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise RetryError(f"{url}: expected JSON, got {data[:100]!r}: {e}") from e


def _read(response: http.client.HTTPResponse, url: str, limit_s: float) -> bytes:
    data, deadline = bytearray(), time.monotonic() + limit_s
    while piece := response.read1(65536):
        data += piece
        if len(data) > MAX_ANSWER_BYTES:
            raise RetryError(f"{url}: an answer of more than {MAX_ANSWER_BYTES} bytes; narrow the search or the fields")
        if time.monotonic() > deadline:
            raise RetryError(f"{url}: the answer did not end within {limit_s:g} s")
    if response.length:
        raise UnreachableError(f"{url}: the answer ended {response.length} bytes early")
    return bytes(data)


def _title(data: bytes) -> str:
    text = data[:5000].decode(errors="replace")
    found = re.search(r"<title>\s*(.*?)\s*<", text, re.I | re.S)
    return f"web page {found[1][:100]!r}" if found else "a web page"


def _context(target: Server) -> ssl.SSLContext:
    try:
        context = client_context(target.ca_file)
        if target.certificate:
            context.load_cert_chain(target.certificate, target.private_key)
    except (OSError, ssl.SSLError) as e:
        files = ", ".join(str(f) for f in (target.ca_file, target.certificate, target.private_key) if f)
        raise UnreachableError(f"{files}: cannot be used: {e}") from e
    return context
