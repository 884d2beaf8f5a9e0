# SPDX-License-Identifier: Apache-2.0
"""Find refusals in answers whose status is a success. Pure.

Many systems report an error inside a 200: JSON-RPC, OData, Frappe, SAP, Salesforce, OSLC, problem details, and texts
that only a person was meant to read. This looks for the evidence that they have in common, where a configuration names
none: members for errors, codes, flags, words. What only repeats the request is no evidence.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from . import other_forms, vocabulary
from .ids import is_id
from .login_words import LOGIN

DEEPEST, MOST = 5, 50  # levels, and entries of a list, that are looked at


class Kind(enum.Enum):
    """What a refusal asks for."""

    LOGIN = enum.auto()  # a new login, or a new key
    BUSY = enum.auto()  # another try
    REFUSED = enum.auto()  # a person
    UNCLEAR = enum.auto()  # it says neither that something was done nor that it was not


class Refusal(NamedTuple):
    """A refusal, in the words of the answer."""

    kind: Kind
    text: str


def find(data: Any, text: str = "", sent: Any = None) -> Refusal | None:
    """The refusal in an answer; None when it reports none.

    data: its JSON, or None; text: the answer as it came; sent: the body of the request, as JSON.
    """
    if data is None:
        said = _of_text(text.strip(), _strings(sent))
        return said or ((table := other_forms.read(text)) is not None and _of(table, sent, _strings(sent), 0)) or None
    if isinstance(data, (dict, list)) and data and _is_hollow(data):
        return Refusal(Kind.UNCLEAR, _shown(data))
    return _of(data, sent, _strings(sent), 0)


def why(text: str, code: int = 0) -> Refusal:
    """The refusal that a text and a code like HTTP's mean."""
    if code in vocabulary.LOGIN_CODES or LOGIN.search(text):
        return Refusal(Kind.LOGIN, text)
    return Refusal(Kind.BUSY if code in vocabulary.BUSY_CODES or code >= 500 else Kind.REFUSED, text)


def plain(name: Any) -> str:
    """A member's name without what systems differ in: "oslc:Error" and "Error", "errorCode" and "error_code"."""
    return re.sub(r"[^a-z0-9]", "", str(name).rpartition(":")[2].lower())


def _of(value: Any, sent: Any, texts: list[str], depth: int, fine: bool = False) -> Refusal | None:
    if isinstance(value, dict):
        return _of_table(value, sent, texts, depth, fine)
    if isinstance(value, list) and depth < DEEPEST:
        return next((r for entry in value[:MOST] if (r := _of_entry(entry, sent, texts, depth + 1, fine))), None)
    if value is False or (isinstance(value, (int, float)) and value < 0):  # -1: an error of a call, by custom
        return Refusal(Kind.REFUSED, str(value).lower())
    return _of_text(value, texts) if isinstance(value, str) and depth == 0 else None


def _of_entry(entry: Any, sent: Any, texts: list[str], depth: int, fine: bool) -> Refusal | None:
    if isinstance(entry, str) and depth == 1 and vocabulary.BAD_START.match(entry):
        return _of_text(entry, texts)
    return _of_table(entry, sent, texts, depth, fine) if isinstance(entry, dict) else None


def _of_table(table: dict[str, Any], sent: Any, texts: list[str], depth: int, fine: bool) -> Refusal | None:
    repeated = sent if isinstance(sent, dict) else {}
    known = {plain(n): v for n, v in table.items() if not (n in repeated and repeated[n] == v)}
    record = any(vocabulary.ID.fullmatch(name) and is_id(v) for name, v in known.items()) and "jsonrpc" not in known
    if record and depth and not any(name in known for name in vocabulary.MESSAGE):
        return None
    found = _named(known, table, record) or _failed(known, table, record) or _messages(known, record)
    fine = fine or any(known.get(name) is True for name in vocabulary.FALSE)  # it says that it is a success
    found = found or (None if fine else _said(known, record, texts))
    if found is not None or depth >= DEEPEST:
        return found
    inside = [known[name] for name in vocabulary.INSIDE if name in known] if len(known) > 1 else list(known.values())
    no = [known[n] for n in known if n in vocabulary.INSIDE or vocabulary.RESULT.fullmatch(n)]
    no = [] if record else [v for v in no if not isinstance(v, (dict, list, str)) and v is not None]
    tables = [value for value in inside if isinstance(value, (dict, list))] + no
    return next((r for value in tables if (r := _of(value, sent, texts, depth + 1, fine))), None)


def _named(known: dict[str, Any], table: dict[str, Any], record: bool) -> Refusal | None:
    """What a member for errors says."""
    for name, value in known.items():
        like = vocabulary.ERROR_LIKE.fullmatch(name) and (not record or _has_message(known))
        if (name in vocabulary.ERROR or like) and _says_something(value):
            own = {plain(n): v for n, v in value.items()} if isinstance(value, dict) else {}
            return why(_shown(value if own else table), _code(own) or _code(known))
    if isinstance(known.get("fault"), dict):  # SOAP as JSON; a text may be the fault of a machine
        return why(_shown(known["fault"]))
    return None


def _failed(known: dict[str, Any], table: dict[str, Any], record: bool) -> Refusal | None:
    """What flags, codes and words for the outcome say."""
    no = any(_is_false(known.get(name)) for name in vocabulary.FALSE) or any(
        known.get(name) in (0, "0") for name in vocabulary.FALSE[:-2]
    )
    if no or any(known.get(name) is True for name in vocabulary.TRUE):
        return why(_shown(table), _code(known))
    to = next((known[name] for name in vocabulary.TO if isinstance(known.get(name), str)), "")
    if any(_is_false(known.get(name)) for name in vocabulary.FALSE_LOGIN) or vocabulary.TO_LOGIN.search(to):
        return Refusal(Kind.LOGIN, _shown(table))
    if not record and (found := _no_record_made(known, table)):
        return found
    if record and not _has_message(known):  # a record has states and codes of its own
        return None
    word = any(
        isinstance(known.get(name), str) and vocabulary.BAD_WORD.fullmatch(known[name]) for name in vocabulary.OUTCOME
    )
    word = word or str(known.get("name")).endswith(("Error", "Exception"))
    coded = any(
        vocabulary.BAD_CODE.fullmatch(str(known.get(name)))
        for name in (*vocabulary.CODE, *vocabulary.RETURN_CODE, "ret")
    )
    if _code(known) or word or coded or any(_is_not_zero(known.get(name)) for name in vocabulary.RETURN_CODE):
        return why(_shown(table), _code(known))
    return None


def _no_record_made(known: dict[str, Any], table: dict[str, Any]) -> Refusal | None:
    """What flags and counts say that would be states of a record."""
    if any(known.get(name) is True for name in vocabulary.CLOSED):
        return Refusal(Kind.BUSY, _shown(table))
    no = any(_is_false(known.get(name)) for name in vocabulary.FALSE_UNLESS_RECORD)
    if no or any(vocabulary.COUNT.fullmatch(name) and _is_some(value) for name, value in known.items()):
        return why(_shown(table), _code(known))
    return None


def _messages(known: dict[str, Any], record: bool) -> Refusal | None:
    """The error among messages such as a BAPI returns: of type E or A, or of a severity that is called error."""
    found = [known] if _has_message(known) and not record else []
    for name in vocabulary.MESSAGES:
        for message in found + (known[name] if isinstance(known.get(name), list) else [known.get(name)]):
            if isinstance(message, str) and isinstance(known[name], list) and vocabulary.BAD_START.match(message):
                return why(message[:500])
            if isinstance(message, dict):
                of = {plain(n): str(v).strip().lower() for n, v in message.items()}
                marks = [of.get(n, "") for n in ("type", "severity", "level", "msgtype", "messagetype", "msgty")]
                if any(mark in ("e", "a", "x") or vocabulary.BAD_WORD.fullmatch(mark) for mark in marks if mark):
                    return why(_shown(message))
    return None


def _said(known: dict[str, Any], record: bool, texts: list[str]) -> Refusal | None:
    """What a text says that a person was meant to read."""
    said = [known[n] for n in (vocabulary.MESSAGE if record else vocabulary.TEXT) if isinstance(known.get(n), str)]
    return next((refusal for text in said if (refusal := _of_text(text.strip(), texts))), None)


def _of_text(text: str, repeated: list[str]) -> Refusal | None:
    """What a text says; "null" stands for itself."""
    if not text or any(text in other for other in repeated):
        return None
    if text == "null":
        return Refusal(Kind.UNCLEAR, text)
    if text.startswith("<"):
        return _of_markup(text)
    start = vocabulary.CODED.match(text) or (
        vocabulary.BAD_START.match(text) and not (vocabulary.DONE.search(text) and not vocabulary.NOT.search(text))
    )
    if vocabulary.BAD_WORD.fullmatch(text) or start or LOGIN.search(text[:2000]):
        return why(text[:500])
    return None


def _of_markup(text: str) -> Refusal | None:
    """What XML or a page says: a fault, or a title that is an error."""
    title = found[2] if (found := vocabulary.TITLE.search(text)) else ""
    words = re.sub(r"\s*<[^>]*>\s*", " ", text[:20_000]).strip()[:2000]
    if vocabulary.MARKUP_FAULT.search(text[:20_000]) or vocabulary.BAD_START.match(title) or LOGIN.search(words):
        return why(words or text[:500])
    return None


def _strings(sent: Any) -> list[str]:
    """The texts of a request."""
    if isinstance(sent, str):
        return [sent]
    parts: Iterator[Any] = iter(sent.values() if isinstance(sent, dict) else sent if isinstance(sent, list) else ())
    return [text for part in parts for text in _strings(part)]


def _code(known: dict[str, Any]) -> int:
    """A code of HTTP from 400 on; 0 for none."""
    numbers = (str(known.get(name)) for name in vocabulary.CODE if isinstance(known.get(name), (int, str)))
    return next((int(n) for n in numbers if len(n) == 3 and n.isdecimal() and 400 <= int(n) < 600), 0)


def _has_message(known: dict[str, Any]) -> bool:
    return any(name in known for name in vocabulary.MESSAGE)


def _is_false(value: Any) -> bool:
    return value is False or (isinstance(value, str) and value.strip().lower() in ("false", "no", "n", "nein", "non"))


def _is_some(value: Any) -> bool:
    """Whether a count of errors, or a list of what was rejected, is not empty."""
    if isinstance(value, str):
        return value.isdecimal() and int(value) > 0
    return bool(value) and value is not True


def _is_not_zero(value: Any) -> bool:
    """Whether a return code is a number, and neither 0 nor a success of HTTP."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return False
    text = str(value).strip()
    return text.lstrip("-").isdecimal() and int(text) != 0 and not 200 <= int(text) < 300


def _is_hollow(value: Any, depth: int = 0) -> bool:
    """Whether all that an answer holds is null."""
    if not isinstance(value, (dict, list)):
        return value is None
    parts = list(value.values()) if isinstance(value, dict) else value
    return bool(parts) and depth < DEEPEST and all(_is_hollow(part, depth + 1) for part in parts)


def _says_something(value: Any) -> bool:
    """Whether the value of an error's member is an error."""
    if isinstance(value, str):
        return value.strip().lower() not in vocabulary.NOTHING and not (value.strip().isdecimal() and int(value) == 0)
    if isinstance(value, dict) and value.get("code") in (0, "0"):
        return False
    return bool(value)


def _shown(value: Any) -> str:
    return str(value)[:500]
