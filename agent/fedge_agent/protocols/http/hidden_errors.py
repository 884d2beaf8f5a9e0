# SPDX-License-Identifier: Apache-2.0
"""Find errors in answers whose status is a success. Pure.

JSON-RPC, OData, Frappe, JSend and many others report an error inside a 200. This finds the members that they use for
it, where a configuration names none.
"""

from __future__ import annotations

import re
from typing import Any

_ALWAYS = ("error", "errors", "exception", "exc_type", "exc")  # JSON-RPC, OData, GraphQL, Frappe
_FALSE = ("success", "ok", "succeeded", "issuccess")
_NOTHING = ("", "0", "none", "null", "false", "ok", "no error", "noerror")
_INSIDE = ("result", "response")
_SAP = ("e", "a")  # BAPIRET2: error, abort
# A session that has ended, and a login that is not accepted: they heal by a new login or a new key.
LOGIN = re.compile(
    r"(?i)session.{0,30}(expired|invalid|ended|closed|timed?.?out|not (found|valid))|(expired|invalid).{0,10}session"
    r"|not (logged|signed) in|(log|sign).?in (again|required)|(re-?)?authentication (is )?(required|failed|expired)"
    r"|not authenticated|unauthenticated|unauthori[sz]ed|access.?denied|csrf"
    r"|(token|api.?key|credentials?).{0,20}(expired|invalid|revoked)|(expired|invalid|revoked).{0,10}(token|api.?key)"
)


def find(data: Any) -> str | None:
    """The error that an answer reports, in its own words; None when it reports none."""
    if not isinstance(data, dict):
        return None
    known = {str(name).lower(): value for name, value in data.items()}
    for name in _ALWAYS:
        if _says_something(known.get(name)):
            return _text(known[name])
    if isinstance(known.get("fault"), dict):  # SOAP as JSON; a text may be the fault of a machine
        return _text(known["fault"])
    failed = any(known.get(name) is False for name in _FALSE)
    jsend = str(known.get("status")).lower() in ("error", "fail") and ("message" in known or "data" in known)
    if failed or jsend:
        return _text(data)
    if (sap := _sap(known.get("return"))) is not None:
        return sap
    return next((text for name in _INSIDE if (text := find(known.get(name))) is not None), None)


def _says_something(value: Any) -> bool:
    """Whether the value of an error's member is an error."""
    if isinstance(value, str):
        return value.strip().lower() not in _NOTHING
    if isinstance(value, dict) and value.get("code") in (0, "0"):
        return False
    return bool(value)


def _sap(value: Any) -> str | None:
    """The error among the messages that a BAPI returns."""
    for message in value if isinstance(value, list) else [value]:
        if isinstance(message, dict):
            known = {str(name).lower(): entry for name, entry in message.items()}
            if str(known.get("type")).lower() in _SAP:
                return _text(message)
    return None


def _text(value: Any) -> str:
    return str(value)[:500]
