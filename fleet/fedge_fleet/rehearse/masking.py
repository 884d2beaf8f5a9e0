# SPDX-License-Identifier: Apache-2.0
"""Show an address without the secrets that it may hold: no login, no query, no fragment, of a webhook no path. Pure."""

from __future__ import annotations

import re

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def address(text: str) -> str:
    """Show scheme, host and path of an address. Of a text that is no address, the first word."""
    found = _SCHEME.match(text)
    if found is None:
        return text.split(" ", maxsplit=1)[0] + (" …" if " " in text else "")
    rest = re.split(r"[?#]", text[found.end() :], maxsplit=1)
    host = rest[0].rpartition("@")[2]
    return found[0] + host + ("?…" if len(rest) > 1 else "")


def origin(text: str) -> str:
    """Show scheme and host of an address only: whoever knows the path of a webhook can post to it."""
    shown = address(text)
    found = _SCHEME.match(shown)
    if found is None:
        return shown
    host = re.split(r"[/?]", shown[found.end() :], maxsplit=1)
    return found[0] + host[0] + ("/…" if len(host) > 1 else "")
