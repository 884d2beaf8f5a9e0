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
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

HIDDEN = "***"
_PLAIN_HEADERS = ("accept", "content-type")
_SECRET_NAME = re.compile(r"(?i)passw|pwd|secret|token|api.?key|auth|credential|session|signature|^key$|^sig$")
_KEY = re.compile(r"(?=[\w+/=.-]*[A-Za-z])(?=[\w+/=.-]*\d)[\w+/=.-]{20,}")


def headers(found: Mapping[str, str], plain: Collection[str] = ()) -> dict[str, str]:
    """Headers; only the values of those that carry no secret."""
    shown = {name.lower() for name in (*_PLAIN_HEADERS, *plain)}
    return {name: value if name.lower() in shown else HIDDEN for name, value in found.items()}


def url(address: str, known: Collection[str] = ()) -> str:
    """An address; of its query only the values that carry no secret."""
    parts = urlsplit(address)
    pairs = [(name, _one(name, value, known)) for name, value in parse_qsl(parts.query, keep_blank_values=True)]
    return urlunsplit(parts._replace(query=urlencode(pairs, safe="*")))


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
