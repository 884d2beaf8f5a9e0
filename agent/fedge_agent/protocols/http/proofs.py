# SPDX-License-Identifier: Apache-2.0
"""Find the proof that a request was carried out, in an answer that reports no refusal. Pure.

A status of 201, 202 or 204, a `Location`, an answer that says nothing besides its status, the id of what was made,
our own reference repeated, or a word such as "created". An answer with none of these tells neither.
"""

from __future__ import annotations

import re
from typing import Any

from .client import Answer
from .refusals import DEEPEST, MOST, plain

_STATUSES = (201, 202, 204)
_ID = re.compile(
    r"(?!(request|correlation|trace|session|user|tenant|client|error|message|activity|conversation|org)_?id$)"
    r".*(id|key|number|order|num|nr|no|guid|uuid|notification|ticket|reference)|name|href|self|uri|link"
)
_NOT_NAMES = ("hostname", "username", "apikey", "info")
_NOT_INSIDE = ("user", "session", "request", "meta", "tenant", "client", "error")
_FLAGS = ("success", "successful", "succeeded", "issuccess", "issuccessful", "ok", "accepted", "created", "result")
_OUTCOMES = ("status", "result", "outcome", "state", "returncode", "resultcode")
_MESSAGES = ("message", "msg", "text", "result", "detail", "info")
_CODES = ("code", "status", "statuscode", "returncode", "resultcode", "retcode", "errcode", "errorcode")
_GOOD = re.compile(
    r"(?i)\W*(\w+ ){0,4}(ok|okay|done|true|yes|ack|success|successful|successfully|succeeded|created|accepted|received"
    r"|queued|processed|posted|saved|made|started|triggered|angelegt|erstellt|empfangen|angenommen"
    r"|erfolgreich|gespeichert|créée?|reçue?|enregistrée?|creado|creada|recibido|creato|creata|ricevuto|aangemaakt)\b"
)
_STATES = re.compile(
    r"(?i)(ok|success\w*|created|accepted|received|queued|pending|open(ed)?|new|draft|submitted|wappr)"
)
_NEGATED = re.compile(r"(?i)\b(not|n't|no(?!\.)|never|un\w+ed|nicht|kein\w*|ne|pas|non|niet|inte)\b")
_IDENTIFIER = re.compile(r"(?=.*\d)[\w./:-]{1,200}")


def has(answer: Answer, key: str) -> bool:
    """Whether an answer proves that its request was carried out. `key`: our reference, which it may repeat."""
    data, text = answer.data, answer.text.strip()
    if answer.status in _STATUSES or answer.location or not text or data in ({}, True):
        return True
    if key and key in text:
        return True
    return _of_text(text) if data is None else _of(data, 0)


def _of(value: Any, depth: int) -> bool:
    if isinstance(value, dict):
        return _of_table({plain(name): entry for name, entry in value.items()}, depth)
    if isinstance(value, list):
        return depth < DEEPEST and any(_of(entry, depth + 1) for entry in value[:MOST])
    if isinstance(value, str):
        return _of_text(value)
    return value is True or (isinstance(value, int) and value > 0)


def _of_table(known: dict[str, Any], depth: int) -> bool:
    if "jsonrpc" in known or ("result" in known and "id" in known):  # the id of the call, not of an order
        return _of(known.get("result"), depth + 1)
    if any(known.get(name) == 1 for name in _FLAGS) or any(_is_success(known.get(name)) for name in _CODES):
        return True
    states = any(isinstance(known.get(name), str) and _STATES.fullmatch(known[name]) for name in _OUTCOMES)
    if states or any(isinstance(known.get(name), str) and _is_good(known[name]) for name in _MESSAGES):
        return True
    if any(_ID.fullmatch(n) and n not in _NOT_NAMES and _is_id(v) for n, v in known.items()):
        return True
    inside = [v for n, v in known.items() if n not in _NOT_INSIDE and isinstance(v, (dict, list))]
    return depth < DEEPEST and any(_of(entry, depth + 1) for entry in inside[:MOST])


def _of_text(text: str) -> bool:
    return _is_good(text[:200]) or _IDENTIFIER.fullmatch(text.strip()) is not None


def _is_good(text: str) -> bool:
    return _GOOD.match(text) is not None and _NEGATED.search(text) is None


def _is_id(value: Any) -> bool:
    if isinstance(value, str):
        return bool(value.strip())
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_success(value: Any) -> bool:
    """Whether a code is 0 or a success of HTTP."""
    text = str(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else ""
    return text.isdecimal() and (int(text) == 0 or 200 <= int(text) < 300)
