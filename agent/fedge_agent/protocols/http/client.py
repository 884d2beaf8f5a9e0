# SPDX-License-Identifier: Apache-2.0
"""Call a server that somebody else runs: whatever it sends becomes an Answer, a RetryError or a RefusedError.

RefusedError: the server understood the request and will never accept it. Everything else may heal, by itself or because
a person renews a key or corrects an address, and no order may be lost over it: RetryError, and among these
UnavailableError when no other request would fare better, ConflictError when a new look at the server may help.
Redirects are not followed, because requests carry secrets meant for the configured address.
"""

from __future__ import annotations

import functools
import http.client
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.message import Message
from email.utils import parsedate_to_datetime
from typing import Any, Literal, NamedTuple
from urllib.parse import quote, urlsplit

import msgspec
from fedge_models.errors import (
    ConfigError,
    ConflictError,
    FedgeError,
    RefusedError,
    RetryError,
    UnavailableError,
    UnclearError,
    UnreachableError,
    WireError,
)
from fedge_models.system import http_exchange
from fedge_models.system.addresses import shown, split_url, without_parts_of

from ..tls import client_context, present
from . import masking, other_forms, pages
from .headers import on_the_wire
from .settings import Server

MAX_ANSWER_BYTES = 1024 * 1024
_IN_ADDRESSES = "%/:?#[]@!$&'()*+,;=~"  # what stays as it is written (RFC 3986); letters such as ü are quoted
NOT_MODIFIED = 304
GONE = 410
LONGEST_ASKED_S = 3600  # a target that asks to wait longer is asked again after this
Expect = Literal["json", "value", "no page", "anything"]
_UNAVAILABLE = {  # statuses that every request gets for some time
    401: "the key or password is not accepted; renew it",
    407: "a proxy wants a password",
    429: "too many requests",
    502: "the target failed",
    503: "the target failed",
    504: "the target failed",
}
_CONFLICTS = {  # statuses that a new request may not get
    409: "a conflict with what is there",
    412: "it has changed since it was read",
    417: "it has changed since it was read",  # Frappe; for other reasons too
    423: "it is locked",
}
_RETRIED = {
    403: "this account may not do that; give it the right",
    404: "there is nothing at this address; correct url",
    408: "it took too long",
    425: "too early",
}
EXISTS = re.compile(r"(?i)already|exist|duplicate|unique")  # in a conflict: what was to be made is there
_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_CHARSET = re.compile(r"(?i)charset=[\"']?([\w-]+)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")  # a terminal would obey them


class Answer(NamedTuple):
    """A status below 300, or GONE where the caller allows it; `data` is the JSON, or None without any."""

    status: int
    data: Any
    text: str = ""  # the whole answer, as it came
    location: str = ""  # where it says that what was made is


def check_url(url: str, where: str) -> None:
    """Raise ConfigError unless it is http or https with a host, and without a password in it."""
    parts = split_url(url, ("http", "https"))
    if parts is None:
        raise ConfigError(f"{where}: url {shown(url)!r}: expected http://host:port/path or https://host:port/path")
    if "@" in parts.netloc:
        raise ConfigError(f"{where}: url holds a name or password; give username and password_file instead")


def check_pattern(pattern: str, where: str) -> re.Pattern[str]:
    """The pattern. Raises ConfigError for text that is none."""
    try:
        return re.compile(pattern)
    except re.error as e:
        raise ConfigError(f"{where}: {pattern!r} is no regular expression: {e}") from e


def excerpt(address: str, text: str) -> str:
    """The beginning of what this address answered, for messages."""
    return repr(_CONTROL.sub(" ", without_parts_of(address, text[:5000])[:200]))


@contextmanager
def connected(url: str, target: Server) -> Iterator[http.client.HTTPConnection]:
    """An open connection for this block. Raises UnreachableError: nothing was sent."""
    connection = open_connection(url, target)
    try:
        yield connection
    finally:
        connection.close()


def open_connection(url: str, target: Server) -> http.client.HTTPConnection:
    """An open connection. Raises UnreachableError: nothing was sent."""
    parts, timeout = urlsplit(url), float(target.timeout)
    host = parts.hostname or ""
    connection: http.client.HTTPConnection
    if parts.scheme == "http":
        connection = http.client.HTTPConnection(host, parts.port or 80, timeout=timeout)
    else:
        connection = http.client.HTTPSConnection(host, parts.port or 443, timeout=timeout, context=_context(target))
    try:
        connection.connect()
    except (OSError, http.client.HTTPException) as e:
        connection.close()
        raise UnreachableError(f"{shown(url)}: {http_exchange.in_words(e)}") from e
    return connection


def exchange(
    connection: http.client.HTTPConnection,
    method: str,
    url: str,
    body: bytes | None,
    headers: Mapping[str, str],
    expect: Expect = "json",
    may_be_gone: bool = False,
) -> Answer:
    """Send a request and read its answer. Raises UnreachableError when no whole answer came, RetryError, RefusedError.

    expect: what the answer of a success holds: JSON or nothing; JSON (value); anything but a web page, which proxies
    and login forms send; or anything. may_be_gone: "not found" is an answer as well, with the status GONE.
    """
    parts, limit_s = urlsplit(url), (connection.timeout or 10.0) * 3
    path = quote((parts.path or "/") + (f"?{parts.query}" if parts.query else ""), safe=_IN_ADDRESSES)
    try:
        response = http_exchange.exchange(
            connection, shown(url), method, path, body, on_the_wire(headers), MAX_ANSWER_BYTES, limit_s
        )
    except WireError as e:
        raise UnclearError(f"{e}; narrow the search or the fields") from e
    if may_be_gone and response.status in (404, GONE):
        return Answer(GONE, None)
    try:
        return interpret(url, response.status, response.headers, response.data, expect)
    except FedgeError as e:  # pages of errors sometimes repeat our headers
        longest_first = sorted(masking.secrets_of(headers), key=len, reverse=True)
        text = functools.reduce(lambda text, secret: text.replace(secret, masking.HIDDEN), longest_first, str(e))
        e.args = (text, *e.args[1:])
        raise


def interpret(address: str, status: int, headers: Mapping[str, str] | Message, data: bytes, expect: Expect) -> Answer:
    """The meaning of an answer to a request to this address. Raises RetryError or RefusedError."""
    url, kind, (text, sure) = shown(address), headers.get("Content-Type") or "", _text(headers, data)
    html, hide = other_forms.is_page(kind, text), functools.partial(without_parts_of, address)
    if 300 <= status < 400:
        to = _CONTROL.sub(" ", shown(headers.get("Location") or "")[:200])
        what = f"redirects to {to or 'no address'}, which is not followed; set url to the right address"
        if status == NOT_MODIFIED:
            what = "no value, because nothing was modified; a cache in between may say so: let it pass requests on"
        raise UnavailableError(f"{url}: status {status}: {what}", True)
    if status >= 400 or status < 200:
        said = pages.in_words(hide(text[:5000])) if html else hide(text[:5000])[:300]
        raise _failure(url, status, headers, _CONTROL.sub(" ", said))
    if html:  # with 201 or 202 it is taken where nothing is read from it: proxies and logins answer 200
        wanted = expect == "anything" or (expect == "no page" and status in (201, 202))
        pages.refuse(f"{url}: status {status}", text, wanted, expect == "anything", hide)
    if expect in ("json", "value") and other_forms.is_xml(kind, text):
        raise UnclearError(f"{url}: status {status} with XML instead of JSON: {excerpt(address, text)}")
    if expect == "value" and not data.strip():
        raise RetryError(f"{url}: status {status} with an empty body; expected JSON")
    found = _json(address, text, sure) if expect in ("json", "value") else _json_if_any(text)
    return Answer(status, found, text, (headers.get("Location") or "").strip())


def _failure(url: str, status: int, headers: Mapping[str, str] | Message, excerpt: str) -> RetryError | RefusedError:
    """The error that a status means."""
    reasons = {**_UNAVAILABLE, **_CONFLICTS, **_RETRIED}
    if 400 <= status < 500 and status not in reasons:
        return RefusedError(f"{url}: status {status}: {excerpt}")
    asked = _CONTROL.sub(" ", (headers.get("Retry-After") or "")[:30])
    long = f"; it is asked again after {LONGEST_ASKED_S // 60} min" if _asked_s(headers) > LONGEST_ASKED_S else ""
    later = f" (asks to wait {asked}{long})" if asked else ""
    text = f"{url}: status {status}: {reasons.get(status, 'the target failed')}{later}: {excerpt}"
    nothing_done = 400 <= status < 500
    if status in _UNAVAILABLE:
        return UnavailableError(text, nothing_done, _asked_s(headers))
    if status in _CONFLICTS:
        return ConflictError(text, nothing_done, exists=status == 409)
    return RetryError(text, nothing_done)


def _asked_s(headers: Mapping[str, str] | Message) -> float:
    """How long the server asks to wait, s: a number, or a date after that of its own clock (RFC 9110, 10.2.3)."""
    asked = (headers.get("Retry-After") or "").strip()
    if asked.isdecimal():
        return float(min(int(asked[:12]), 10**6))
    try:
        span = parsedate_to_datetime(asked) - parsedate_to_datetime(headers.get("Date") or "")
    except (TypeError, ValueError):
        return 0.0
    return max(0.0, span.total_seconds())


def _text(headers: Mapping[str, str] | Message, data: bytes) -> tuple[str, bool]:
    """An answer as text, by its byte order mark, as UTF-8, or else in the character set that it names; and whether it
    is sure. What is neither is Latin-1, to find words in it."""
    mark = next((name for start, name in _MARKS.items() if data.startswith(start)), "utf-8")
    named = _CHARSET.search(headers.get("Content-Type") or "")
    for encoding in (mark, *([named[1]] if named else [])):
        try:
            return data.decode(encoding), True
        except (UnicodeError, LookupError):
            continue
    return data.decode("latin-1"), False


def _json_if_any(text: str) -> Any:
    """The JSON of an answer that may hold anything."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def _json(address: str, text: str, sure: bool) -> Any:
    if not text.strip():
        return None
    if not sure:
        expected = "JSON in UTF-8, or in the character set that is named"
        raise UnclearError(f"{shown(address)}: expected {expected}, got {excerpt(address, text)}")
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as e:
        raise UnclearError(f"{shown(address)}: expected JSON, got {excerpt(address, text)}: {e}") from e


def _context(target: Server) -> ssl.SSLContext:
    try:
        context = client_context(target.ca_file)
        if target.certificate:
            present(context, target.certificate, target.private_key)
    except (OSError, ssl.SSLError) as e:
        files = ", ".join(str(f) for f in (target.ca_file, target.certificate, target.private_key) if f)
        raise UnreachableError(f"{files}: cannot be used: {e}") from e
    return context
