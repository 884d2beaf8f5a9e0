# SPDX-License-Identifier: Apache-2.0
"""Numbers as a table writes them: decimal comma, groups of three digits. A wrong group is no number. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable

from .form import TableForm

Read = Callable[[str], float | None]
SPACES = " \u00a0\u202f"  # of thousands: also those without a break
QUOTES = "'\u2019"


def reader(form: TableForm) -> Read:
    """What reads one cell without spaces around it: a finite number, or None."""
    if form.thousands:
        return _grouped(form.decimal, form.thousands)
    return plain if form.decimal == "." else _with_comma


def plain(text: str) -> float | None:
    """A finite number as machines write it: no 1_000, no digits of other scripts."""
    try:
        value = float(text)
    except ValueError:
        if text[:2] not in ("+ ", "- "):
            return None
        return plain(text[0] + text[1:].lstrip())  # a sign at the edge of its column
    if value - value != 0.0 or "_" in text or not text.isascii():
        return None
    return value


def exact(text: str, read: Read) -> float | None:
    """The same, but an integer stays exact: nanoseconds since 1970 have 19 digits."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else read(text)


def _with_comma(text: str) -> float | None:
    return None if "." in text else plain(text.replace(",", "."))


def _grouped(decimal: str, thousands: str) -> Read:
    signs = {" ": SPACES, "'": QUOTES}.get(thousands, thousands)
    # No group begins with 0: "0.200" is a fraction of another style.
    groups = re.compile(rf"[+-]?(?:[1-9]\d{{0,2}}(?:[{signs}]\d{{3}})+|\d+)(?:{re.escape(decimal)}\d*)?", re.ASCII)
    ungrouped = plain if decimal == "." else _with_comma
    removed = {ord(sign): None for sign in signs} | {ord(decimal): "."}

    def read(text: str) -> float | None:
        if groups.fullmatch(text):
            return plain(text.translate(removed))
        return None if any(sign in text for sign in signs) else ungrouped(text)

    return read


def instead_of_words(value: object, channel: str) -> str:
    """Say what to do when a channel reads words, such as a product's type; empty for a value that may be a number."""
    if not isinstance(value, str) or any(c.isdigit() for c in value):
        return ""
    name = channel if channel.isidentifier() else f"`{channel}`"
    return (
        "; a channel is a number. For categories give a number for each word, alike in tables and from the machine. On "
        f'the card, a formula for each makes columns of 0 and 1: derive = {{ category_1 = "{name} == 1" }}, with '
        "input = false for the channel"
    )
