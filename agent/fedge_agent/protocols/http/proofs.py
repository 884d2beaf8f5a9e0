# SPDX-License-Identifier: Apache-2.0
"""Find the proof that a request was carried out, in an answer that reports no refusal. Pure.

A status of 201, 202 or 204, a `Location`, an answer that says nothing besides its status, the id of what was made, a
word such as "created", or an error that is said to be none. What repeats the request, our own reference too, proves
nothing: refusals repeat it as well. An answer with none of these tells neither.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from . import other_forms
from .client import Answer
from .ids import is_id
from .refusals import DEEPEST, MOST, plain

_STATUSES = (201, 202, 204)
_ID = re.compile(
    r"(?!(request|correlation|trace|span|session|user|tenant|client|error|message|activity|conversation|org|asset|equipment"
    r"|machine|device|gateway|site|plant|process|thread|host|server|instance|log|line|page|build|version|port|retry"
    r"|status|http)(id|key|number|num|nr|no)$)"
    r".*(id|key|number|order|num|nr|no|guid|uuid|notification|ticket|reference)|href|self|uri|link|name"
)
_WEAK = ("key", "number", "num", "nr", "no", "name", "href", "self", "uri", "link")  # of whatever the message is about
_NOT_NAMES = ("hostname", "username", "apikey", "info", "valid", "invalid", "void", "paid", "grid")
_NOT_INSIDE = (
    "user", "session", "request", "meta", "tenant", "client", "error", "errors", "warnings", "asset", "equipment",
    "input", "payload", "original", "query", "params", "rejected", "failed", "failures", "invalid", "skipped", "links",
)  # fmt: skip
_NO_ERROR = ("error", "haserror", "haserrors", "iserror", "failed", "failure")
_FLAGS = ("success", "successful", "succeeded", "issuccess", "issuccessful", "ok", "accepted", "created", "result")
_OUTCOMES = ("status", "result", "outcome", "state", "returncode", "resultcode")
_MESSAGES = ("message", "msg", "text", "result", "detail", "info")
_CODES = ("code", "status", "statuscode", "returncode", "resultcode", "retcode", "errcode", "errorcode")
_GOOD = re.compile(
    r"(?i)\W*(error(.?code)?\W{0,3}0\b|(no|0) errors?\b)"
    r"|\W*(\w+ ){0,4}(ok|okay|done|true|yes|ack|success|successful|successfully|succeeded|created|accepted|received"
    r"|queued|processed|posted|saved|made|started|triggered|angelegt|erstellt|empfangen|angenommen"
    r"|erfolgreich|gespeichert|créée?|reçue?|enregistrée?|creado|creada|recibido|creato|creata|ricevuto|aangemaakt)\b"
)
_STATES = re.compile(
    r"(?i)(ok|success\w*|created|accepted|received|queued|pending|open(ed)?|new|draft|submitted|wappr)"
)
_NEGATED = re.compile(r"(?i)\b(not|n't|no(?!\.)|never|un\w+ed|nicht|kein\w*|ne|pas|non|niet|inte)\b")
_NO_NEGATION = re.compile(r"(?i)\b(no|0) errors?\b")
_IDENTIFIER = re.compile(r"(?!\d{4}-\d\d-\d\d)(?=.*\d)[\w./:-]{1,200}")


def has(answer: Answer, sent: Any = None) -> bool:
    """Whether an answer proves that its request was carried out. `sent`: its body, which it may repeat."""
    data, text = answer.data, answer.text.strip()
    if answer.status in _STATUSES or answer.location or not text or data in ({}, True):
        return True
    ours = set(_values(sent))
    if data is None:
        table = other_forms.read(text)
        return _of_text(text, ours) or (table is not None and _of(table, ours, 0))
    return _of(data, ours, 0)


def _of(value: Any, ours: set[Any], depth: int) -> bool:
    if isinstance(value, dict):
        return _of_table({plain(name): entry for name, entry in value.items()}, ours, depth)
    if isinstance(value, list):
        return depth < DEEPEST and any(_of(entry, ours, depth + 1) for entry in value[:MOST])
    if isinstance(value, str):
        return _of_text(value, ours)
    return value is True or (isinstance(value, int) and value > 0)


def _of_table(known: dict[str, Any], ours: set[Any], depth: int) -> bool:
    known = {n: v for n, v in known.items() if isinstance(v, (dict, list)) or not (v in ours or (n, v) in ours)}
    if "jsonrpc" in known or ("result" in known and "id" in known):  # the id of the call, not of an order
        return _of(known.get("result"), ours, depth + 1)
    if any(known.get(name) == 1 for name in _FLAGS) or any(_is_success(known.get(name)) for name in _CODES):
        return True
    said = [text for name in _MESSAGES if isinstance(text := known.get(name), str) and text]
    states = any(isinstance(known.get(name), str) and _STATES.fullmatch(known[name]) for name in _OUTCOMES)
    if states or any(map(_is_good, said)):
        return True
    if any(_is_false(known.get(name)) for name in _NO_ERROR) and not any(_NEGATED.search(text) for text in said):
        return True
    weak = () if all(_is_good(text) for text in said) else _WEAK
    ids = [v for n, v in known.items() if _ID.fullmatch(n) and n not in (*_NOT_NAMES, *weak)]
    if any(map(is_id, ids)):
        return True
    inside = [v for n, v in known.items() if n not in _NOT_INSIDE and isinstance(v, (dict, list))]
    return depth < DEEPEST and any(_of(entry, ours, depth + 1) for entry in inside[:MOST])


def _of_text(text: str, ours: set[Any]) -> bool:
    text = text.strip()
    if text in ours:
        return False
    return _is_good(text[:200]) or (_IDENTIFIER.fullmatch(text) is not None and is_id(text))


def _is_good(text: str) -> bool:
    return _GOOD.match(text) is not None and _NEGATED.search(_NO_NEGATION.sub("", text)) is None


def _is_false(value: Any) -> bool:
    return value is False or (isinstance(value, str) and value.strip().lower() == "false")


def _values(sent: Any) -> Iterator[Any]:
    """The texts of a request, and its other values with their names."""
    for name, part in sent.items() if isinstance(sent, dict) else enumerate(sent if isinstance(sent, list) else ()):
        if isinstance(part, (dict, list)):
            yield from _values(part)
        else:
            yield part if isinstance(part, str) else (plain(name), part)


def _is_success(value: Any) -> bool:
    """Whether a code is 0 or a success of HTTP."""
    text = str(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else ""
    return text.isdecimal() and (int(text) == 0 or 200 <= int(text) < 300)
