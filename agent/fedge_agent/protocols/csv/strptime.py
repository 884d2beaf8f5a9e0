# SPDX-License-Identifier: Apache-2.0
"""Read times by a format of strptime, five times as fast as it: the format becomes one regular expression. Pure.

Beyond strptime, `%f` takes one to nine digits and cuts them to the nanosecond, month names are English or German in any
letter case, `%Z` is UTC alone, and the days of the last date are remembered.
"""

from __future__ import annotations

import re
from datetime import date

from fedge_models.system.times import DAY_NS

SECOND_NS = 10**9
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_MONTHS = (
    ("jan", "january", "januar", "jän"),
    ("feb", "february", "februar"),
    ("mar", "march", "mär", "märz", "mrz"),
    ("apr", "april"),
    ("may", "mai"),
    ("jun", "june", "juni"),
    ("jul", "july", "juli"),
    ("aug", "august"),
    ("sep", "september", "sept"),
    ("oct", "october", "okt", "oktober"),
    ("nov", "november"),
    ("dec", "december", "dez", "dezember"),
)
_MONTH_OF = {name: i for i, names in enumerate(_MONTHS, 1) for name in names}
_PARTS = {
    "Y": r"(?P<Y>\d{4})", "y": r"(?P<y>\d\d)", "m": r"(?P<m>\d\d?)", "d": r"(?P<d>\d\d?)", "H": r"(?P<H>\d\d?)",
    "I": r"(?P<I>\d\d?)", "M": r"(?P<M>\d\d?)", "S": r"(?P<S>\d\d?)", "f": r"(?P<f>\d{1,9})",
    "b": r"(?P<b>[^\W\d_]{3,9})\.?", "B": r"(?P<b>[^\W\d_]{3,9})", "p": r"(?P<p>[AaPp]\.?[Mm]\.?)",
    "z": r"(?P<z>[Zz]|[+-]\d\d:?\d\d)", "Z": r"(?P<Z>UTC|GMT|Z)", "j": r"(?P<j>\d{1,3})",
    "a": r"[^\W\d_]+\.?", "A": r"[^\W\d_]+", "%": "%",
}  # fmt: skip
_PACKED = {"m": r"(?P<m>\d\d)", "d": r"(?P<d>\d\d)", "H": r"(?P<H>\d\d)", "M": r"(?P<M>\d\d)", "S": r"(?P<S>\d\d)"}


def month_of(name: str) -> int:
    """The number of a month by its name; 0: it is none."""
    return _MONTH_OF.get(name.lower(), 0)


class Format:
    """One format. Raises ValueError for a directive that it does not know."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._pattern = re.compile(_expression(text), re.ASCII if text.isascii() and "%b" not in text.lower() else 0)
        named = self._pattern.groupindex.keys()
        self.has_date = bool({"Y", "y"} & named and (({"m", "b"} & named and "d" in named) or "j" in named))
        self._names = tuple(self._pattern.groupindex)
        self._day: tuple[str, ...] = ()  # what the last date was written as
        self._day_ns = 0
        self._of_day = [n for n in self._names if n in "Yymbdj"]

    def parse(self, text: str) -> tuple[int, int | None]:
        """Nanoseconds since 1970 of the local time, and its offset from UTC if it is written. Raises ValueError."""
        found = self._pattern.fullmatch(text)
        if found is None:
            raise ValueError(f"{text[:60]!r} is not written as {self.text!r}")
        parts = found.groupdict()
        day = tuple(map(parts.__getitem__, self._of_day))
        if day != self._day:
            self._day_ns = _day_ns(parts, text)
            self._day = day
        return self._day_ns + _of_day_ns(parts, text), _offset_ns(parts.get("z") or ("Z" if "Z" in parts else None))


def _expression(text: str) -> str:
    """The regular expression of a format; spaces stand for any number of them."""
    made, i = [], 0
    while i < len(text):
        if text[i] != "%":
            if not text[i].isspace():
                made.append(re.escape(text[i]))
            elif made[-1:] != [r"\s+"]:
                made.append(r"\s+")
            i += 1
            continue
        letter = text[i + 1 : i + 2]
        if letter not in _PARTS or not letter:
            raise ValueError(f"%{letter} is not known here; expected one of {' '.join(f'%{p}' for p in _PARTS)}")
        packed = text[i + 2 : i + 3] == "%" or text[i - 2 : i - 1] == "%"  # digits that nothing keeps apart
        made.append(_PACKED[letter] if packed and letter in _PACKED else _PARTS[letter])
        i += 2
    return "".join(made)


def _day_ns(parts: dict[str, str | None], text: str) -> int:
    if (short := parts.get("y")) is not None:
        year = int(short) + (2000 if int(short) < 69 else 1900)  # as POSIX
    else:
        year = int(parts["Y"] or 0)
    try:
        if (of_year := parts.get("j")) is not None:
            return (date(year, 1, 1).toordinal() + int(of_year) - 1 - _EPOCH_DAY) * DAY_NS
        name = parts.get("b")
        month = _MONTH_OF[name.lower()] if name is not None else int(parts["m"] or 0)
        return (date(year, month, int(parts["d"] or 0)).toordinal() - _EPOCH_DAY) * DAY_NS
    except (ValueError, KeyError):
        raise ValueError(f"{text[:60]!r} has a date that no calendar has") from None


def _of_day_ns(parts: dict[str, str | None], text: str) -> int:
    hour = int(parts.get("H") or 0)
    if (half := parts.get("I")) is not None:
        hour = int(half) % 12 + (12 if (parts.get("p") or "a")[0] in "pP" else 0)
    minute, second = int(parts.get("M") or 0), int(parts.get("S") or 0)
    if (hour > 23 and (hour, minute, second) != (24, 0, 0)) or minute > 59 or second > 60:
        raise ValueError(f"{text[:60]!r} has a time that no clock shows")
    fraction = int((parts.get("f") or "").ljust(9, "0") or 0)
    return ((hour * 60 + minute) * 60 + second) * SECOND_NS + fraction


def _offset_ns(text: str | None) -> int | None:
    if text is None:
        return None
    if text in "Zz":
        return 0
    minutes = int(text[1:3]) * 60 + int(text[-2:])
    return (-minutes if text[0] == "-" else minutes) * 60 * SECOND_NS
