# SPDX-License-Identifier: Apache-2.0
"""Guess the encoding of a text that is no UTF-8: by the scripts that its bytes give in each. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable

LOOKED_AT = 1 << 14  # bytes
_MOST = 0.9  # of the letters beyond ASCII
_HIGH = re.compile(rb"[\x80-\xff]+")
_UNDEFINED = {0x81, 0x8D, 0x8F, 0x90, 0x9D}  # in cp1252


def of_bytes(data: bytes) -> str:
    """The name of an encoding for bytes that are not UTF-8."""
    start = data[:LOOKED_AT]
    runs = _HIGH.findall(start)
    together = sum(map(len, runs)) / max(1, len(runs))  # letters of one script stand together, umlauts alone
    for name, least, fits in _SCRIPTS:
        if together >= least and _share(start, name, fits) >= _MOST:
            return name
    return "latin-1" if set(data) & _UNDEFINED else "cp1252"


def _share(start: bytes, name: str, fits: Callable[[str], bool]) -> float:
    """The share of letters beyond ASCII that are of the script; 0 when the bytes are not of the encoding."""
    try:
        text = start.decode(name)
    except UnicodeDecodeError as e:
        if e.start < len(start) - 4:
            return 0.0
        text = start[: e.start].decode(name)
    found = [c for c in text if c > "\x7f"]
    return sum(map(fits, found)) / len(found) if found else 0.0


def _is_ideograph(c: str) -> bool:
    return "\u4e00" <= c <= "\u9fff" or "\u3000" <= c <= "\u303f" or "\uff01" <= c <= "\uff5e" or c in "℃°％"


def _is_japanese(c: str) -> bool:
    return "\u3040" <= c <= "\u30ff" or _is_ideograph(c)


def _is_hangul(c: str) -> bool:
    return ("\uac00" <= c <= "\ud7a3" and _in(c, "euc-kr")) or c in "℃°％"


def _is_common_chinese(c: str) -> bool:
    """Of the 6,763 characters of GB 2312: rare ones are those of another encoding."""
    return _is_ideograph(c) and _in(c, "gb2312")


def _in(c: str, name: str) -> bool:
    """Whether a small set of common characters has this one."""
    try:
        return len(c.encode(name)) == 2
    except UnicodeEncodeError:
        return False


def _is_cyrillic(c: str) -> bool:
    return "\u0410" <= c <= "\u044f" or c in "ЁёІіЇїЄєҐґ°№"


# Name, bytes beyond ASCII that stand together on the average, what its letters are.
_SCRIPTS: tuple[tuple[str, float, Callable[[str], bool]], ...] = (
    ("cp949", 1.3, _is_hangul),
    ("cp932", 1.3, _is_japanese),
    ("gb18030", 1.3, _is_common_chinese),
    ("cp1251", 2.5, _is_cyrillic),
)
