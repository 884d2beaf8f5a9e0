# SPDX-License-Identifier: Apache-2.0
"""Text from outside, made safe to show."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text with everything escaped that a terminal would obey or hide: control characters, marks of direction.

    A name of a server or of a message must not clear the screen, colour a line or look like another one.
    """
    return text if text.isprintable() else "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
