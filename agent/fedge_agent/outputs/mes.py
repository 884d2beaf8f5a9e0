"""Work orders over REST: a JSON template filled from the event, with an idempotency key.

The event's key goes into a header and may go into the body; a target that honours it makes no second order when a
delivery is repeated after a lost answer. Ask for *requests or drafts*: an edge model does not release work.
"""

from __future__ import annotations

import base64
import difflib
import http.client
import re
import ssl
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec
from fedge_models.errors import ConfigError, RefusedError, UnreachableError
from fedge_models.settings import Seconds

from ..types import Event

MAX_ANSWER_BYTES = 64 * 1024
_FIELD = re.compile(r"\{(\w+)\}")
_RETRY = {408, 425, 429}
_EXISTS = 409
FIELDS = (
    "key",
    "state",
    "asset",
    "model",
    "release",
    "time",
    "time_ns",
    "score",
    "threshold",
    "label",
    "channel",
    "values",
    "cause",
)


ORDER = {
    "reference": "{key}",
    "asset": "{asset}",
    "description": "{label} on {asset}{cause}: score {score}, threshold {threshold}",
    "detected_at": "{time}",
    "score": "{score}",
}
CLEARED = {"reference": "{key}", "cleared_at": "{time}"}


class MesConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[output.X] type = "mes"``; strings of `body` and `clear_body` may hold {key}, {asset}, {score} and so on."""

    url: str  # work orders are POSTed here
    body: dict[str, Any] = msgspec.field(default_factory=lambda: dict(ORDER))
    clear_url: str = ""  # POSTed to when the condition clears; empty: nothing is sent
    clear_body: dict[str, Any] = msgspec.field(default_factory=lambda: dict(CLEARED))
    headers: dict[str, str] = {}
    idempotency_header: str = "Idempotency-Key"
    token_file: Path | None = None  # bearer token
    username: str = ""  # basic authentication
    password_file: Path | None = None
    ca_file: Path | None = None  # of the target, instead of the system's
    timeout: Seconds = Seconds(10)


class MesOutput:
    """Sends each opened event as a work order, and each cleared one to `clear_url`."""

    Config = MesConfig

    def __init__(self, name: str, config: MesConfig) -> None:
        self._name, self._config = name, config
        for template in (config.url, config.body, config.clear_url, config.clear_body):
            _check_template(template, name)
        for url in filter(None, (config.url, config.clear_url)):
            if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
                raise ConfigError(f"output {name}: url {url!r}: expected http://host/path or https://host/path")

    def deliver(self, event: Event) -> None:
        """Send the event. Raises UnreachableError (again later) or RefusedError (the target says it never will)."""
        config = self._config
        opened = event.state == "opened"
        url, body = (config.url, config.body) if opened else (config.clear_url, config.clear_body)
        if not url:
            return
        values = _values(event)
        target = _FIELD.sub(lambda m: quote(str(values[m[1]]), safe=""), url)
        data = msgspec.json.encode(_fill(body, values))
        key = event.key if opened else f"{event.key}:cleared"
        status, answer = self._send(target, data, {config.idempotency_header: key})
        if 200 <= status < 300 or status == _EXISTS:
            return
        text = f"{target}: status {status}: {answer[:300].decode(errors='replace')}"
        if status >= 500 or status in _RETRY:
            raise UnreachableError(text)
        raise RefusedError(text)

    def check(self) -> list[str]:
        """Connect (and shake hands) without sending a request."""
        connection = self._connection(self._config.url)
        try:
            connection.connect()
        except OSError as e:
            return [f"output {self._name}: {self._config.url}: {e}"]
        finally:
            connection.close()
        return []

    def _send(self, url: str, data: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        parts = urlsplit(url)
        connection = self._connection(url)
        try:
            path = parts.path + (f"?{parts.query}" if parts.query else "")
            connection.request("POST", path or "/", data, {**self._headers(), **headers})
            response = connection.getresponse()
            return response.status, response.read(MAX_ANSWER_BYTES)
        except (OSError, http.client.HTTPException) as e:
            raise UnreachableError(f"{url}: {e or type(e).__name__}") from e
        finally:
            connection.close()

    def _connection(self, url: str) -> http.client.HTTPConnection:
        parts, timeout = urlsplit(url), float(self._config.timeout)
        if parts.scheme == "http":
            return http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=timeout)
        context = ssl.create_default_context(cafile=str(self._config.ca_file) if self._config.ca_file else None)
        return http.client.HTTPSConnection(parts.hostname or "", parts.port or 443, timeout=timeout, context=context)

    def _headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json", **self._config.headers}
        if self._config.token_file:
            headers["Authorization"] = f"Bearer {_secret(self._config.token_file)}"
        elif self._config.username and self._config.password_file:
            pair = f"{self._config.username}:{_secret(self._config.password_file)}"
            headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        return headers


def _secret(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as e:
        raise UnreachableError(f"{path}: cannot be read: {e.strerror}") from e


def _values(event: Event) -> dict[str, Any]:
    time = datetime.fromtimestamp(event.time_ns / 1e9, timezone.utc).isoformat(timespec="milliseconds")
    values = {name: float(f"{value:.6g}") for name, value in event.values.items()}
    cause = f" ({event.channel})" if event.channel else "".join(f" ({n} {v:g})" for n, v in values.items())
    score = float(f"{event.score:.6g}")
    return {**msgspec.structs.asdict(event), "time": time, "score": score, "values": values, "cause": cause}


def _fill(template: Any, values: dict[str, Any]) -> Any:
    """A template with its placeholders filled; a string that is one placeholder keeps the value's type."""
    if isinstance(template, dict):
        return {key: _fill(value, values) for key, value in template.items()}
    if isinstance(template, list):
        return [_fill(value, values) for value in template]
    if not isinstance(template, str):
        return template
    if whole := _FIELD.fullmatch(template):
        return values[whole[1]]
    return _FIELD.sub(
        lambda m: f"{values[m[1]]:.6g}" if isinstance(values[m[1]], float) else str(values[m[1]]), template
    )


def _check_template(template: Any, name: str) -> None:
    if isinstance(template, (dict, list)):
        for value in template.values() if isinstance(template, dict) else template:
            _check_template(value, name)
    elif isinstance(template, str):
        for field in _FIELD.findall(template):
            if field not in FIELDS:
                near = difflib.get_close_matches(field, FIELDS, n=1, cutoff=0.5)
                hint = f"did you mean {{{near[0]}}}?" if near else f"expected one of: {', '.join(FIELDS)}"
                raise ConfigError(f"output {name}: template {template!r} has the unknown field {{{field}}}; {hint}")
