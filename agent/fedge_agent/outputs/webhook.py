# SPDX-License-Identifier: Apache-2.0
"""POST every event to one address: opened, raised, cleared, each with an idempotency key of its own.

Any answer below 300 accepts the event, unless it is a login page or reports an error; 409 means that it was accepted
before, if it says so or goes on. Other answers are handled as for work orders (`protocols.http.client`): the host
repeats what may heal, and sets refused events aside.
"""

from __future__ import annotations

import re
import time
from typing import Any, Literal

import msgspec
from fedge_models.errors import ConflictError, RefusedError, RetryError, UnavailableError, UnclearError
from fedge_models.system.addresses import shown

from .. import figures, placeholders
from ..protocols.http import auth, client, masking, refusals, templates
from ..protocols.http.kept import Connections
from ..protocols.http.settings import Target
from ..types import DRIFT, SILENT, Event, Output, Receipt
from . import event_fields
from .mes import b2mml

UNCLEAR = (
    "this tells neither that the event was taken nor that it was refused; give accept (a pattern that only the answer "
    "of a success holds)"
)
CONFLICTS = 3  # answers 409 to an event before it is taken to be there


class WebhookConfig(Target, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[output.X] type = "webhook"``."""

    format: Literal["event", "b2mml"] = "event"  # the event as in the log output, or a B2MML-JSON work request
    body: dict[str, Any] | None = None  # a template instead
    silent: dict[str, Any] | None = None  # a template for a machine that is silent; default: as other events
    drift: dict[str, Any] | None = None  # a template for inputs that drift; default: as other events
    accept: str | None = None  # pattern; an answer in which it is found is a success, any other is none


class WebhookOutput(Output):
    """POSTs each event."""

    Config = WebhookConfig

    def __init__(self, name: str, config: WebhookConfig) -> None:
        self._name, self._config = name, config
        self._connections = Connections(config)
        self._conflicts: dict[str, int] = {}  # idempotency key -> answers 409
        client.check_url(config.url, f"output.{name}")
        auth.check_headers(config, f"output.{name}")
        if config.accept is not None:
            client.check_pattern(config.accept, f"output.{name}.accept")
        b2mml_request = b2mml.WORK_REQUEST if config.format == "b2mml" else None
        self._template = b2mml_request if config.body is None else config.body
        for part in (config.url, config.headers, self._template, config.silent, config.drift):
            placeholders.check(part, event_fields.FIELDS, f"output.{name}", event_fields.TABLES)

    def deliver(self, event: Event) -> Receipt:
        """Send the event. Raises RetryError or RefusedError."""
        known = event_fields.values(event)
        filled = self._filled(event, known)
        if filled == {}:
            return Receipt(skipped="the template `body` is empty")
        body, url = msgspec.json.encode(filled), templates.fill_url(self._config.url, {}, known)
        headers = self._headers(event, known, auth.static(self._config))
        if self._config.hmac:
            headers |= auth.signed(self._config.hmac, body, time.time())
        again = self._config.idempotency_header in headers
        try:
            answer = self._connections.call("POST", url, body, headers, "anything", again=again)
        except ConflictError as e:
            self._take_conflict(_idempotency_key(event), e)
            return Receipt()
        self._look_for_refusal(url, answer, filled)
        return Receipt()

    def rest(self) -> None:
        """Close connections that were idle for too long."""
        self._connections.rest()

    def end(self) -> None:
        """Close the connections."""
        self._connections.close()

    def preview(self, event: Event) -> dict[str, Any]:
        """The request for the event, without secrets."""
        known = event_fields.values(event)
        texts = {str(value) for value in known.values()}
        signs = self._config.token_file or self._config.password_file
        headers = self._headers(event, known, {"Authorization": masking.HIDDEN} if signs else {})
        return {
            "method": "POST",
            "url": shown(templates.fill_url(self._config.url, {}, known)),
            "headers": masking.headers(headers, [self._config.idempotency_header]),
            "body": masking.body(self._filled(event, known), texts),
        }

    def check(self) -> list[str]:
        """Read the secrets, and connect, with the TLS handshake, without sending a request."""
        try:
            auth.try_secrets(self._config)
            with client.connected(self._config.url, self._config):
                return []
        except (RetryError, RefusedError) as e:
            return [f"output {self._name}: {e}"]

    def _look_for_refusal(self, url: str, answer: client.Answer, sent: Any) -> None:
        """Raise the refusal inside a success."""
        accept, where = self._config.accept, f"{shown(url)}: status {answer.status} with"
        if accept is not None and re.search(accept, answer.text):
            return
        if (refusal := refusals.find(answer.data, answer.text, sent)) is not None:
            raise _meaning(where, refusal)
        if accept is not None:
            raise _meaning(where, refusals.Refusal(refusals.Kind.UNCLEAR, client.excerpt(url, answer.text)))

    def _filled(self, event: Event, known: dict[str, Any]) -> Any:
        template = {SILENT: self._config.silent, DRIFT: self._config.drift}.get(event.kind) or self._template
        return figures.of_event(event) if template is None else placeholders.fill(template, known)

    def _take_conflict(self, key: str, error: ConflictError) -> None:
        """Accept that the target has the event. Raises the conflict until it says so, or has gone on for long."""
        count = self._conflicts[key] = self._conflicts.get(key, 0) + 1
        if not error.exists or (count <= CONFLICTS and not client.EXISTS.search(str(error))):
            raise error
        del self._conflicts[key]

    def _headers(self, event: Event, known: dict[str, Any], credentials: dict[str, str]) -> dict[str, str]:
        config = self._config
        headers = {"Content-Type": "application/json", **credentials}
        headers |= templates.fill_headers(config.headers, known)
        if config.idempotency_header:
            headers[config.idempotency_header] = _idempotency_key(event)
        return headers


def _meaning(where: str, refusal: refusals.Refusal) -> RefusedError | RetryError:
    """What becomes of an event that was refused inside a success."""
    if refusal.kind is refusals.Kind.UNCLEAR:
        return UnclearError(f"{where} {refusal.text}: {UNCLEAR}")
    text = f"{where} the error {refusal.text}"
    if refusal.kind is refusals.Kind.LOGIN:
        return UnavailableError(f"{text} (a new login or key is needed; events wait meanwhile)", True)
    return ConflictError(text, True) if refusal.kind is refusals.Kind.BUSY else RefusedError(text)


def _idempotency_key(event: Event) -> str:
    return f"{event.key}:{event_fields.step_key(event)}"
