# SPDX-License-Identifier: Apache-2.0
"""Hide secrets in a request that is shown to a person. Pure.

Hidden are: every configured header but those of the format, entries and query parameters whose names say that they
hold a secret, the third argument of Odoo's ``execute_kw`` (the password or API key), and texts that look like a key:
long, without spaces, letters and digits mixed.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

HIDDEN = "***"
LEAST_SECRET = 4  # characters; a shorter text would be found everywhere
_PLAIN_HEADERS = ("accept", "content-type")
_EVENT_HEADER = re.compile(r"(?i)idempoten|^x-(asset|event|machine|request-id)")
_SECRET_NAME = re.compile(r"(?i)passw|pwd|secret|token|api.?key|auth|credential|session|signature|^key$|^sig$")
_KEY = re.compile(r"(?=[\w+/=.-]*[A-Za-z])(?=[\w+/=.-]*\d)[\w+/=.-]{20,}")


def headers(found: Mapping[str, str], plain: Collection[str] = ()) -> dict[str, str]:
    """Headers; only the values of those that carry no secret."""
    shown = {name.lower() for name in (*_PLAIN_HEADERS, *plain)}
    return {name: value if name.lower() in shown else HIDDEN for name, value in found.items()}


def secrets_of(found: Mapping[str, str]) -> set[str]:
    """What a server must not bring into a message by repeating our headers: the values of all but those of the format
    and those that name an event, and of a login also what stands after its scheme."""
    values = {v for name, v in found.items() if name.lower() not in _PLAIN_HEADERS and not _EVENT_HEADER.search(name)}
    values |= {value.split(maxsplit=1)[-1] for value in values if value.strip()}
    return {value for value in values if len(value) >= LEAST_SECRET}


def query(found: Mapping[str, Any], filled: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """A query as it is filled; what is written in the configuration may be a key, so only what an event fills in is
    shown."""
    return {name: HIDDEN if value == found[name] else _one(name, value, known) for name, value in filled.items()}


def body(data: Any, known: Collection[str] = ()) -> Any:
    """A body. `known`: texts of the event itself, which are no secrets, however they look."""
    if isinstance(data, dict):
        return {name: _one(str(name), value, known) for name, value in data.items()}
    if isinstance(data, list):
        secret = 2 if _odoo(data) else -1
        return [HIDDEN if index == secret else body(value, known) for index, value in enumerate(data)]
    if isinstance(data, str) and data not in known and _KEY.fullmatch(data):
        return HIDDEN
    return data


def _odoo(args: list[Any]) -> bool:
    """Whether these are the arguments of execute_kw: database, user id, password, model, method."""
    return len(args) >= 5 and isinstance(args[0], str) and isinstance(args[1], int) and isinstance(args[2], str)


def _one(name: str, value: Any, known: Collection[str]) -> Any:
    if _SECRET_NAME.search(name) and isinstance(value, (str, int)) and str(value) not in known:
        return HIDDEN
    return body(value, known)
