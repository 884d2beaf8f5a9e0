# SPDX-License-Identifier: Apache-2.0
"""URLs from configurations, checked whole: a bracket or a port that is none raises only when it is looked at."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import SplitResult, urlsplit


def split_url(url: str, schemes: Collection[str]) -> SplitResult | None:
    """Split a URL with one of the schemes, a host, and a port from 0 to 65535 or none; None for any other text."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  # raises for one that is no number, or too large
        (parts.hostname or "").encode("idna")  # raises for "a..b", and for a label of more than 63 letters
    except ValueError:
        return None
    return parts if parts.scheme in schemes and parts.hostname else None
