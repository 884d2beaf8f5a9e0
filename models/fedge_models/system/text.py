# SPDX-License-Identifier: Apache-2.0
"""Text for people: counts in words, and text from outside made safe to show."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text with everything escaped that a terminal would obey or hide: control characters, marks of direction.

    A name of a server or of a message must not clear the screen, colour a line or look like another one.
    """
    return text if text.isprintable() else "".join(c if c.isprintable() else _escaped(c) for c in text)


def counted(count: int, what: str) -> str:
    """A count of things: "1 window", "2,000 windows undecided". what: begins with the word for one of them."""
    one, blank, rest = what.partition(" ")
    return f"{count:,} {one if count == 1 else f'{one}s'}{blank}{rest}"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
