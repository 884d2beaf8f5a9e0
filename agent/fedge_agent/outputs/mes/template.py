"""Templates: strings with ``{field}`` inside tables, filled from an event.

A string that is one placeholder takes the value with its type; as ``{score:s}`` or inside a longer string it is text.
``{context.job}`` and ``{values.wear}`` reach into a table and are empty where it has no such entry. In queries and
headers, which hold text, ``{ json = … }`` is written as JSON and ``{ base64 = … }`` as JSON in URL-safe Base64.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
from fedge_models.errors import ConfigError
from fedge_models.system.choices import hint

from ...types import Event

_FIELD = re.compile(r"\{(\w+)(?:\.([\w-]+))?(:s)?\}")
_PRIORITIES = {"high": 1, "medium": 2, "low": 3}  # as planners count: 1 first
FIELDS = (*Event.__struct_fields__, "time", "cause", "summary", "priority")
_TABLES = {"saved", *(f.name for f in msgspec.structs.fields(Event) if getattr(f.type, "__origin__", None) is dict)}


def values(event: Event) -> dict[str, Any]:
    """What the placeholders stand for. Numbers have six digits: a work order is read by people."""
    time = datetime.fromtimestamp(event.time_ns / 1e9, timezone.utc).isoformat(timespec="milliseconds")
    estimates = {name: _short(value) for name, value in event.values.items()}
    cause = f" ({event.channel})" if event.channel else "".join(f" ({n} {v:g})" for n, v in estimates.items())
    score, threshold = _short(event.score), _short(event.threshold)
    summary = f"{event.label} on {event.asset}{cause}: score {score:g}, threshold {threshold:g}"
    rest = {"time": time, "score": score, "threshold": threshold, "values": estimates, "cause": cause}
    return {**msgspec.structs.asdict(event), **rest, "summary": summary, "priority": _PRIORITIES[event.severity]}


def fill(template: Any, known: Mapping[str, Any]) -> Any:
    """The template with its placeholders filled."""
    if isinstance(template, dict):
        return {key: fill(value, known) for key, value in template.items()}
    if isinstance(template, list):
        return [fill(value, known) for value in template]
    if not isinstance(template, str):
        return template
    if whole := _FIELD.fullmatch(template):
        return _look(whole, known)
    return _FIELD.sub(lambda m: _text(_look(m, known)), template)


def fill_url(template: str, query: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    """A URL: placeholders are quoted, the query is encoded; a list repeats its name."""
    url = _FIELD.sub(lambda m: quote(_text(_look(m, known)), safe=""), template)
    pairs: list[tuple[str, str]] = []
    for name, value in query.items():
        filled = fill(value, known)
        pairs += [(name, _coded(v)) for v in (filled if isinstance(filled, list) else [filled])]
    return url + ("&" if "?" in url else "?") * bool(pairs) + urlencode(pairs)


def fill_headers(headers: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, str]:
    """Headers as text on one line."""
    return {n: re.sub(r"[\r\n]+", " ", _coded(fill(value, known))) for n, value in headers.items()}


def check(template: Any, allowed: Sequence[str], where: str) -> None:
    """Raise ConfigError for a placeholder that is not one of `allowed`, suggesting the nearest."""
    if isinstance(template, (dict, list)):
        for value in template.values() if isinstance(template, dict) else template:
            check(value, allowed, where)
    elif isinstance(template, str):
        for field, entry, _ in _FIELD.findall(template):
            if field not in allowed or (entry and field not in _TABLES):
                near = hint(field, allowed, "{{{}}}")
                got = f"{field}.{entry}" if entry else field
                raise ConfigError(f"{where}: template {template!r} has the unknown field {{{got}}}; {near}")


def _look(match: re.Match[str], known: Mapping[str, Any]) -> Any:
    value = known[match[1]] if match[2] is None else known[match[1]].get(match[2], "")
    return _text(value) if match[3] else value


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _coded(value: Any) -> str:
    if isinstance(value, dict) and len(value) == 1:
        if "json" in value:
            return msgspec.json.encode(value["json"]).decode()
        if "base64" in value:
            return base64.urlsafe_b64encode(msgspec.json.encode(value["base64"])).decode()
    return _text(value)


def _short(value: float) -> float:
    return float(f"{value:.6g}")
