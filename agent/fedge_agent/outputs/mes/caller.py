# SPDX-License-Identifier: Apache-2.0
"""Send a configured step as a request: fill its template, sign it, and find errors that hide in a success."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec
from fedge_models.errors import (
    ConfigError,
    ConflictError,
    RefusedError,
    RetryError,
    UnavailableError,
    UnclearError,
    UnreachableError,
)
from fedge_models.system.addresses import shown

from ... import placeholders
from ...protocols.http import auth, client, headers, masking, pointer, proofs, refusals, templates
from ...protocols.http.ids import is_id
from ...protocols.http.kept import Connections
from ...protocols.http.login_words import LOGIN
from .. import event_fields
from . import sessions
from .settings import MesConfig, Step

logger = logging.getLogger(__name__)

_AFTER = ("id", "saved")
_KNOWN = {  # the placeholders that each step may use; `status` has no event
    "find": event_fields.FIELDS,
    "token": event_fields.FIELDS,
    "create": (*event_fields.FIELDS, "token"),
    "silent": (*event_fields.FIELDS, "token"),
    "ask": (*event_fields.FIELDS, "token"),
    "drift": (*event_fields.FIELDS, "token"),
    "escalate": (*event_fields.FIELDS, *_AFTER),
    "clear": (*event_fields.FIELDS, *_AFTER),
    "status": ("key", "asset", "id"),
}
_ALWAYS = ("session", "origin", "username")
_TABLES = (*event_fields.TABLES, "saved")
UNCLEAR = (
    "this tells neither that an order was made nor that it was refused; give create.id (where the order's id is), "
    "or create.accept (a pattern that only the answer of a success holds)"
)
NEW_READS = 3  # of what a step meets a conflict over, within one delivery


class Caller:
    """Calls one target. Raises ConfigError for templates and pointers that cannot work."""

    def __init__(self, config: MesConfig, where: str) -> None:
        self._config = config
        self._connections = Connections(config)
        session = sessions.SESSIONS.get(config.preset)
        self._session = session(config, self._connections) if session else None
        client.check_url(config.url, where)
        parts = urlsplit(config.url)
        self._origin = f"{parts.scheme}://{parts.netloc}"
        if config.token and not config.find:
            raise ConfigError(f"{where}.token: a create-once address needs a search too; give {where}.find")
        self._transient = client.check_pattern(config.transient, f"{where}.transient")
        placeholders.check(config.headers, _ALWAYS, f"{where}.headers")
        auth.check_headers(config, where)
        for name, allowed in _KNOWN.items():
            step = getattr(config, name)
            while step is not None:
                _check_step(step, (*allowed, *_ALWAYS), f"{where}.{name}", self.url(step))
                step = step.then

    def rest(self) -> None:
        """Close connections that were idle for too long."""
        self._connections.rest()

    def close(self) -> None:
        """Close the connections."""
        self._connections.close()

    def url(self, step: Step) -> str:
        """The step's address, its placeholders not filled yet."""
        if "://" in step.url or step.url == "{token}":
            return step.url
        return self._config.url.rstrip("/") + step.url if step.url else self._config.url

    def owns(self, address: str) -> bool:
        """Whether an address is of the target's origin."""
        return address.startswith(self._origin + "/")

    def own(self, address: str) -> str:
        """Check a create-once address: it must lead to the target's origin, because our credentials go with it.

        Raises RetryError for an address of another origin (RFC 6454).
        """
        if not self.owns(address):
            raise RetryError(f"{shown(address)[:200]}: a create-once address must begin with {self._origin}/")
        return address

    def ask(
        self,
        step: Step,
        known: Mapping[str, Any],
        key: str,
        before: Callable[[], None] = lambda: None,
        may_be_gone: bool = False,
    ) -> client.Answer:
        """Send a step. `before` is called when the connection is open. Raises RetryError or RefusedError."""
        try:
            return self._ask(step, known, key, before, may_be_gone)
        except UnreachableError:
            raise
        except RetryError:
            if self._session:
                self._session.forget()  # it may have ended
            raise

    def prove(self, step: Step, answer: client.Answer, known: Mapping[str, Any]) -> None:
        """Raise UnclearError unless the answer to a create proves that an order was made."""
        proven = step.error is not None if step.accept is None else re.search(step.accept, answer.text) is not None
        if not (
            proven
            or (
                step.accept is None
                and proofs.has(answer, placeholders.fill(step.body, {"token": "", **known, **self._own()}))
            )
        ):
            where = f"{shown(self.url(step))}: status {answer.status}"
            raise UnclearError(f"{where} with {client.excerpt(self.url(step), answer.text)}: {UNCLEAR}")

    def chain(self, step: Step, known: Mapping[str, Any], key: str) -> bool:
        """Send a step and the steps after it, for an order that a person may have deleted; whether it is there.

        A step that meets a conflict is sent again with what the last reading step (GET) before it reads then.
        """
        steps, index, again = _steps(step), 0, NEW_READS
        saved: dict[str, Any] = {}
        while index < len(steps):
            try:
                answer = self.ask(steps[index], {**known, "saved": saved}, key, may_be_gone=True)
            except ConflictError:
                reads = [i for i, s in enumerate(steps[:index]) if s.method == "GET"]
                if not reads or again == 0:
                    raise
                index, again = reads[-1], again - 1
                continue
            if answer.status == client.GONE:
                logger.error("%s: its order %s was deleted; nothing is added to it", known["key"], known["id"])
                return False
            saved |= {name: pointer.find(answer.data, where) for name, where in steps[index].save.items()}
            index += 1
        return True

    def preview(self, step: Step, known: Mapping[str, Any], key: str) -> dict[str, Any]:
        """The request of a step, without secrets; nothing is sent and no secret is read."""
        config = self._config
        texts = {str(value) for value in known.values()} | {str(v) for v in (known.get("context") or {}).values()}
        known = {**known, "session": {}, "origin": self._origin, "username": config.username, "saved": {}}
        known.setdefault("token", "{token}")
        query = placeholders.fill(step.query, known)
        signs = config.token_file or config.password_file
        headers = self._headers(step, known, key, {"Authorization": masking.HIDDEN} if signs else {})
        headers |= {config.hmac.header: masking.HIDDEN} if config.hmac else {}
        body = None if step.body is None else masking.body(placeholders.fill(step.body, known), texts)
        return {
            "method": step.method,
            "url": shown(known["token"] if step.url == "{token}" else self.url(step)),
            **({"query": masking.query(step.query, query, texts)} if query else {}),
            "headers": masking.headers(headers, [config.idempotency_header]),
            "body": body,
        }

    def _ask(
        self, step: Step, known: Mapping[str, Any], key: str, before: Callable[[], None], may_be_gone: bool
    ) -> client.Answer:
        config = self._config
        credentials = self._session.headers() if self._session else auth.static(config)
        known = {**known, **self._own()}
        if step.url == "{token}":
            address = self.own(known["token"])
        else:
            address = templates.fill_url(self.url(step), step.query, known)
        filled = None if step.body is None else placeholders.fill(step.body, known)
        body = None if step.body is None else msgspec.json.encode(filled)
        headers = self._headers(step, known, key, credentials)
        if config.hmac:
            headers |= auth.signed(config.hmac, body or b"", time.time())
        expect: client.Expect = "anything" if step.accept else "json" if _reads(step) else "no page"
        again = step.method == "GET" or self._is_known_by_its_key(headers)
        try:
            answer = self._connections.call(
                step.method, address, body, headers, expect, may_be_gone, before=before, again=again
            )
        except RefusedError as e:
            raise self._meaning_of_status(step, str(e)) from e
        self._look_for_refusal(step, address, answer, filled)
        return answer

    def _own(self) -> dict[str, Any]:
        """The placeholders that stand for ourselves."""
        session = self._session.preferences if self._session else {}
        return {"session": session, "origin": self._origin, "username": self._config.username}

    def _is_known_by_its_key(self, headers: Mapping[str, str]) -> bool:
        """Whether a request may be sent twice, because its key tells the target that both are one. With a search, the
        target is searched before the second one instead."""
        return self._config.find is None and self._config.idempotency_header in headers

    def _headers(self, step: Step, known: Mapping[str, Any], key: str, credentials: dict[str, str]) -> dict[str, str]:
        config = self._config
        headers = {"Accept": "application/json", **credentials}
        headers |= {} if step.body is None else {"Content-Type": "application/json"}
        headers |= templates.fill_headers({**config.headers, **step.headers}, known)
        if key and config.idempotency_header:
            headers[config.idempotency_header] = key
        return headers

    def _look_for_refusal(self, step: Step, address: str, answer: client.Answer, sent: Any) -> None:
        """Raise the refusal inside a success: where the step says, or else where others have it."""
        if answer.status == client.GONE or (step.accept is not None and re.search(step.accept, answer.text)):
            return
        refusal: refusals.Refusal | None = None
        if step.error is not None and (error := pointer.find(answer.data, step.error)):
            refusal = refusals.why(str(error)[:500])
        elif not _has_what_it_reads(step, answer.data):
            refusal = refusals.find(answer.data, answer.text, sent)
        if refusal is not None and not (refusal.kind is refusals.Kind.UNCLEAR and _reads(step)):
            raise self._meaning(f"{shown(address)}: status {answer.status} with", refusal)

    def _meaning(self, where: str, refusal: refusals.Refusal) -> RefusedError | RetryError:
        """What becomes of an order that was refused inside a success."""
        if refusal.kind is refusals.Kind.UNCLEAR:
            return UnclearError(f"{where} {refusal.text}: {UNCLEAR}")
        text = f"{where} the error {refusal.text}"
        if refusal.kind is refusals.Kind.LOGIN:
            return UnavailableError(f"{text} (a new login or key is needed; orders wait meanwhile)", True)
        if refusal.kind is refusals.Kind.BUSY or self._transient.search(refusal.text):
            return ConflictError(text, True)
        return RefusedError(text)

    def _meaning_of_status(self, step: Step, text: str) -> RefusedError | RetryError:
        """What becomes of an order that was refused with a status, and this text after it."""
        said = text.partition(": status ")[2]
        login = step.url != "{token}" and LOGIN.search(said)  # a token that has expired is no session
        if self._transient.search(said) or login:
            return ConflictError(text, True)
        return RefusedError(text)


def _steps(step: Step) -> list[Step]:
    """A step and those after it."""
    return [step, *(_steps(step.then) if step.then is not None else [])]


def _has_what_it_reads(step: Step, data: Any) -> bool:
    """Whether an answer holds what the step reads: it is a success then, whatever else a record holds."""
    if step.rows is None and step.id is not None and is_id(pointer.find(data, step.id)):
        return True
    return any(pointer.find(data, where) is not None for where in (step.rows, step.code) if where is not None)


def _reads(step: Step) -> bool:
    """Whether the step reads anything from its answer."""
    return bool(step.save) or any(p is not None for p in (step.error, step.rows, step.id, step.code))


def _check_step(step: Step, allowed: tuple[str, ...], where: str, url: str) -> None:
    for part in (step.url, step.query, step.headers, step.body):
        placeholders.check(part, allowed, where, _TABLES)
    headers.check(step.headers, f"{where}.headers")
    placeholders.check(step.match, allowed, f"{where}.match", _TABLES)
    for name in ("error", "rows", "key", "id", "code"):
        if (value := getattr(step, name)) is not None:
            pointer.check(value, f"{where}.{name}")
    if step.accept is not None:
        client.check_pattern(step.accept, f"{where}.accept")
    for name, value in step.save.items():
        pointer.check(value, f"{where}.save.{name}")
    if url != "{token}":
        client.check_url(url, where)
