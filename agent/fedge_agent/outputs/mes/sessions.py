# SPDX-License-Identifier: Apache-2.0
"""Log in to targets that need a session."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import msgspec
from fedge_models.errors import RetryError
from fedge_models.system.addresses import shown

from ...protocols.http import pointer
from ...protocols.http.auth import secret
from ...protocols.http.kept import Connections
from ...protocols.http.settings import Target


class TrytonSession:
    """A session of Tryton's JSON-RPC: a login, and the preferences that each call needs as its last parameter."""

    def __init__(self, target: Target, connections: Connections) -> None:
        self._target, self._connections = target, connections
        self._header: str | None = None
        self.preferences: dict[str, Any] = {}

    def headers(self) -> dict[str, str]:
        """The header of the session; logs in first if there is none. Raises RetryError."""
        if self._header is None:
            self._login()
        return {"Authorization": f"Session {self._header}"}

    def forget(self) -> None:
        """Log in again at the next call."""
        self._header = None

    def _login(self) -> None:
        password = secret(self._target.password_file) if self._target.password_file else ""
        answer = self._call("common.db.login", [self._target.username, {"password": password}, "en"], {})
        user, session = pointer.find(answer, "/result/0"), pointer.find(answer, "/result/1")
        if not isinstance(user, int) or not isinstance(session, str):
            text = f"{shown(self._target.url)}: login of {self._target.username!r} is not accepted"
            raise RetryError(f"{text}; correct username or password_file (orders wait meanwhile)")
        pair = f"{self._target.username}:{user}:{session}"
        header = base64.b64encode(pair.encode()).decode()
        wanted = "model.res.user.get_preferences"
        answer = self._call(wanted, [True, {}], {"Authorization": f"Session {header}"})
        preferences = pointer.find(answer, "/result")
        if not isinstance(preferences, dict):
            raise RetryError(f"{shown(self._target.url)}: {wanted}: expected a table, got {str(answer)[:200]}")
        self._header, self.preferences = header, preferences

    def _call(self, method: str, params: list[Any], headers: dict[str, str]) -> Any:
        body = msgspec.json.encode({"id": 1, "method": method, "params": params})
        headers = {"Content-Type": "application/json", **headers}
        return self._connections.call("POST", self._target.url, body, headers, again=True).data  # it changes nothing


SESSIONS: dict[str, Callable[[Target, Connections], TrytonSession]] = {"tryton-jsonrpc": TrytonSession}  # by preset
