# SPDX-License-Identifier: Apache-2.0
"""Read answers that are no JSON as the table that JSON would be: XML, lines "name: value", forms. Pure.

The same search for refusals and proofs then serves them all. Markup need not be well formed. Nothing is fetched or
expanded: no entity of a document, no schema.
"""

from __future__ import annotations

import html
import re
from typing import Any
from urllib.parse import parse_qsl

MOST_LETTERS, MOST_LINES, DEEPEST = 100_000, 50, 30
_PAGE = re.compile(
    r"(?is)\s*(<\?xml[^>]*>\s*|<!--.*?-->\s*)*<(!doctype html|(html|head|body|script|style|meta|title|form|div"
    r"|h[1-6]|p|br|center|font|iframe|noscript|img)\b)"
)
_NOT_READ = re.compile(r"(?s)<!--.*?-->|<\?.*?\?>|<!DOCTYPE[^>]*>")
_CDATA = re.compile(r"(?s)<!\[CDATA\[(.*?)\]\]>")
_TAG = re.compile(r"<(/?)([A-Za-z_][\w:.-]*)([^<>]*?)(/?)>([^<]*)")
_ATTRIBUTE = re.compile(r"""([\w:.-]+)\s*=\s*(?:"([^"]*)"|'([^']*)')""")
_WRAPPERS = ("envelope", "body")  # of SOAP
_VALUES = ("int", "integer", "long", "short", "decimal", "double", "boolean", "string", "return", "result", "value")
_LINE = re.compile(r"\s*([\w.-]{1,40})\s*[:=]\s*(.*)")
_INTEGER = re.compile(r"-?(0|[1-9]\d{0,17})")


def is_page(kind: str, text: str) -> bool:
    """Whether an answer is a web page, by its Content-Type or its first element."""
    return "html" in kind.lower() or _PAGE.match(text[:5000]) is not None


def is_xml(kind: str, text: str) -> bool:
    """Whether an answer is XML that is no page."""
    return text.lstrip()[:1] == "<" and not is_page(kind, text)


def read(text: str) -> Any:
    """The table in a text; None for a text that has none, and for a page."""
    if text.lstrip()[:1] == "<":
        return None if is_page("", text) else _xml(text[:MOST_LETTERS])
    return _form(text) or _lines(text)


def _lines(text: str) -> dict[str, Any] | None:
    """Lines that are all "name: value" or "name=value"."""
    lines = [line for line in text[:MOST_LETTERS].splitlines() if line.strip()][: MOST_LINES + 1]
    found = [_LINE.fullmatch(line) for line in lines]
    if not lines or len(lines) > MOST_LINES or not all(found):
        return None
    return {match[1]: _scalar(match[2]) for match in found if match}


def _form(text: str) -> dict[str, Any] | None:
    """What an HTML form would send: a=1&b=2."""
    if "&" not in text or re.search(r"\s", text.strip()):
        return None
    pairs = parse_qsl(text.strip()[:MOST_LETTERS], keep_blank_values=True, max_num_fields=None)
    return {name: _scalar(value) for name, value in pairs[:MOST_LINES]} or None


def _xml(text: str) -> Any:
    plain = _CDATA.sub(lambda m: html.escape(m[1]), _NOT_READ.sub("", text))
    top: dict[str, Any] = {}
    tables, names, texts = [top], [""], [""]
    for closing, name, attributes, empty, tail in _TAG.findall(plain):
        if closing:
            if name in names[1:]:
                while _close(tables, names, texts) != name:
                    pass
                texts[-1] += tail
            continue
        if len(names) > DEEPEST:
            return None
        found = {n: _scalar(html.unescape(a or b)) for n, a, b in _ATTRIBUTE.findall(attributes) if n[:5] != "xmlns"}
        tables.append(found)
        names.append(name)
        texts.append("" if empty else tail)
        if empty:
            _close(tables, names, texts)
            texts[-1] += tail
    while len(names) > 1:  # an element without an end
        _close(tables, names, texts)
    return _unwrapped(top)


def _close(tables: list[dict[str, Any]], names: list[str], texts: list[str]) -> str:
    """Put the innermost open element into the one around it; its name."""
    table, name, text = tables.pop(), names.pop(), html.unescape(texts.pop()).strip()
    value: Any = {**table, **({"text": _scalar(text)} if text else {})} if table else _scalar(text)
    around, own = tables[-1], name.rpartition(":")[2]
    if own in around:
        held = around[own]
        around[own] = [*held, value] if isinstance(held, list) else [held, value]
    else:
        around[own] = value
    return name


def _unwrapped(top: dict[str, Any]) -> Any:
    """The table without an envelope, and the value of an element that is a bare value."""
    while len(top) == 1:
        [(name, value)] = top.items()
        if name.lower() in _VALUES and not isinstance(value, dict):
            return value
        if name.lower() not in _WRAPPERS or not isinstance(value, dict):
            break
        top = {n: v for n, v in value.items() if n.lower() != "header"}
    return top


def _scalar(text: str) -> Any:
    """A text as JSON would have its value."""
    text = text.strip()
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    return int(text) if _INTEGER.fullmatch(text) else text
