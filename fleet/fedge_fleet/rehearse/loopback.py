# SPDX-License-Identifier: Apache-2.0
"""Refuse a configuration that still names another machine or device, before a process starts with it. Pure.

The last check of a rehearsal: what was replaced, or forgotten, does not matter here, only what is left.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from fedge_models.errors import StopError

HOSTS = ("127.0.0.1", "localhost", "::1")
_URL = re.compile(r"\b[A-Za-z][A-Za-z0-9+.-]*://[^\s\"']*")
_DEVICE = re.compile(r"^/dev/")
_ADDRESS_KEYS = ("listen", "operator", "status", "addresses", "engine")
LOCAL_SOURCES = ("files", "images", "opcua", "mqtt")
LOCAL_OUTPUTS = ("log",)


def check(table: dict[str, Any], what: str) -> None:
    """Raise StopError naming the first key that leads out of this machine."""
    for key, value in _texts(table, ""):
        if why := _leads_out(key, value):
            raise StopError(f"{what}: key '{key}' would reach {why} in a rehearsal; nothing was started")
    for kind, known in (("source", LOCAL_SOURCES), ("output", LOCAL_OUTPUTS)):
        for name, entry in table.get(kind, {}).items():
            if entry.get("type") not in known:
                raise StopError(
                    f"{what}: [{kind}.{name}] of type {entry.get('type')!r} was not replaced; nothing was started"
                )


def _leads_out(key: str, value: str) -> str:
    parts = key.split(".")
    if parts[0] == "asset":
        return ""  # names of columns; an asset reads only what a source of the table gives
    if any(_host(url) not in HOSTS for url in _URL.findall(value)):
        return "another machine"
    if _DEVICE.match(value):
        return f"the device {value}"
    if parts[-1].split("[")[0] in _ADDRESS_KEYS and parts[0] in ("agent", "aggregator"):
        host = value.rpartition(":")[0].strip("[]") if ":" in value else value
        return "" if host in HOSTS else "beyond loopback"
    return ""


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _texts(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Every text of a table, with its dotted key."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _texts(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from _texts(inner, f"{key}[{i}]")
