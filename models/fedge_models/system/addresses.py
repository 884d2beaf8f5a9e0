# SPDX-License-Identifier: Apache-2.0
"""URLs from configurations: checked whole, and shown without the secrets that they may hold.

A bracket or a port that is none raises only when it is looked at. A secret may be in every part but scheme and host:
whoever knows the path of a webhook can post to it, and names, passwords and tokens stand before the host and in
queries.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import SplitResult, quote, unquote, unquote_plus, urlsplit


def split_url(url: str, schemes: Collection[str]) -> SplitResult | None:
    """Split a URL with one of the schemes, a host, and a port from 0 to 65535 or none; None for any other text."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  # raises for one that is no number, or too large
        (parts.hostname or "").encode("idna")  # raises for "a..b", and for a label of more than 63 letters
    except ValueError:
        return None
    return parts if parts.scheme in schemes and parts.hostname else None


HIDDEN = "/***"
SHORT = 3  # characters
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_REST = re.compile(r"[/\\?#]")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.%]*\]|[^:\[\]\s]*)(:[0-9]*)?")


def shown(url: str) -> str:
    """Scheme, host and port of a URL, for everything that is printed, logged or sent; /*** stands for the rest.

    A text without a scheme is taken for a URL that lacks it. Where a name or password is not escaped, so that it cannot
    be told from the host, the host is hidden too.
    """
    found = _SCHEME.match(url)
    scheme = found[0] if found else ""
    host, *more = _REST.split(url[len(scheme) :], maxsplit=1)
    _, at, host = host.rpartition("@")
    if _HOST.fullmatch(host) is None or (at and more and "@" in more[0]):
        return f"{scheme}***"
    return scheme + host + (HIDDEN if more and more[0].strip("/") else "")


def shown_device(text: str) -> str:
    """The device, file or URL that a source reads, without secrets; of a pipeline, whose elements may take passwords,
    the first word."""
    if _SCHEME.match(text.strip()):
        return shown(text.strip())
    words = text.split(maxsplit=1)
    return f"{words[0]} …" if len(words) > 1 else text


def without_parts_of(url: str, text: str) -> str:
    """What a server says, with *** for what it repeats of the path and query of a URL, as written or decoded.

    Each segment and value by itself: servers quote one of them. Those of up to three characters stay, as they are in
    many words.
    """
    parts = urlsplit(url)
    written = [*parts.path.split("/"), *(pair.partition("=")[2] or pair for pair in parts.query.split("&"))]
    forms = {form for part in written for form in (part, quote(part, safe="%"), unquote(part), unquote_plus(part))}
    secrets = sorted((form for form in forms if len(form) > SHORT), key=len, reverse=True)
    return re.sub("|".join(map(re.escape, secrets)), HIDDEN[1:], text) if secrets else text
