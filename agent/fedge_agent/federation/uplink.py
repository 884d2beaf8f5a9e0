# SPDX-License-Identifier: Apache-2.0
"""Call the aggregator over HTTPS: statuses become errors, bodies have caps, bytes are counted."""

from __future__ import annotations

import threading
from email.message import Message
from typing import Annotated

import msgspec
from fedge_models.errors import IdentityError, RefusedError, ReplayError, StaleError, UnreachableError
from fedge_models.graph.onnx_file import MAX_MODEL_BYTES
from fedge_models.messages.idle import Idle
from fedge_models.system.http_exchange import Response, exchange, was_closed
from fedge_models.system.structs import known
from msgspec import Meta

from .identity import Identity, connection, explain, renewed, request

MAX_CERTIFICATE_BYTES = 8 * 1024
NO_PATH = "no such path"  # how an aggregator answers a call that it does not know


@known
class _Refusal(msgspec.Struct):
    """The answer to an update whose sequence number was used."""

    last_sequence: Annotated[int, Meta(ge=0, le=2**53)] | None = None


class Uplink:
    """One persistent connection to the aggregator, shared by the models' threads. Thread-safe."""

    def __init__(self, identity: Identity) -> None:
        self._identity, self._url = identity, identity.url
        self._connection = connection(identity.url, identity.context())
        self._lock = threading.Lock()
        self.bytes_up = 0  # bodies
        self.bytes_down = 0
        self._not_asked: set[str] = set()
        self._statistics: dict[str, int] = {}  # federation -> number of its newest statistics over sites

    def fetch_model(self, federation: str) -> bytes:
        """Fetch the federation's ONNX file."""
        _, body = self._call("GET", f"/v1/federations/{federation}/model", None, MAX_MODEL_BYTES)
        return body

    def fetch_release(
        self, federation: str, have: int, cap: int, idle: Idle | None = None, serves: int | None = None
    ) -> bytes | None:
        """Fetch the newest release; None when its version is `have`. Raises WireError over `cap` bytes.

        idle: why this gateway sends no update; serves: the older release that decides here, as it refused `have`.
        """
        path = f"/v1/federations/{federation}/release?have={have}" + (f"&idle={idle.value}" if idle else "")
        path += f"&serves={serves}" if serves is not None else ""
        status, body = self._call("GET", path, None, cap, federation)
        return None if status == 304 else body

    def asked(self, federation: str) -> bool:
        """Whether the aggregator asks this node for an update in the open round, by its last answer."""
        return federation not in self._not_asked

    def submit(self, federation: str, body: bytes) -> None:
        """Send an update; the aggregator has stored it durably when this returns.

        Raises StaleError (fetch the newest release and train again), ReplayError (the same under a higher number) or
        RefusedError with the aggregator's reason.
        """
        self._call("POST", f"/v1/federations/{federation}/updates", body, 64 * 1024)

    def submit_statistics(self, federation: str, body: bytes) -> None:
        """Send this site's statistics; they are stored durably when this returns. Raises as `submit`."""
        try:
            self._call("POST", f"/v1/federations/{federation}/statistics", body, 64 * 1024)
        except RefusedError as e:
            if not str(e).endswith(NO_PATH):
                raise
            raise RefusedError(f"{self._url}: this aggregator is of a version without statistics: upgrade it") from e

    def statistics_number(self, federation: str) -> int:
        """Number of the statistics over sites that this node may fetch, by the aggregator's last answer; 0: none."""
        return self._statistics.get(federation, 0)

    def fetch_statistics(self, federation: str, have: int, cap: int) -> bytes | None:
        """Fetch the newest statistics over sites; None when their number is `have`, or there are none for this node."""
        status, body = self._call("GET", f"/v1/federations/{federation}/statistics?have={have}", None, cap)
        return None if status == 304 else body

    def keep_certificate(self, now: float) -> None:
        """Renew this gateway's certificate when two thirds of its life are over. `now`: Unix time, s."""
        if now < self._identity.renew_at:
            return
        _, certificate = self._call("POST", "/v1/renew", request(self._identity.key), MAX_CERTIFICATE_BYTES)
        with self._lock:
            self._identity = renewed(self._identity, certificate)
            self._connection.close()
            self._connection = connection(self._url, self._identity.context())

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _call(
        self, method: str, path: str, body: bytes | None, cap: int, federation: str | None = None
    ) -> tuple[int, bytes]:
        """Return status and body of an answer, and note whether it asks `federation` for an update."""
        with self._lock:
            answer = self._exchange(method, path, body, cap)
            self.bytes_up += len(body or b"")
            self.bytes_down += len(answer.data)
        if answer.status in (200, 202, 304):
            if federation is not None:
                self._note(federation, answer.headers)
            return answer.status, answer.data
        raise _error(answer, self._url)

    def _note(self, federation: str, headers: Message) -> None:
        """Note what the headers of a release's answer say of the federation."""
        asked, number = headers.get("Fedge-Asked") != "no", headers.get("Fedge-Statistics", "")
        (self._not_asked.discard if asked else self._not_asked.add)(federation)
        self._statistics[federation] = int(number) if number.isascii() and number.isdigit() and len(number) < 17 else 0

    def _exchange(self, method: str, path: str, body: bytes | None, cap: int) -> Response:
        """The answer; once more on a new connection when an open one had ended since the last call."""
        opened_before, where = self._connection.sock is not None, f"{self._url}{path}"
        try:
            return exchange(self._connection, where, method, path, body, {}, cap)
        except UnreachableError as e:
            if not opened_before or not was_closed(e):
                raise
        return exchange(self._connection, where, method, path, body, {}, cap)


def _error(answer: Response, url: str) -> Exception:
    status, why = answer.status, explain(answer.data) or f"HTTP status {answer.status}"
    if status == 403:
        return IdentityError(f"{url}: {why}")
    if status == 409:
        last = _last_sequence(answer.data)
        return StaleError(f"{url}: {why}") if last is None else ReplayError(f"{url}: {why}", last)
    if status >= 500 or status in (408, 429):
        return UnreachableError(f"{url}: {why}")
    return RefusedError(f"{url}: {why}")


def _last_sequence(body: bytes) -> int | None:
    """The newest sequence number that the aggregator has of this gateway, if a refusal names it."""
    try:
        return msgspec.json.decode(body, type=_Refusal).last_sequence
    except msgspec.DecodeError:
        return None
