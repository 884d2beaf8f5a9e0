# SPDX-License-Identifier: Apache-2.0
"""POST every event to one address: opened, raised, cleared, each with an idempotency key of its own.

Any answer below 300 accepts the event, whatever it holds; 409 means that it was accepted before. Other answers are
handled as for work orders (`protocols.http.client`): the host repeats what may heal, and sets refused events aside.
"""

from __future__ import annotations

import time
from typing import Any, Literal

import msgspec
from fedge_models.errors import RefusedError, RetryError, StaleError

from .. import figures, placeholders
from ..protocols.http import auth, client, templates
from ..protocols.http.settings import Target
from ..types import Event, Output
from . import event_fields
from .mes import b2mml


class WebhookConfig(Target, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[output.X] type = "webhook"``."""

    format: Literal["event", "b2mml"] = "event"  # the event as in the log output, or a B2MML-JSON work request
    body: dict[str, Any] | None = None  # a template instead


class WebhookOutput(Output):
    """POSTs each event."""

    Config = WebhookConfig

    def __init__(self, name: str, config: WebhookConfig) -> None:
        self._name, self._config = name, config
        client.check_url(config.url, f"output.{name}")
        self._template = config.body or (b2mml.WORK_REQUEST if config.format == "b2mml" else None)
        for part in (config.url, config.headers, self._template):
            placeholders.check(part, event_fields.FIELDS, f"output.{name}", event_fields.TABLES)

    def deliver(self, event: Event) -> None:
        """Send the event. Raises RetryError or RefusedError."""
        known = event_fields.values(event)
        template = self._template
        body = msgspec.json.encode(figures.of_event(event) if template is None else placeholders.fill(template, known))
        url = templates.fill_url(self._config.url, {}, known)
        with client.connected(url, self._config) as connection:
            try:
                client.exchange(connection, "POST", url, body, self._headers(event, body, known), expect="anything")
            except StaleError:
                return

    def check(self) -> list[str]:
        """Connect, with the TLS handshake, without sending a request."""
        try:
            with client.connected(self._config.url, self._config):
                return []
        except (RetryError, RefusedError) as e:
            return [f"output {self._name}: {e}"]

    def _headers(self, event: Event, body: bytes, known: dict[str, Any]) -> dict[str, str]:
        config = self._config
        headers = {"Content-Type": "application/json", **auth.static(config)}
        headers |= templates.fill_headers(config.headers, known)
        if config.idempotency_header:
            headers[config.idempotency_header] = f"{event.key}:{event.state}:{event.severity}"
        if config.hmac:
            headers |= auth.signed(config.hmac, body, time.time())
        return headers
