# SPDX-License-Identifier: Apache-2.0
"""URL and headers of a request from templates (`placeholders`). Pure.

In queries and headers, which hold text, ``{ json = … }`` is written as JSON and ``{ base64 = … }`` as JSON in URL-safe
Base64.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from ... import placeholders
from .headers import on_one_line


def fill_url(template: str, query: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    """A URL: placeholders are quoted, the query is encoded; a list repeats its name."""
    url = str(placeholders.substitute(template, lambda p: _quoted(placeholders.look_up(p, known))))
    pairs: list[tuple[str, str]] = []
    for name, value in query.items():
        filled = placeholders.fill(value, known)
        pairs += [(name, _coded(v)) for v in (filled if isinstance(filled, list) else [filled])]
    return url + ("&" if "?" in url else "?") * bool(pairs) + urlencode(pairs)


def fill_headers(headers: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, str]:
    """Headers as text on one line."""
    return {name: on_one_line(_coded(placeholders.fill(value, known))) for name, value in headers.items()}


def _quoted(value: Any) -> str:
    return quote(placeholders.as_text(value), safe="")


def _coded(value: Any) -> str:
    """A value of a query or header as text."""
    if isinstance(value, dict) and len(value) == 1:
        if "json" in value:
            return msgspec.json.encode(value["json"]).decode()
        if "base64" in value:
            return base64.urlsafe_b64encode(msgspec.json.encode(value["base64"])).decode()
    return placeholders.as_text(value)
