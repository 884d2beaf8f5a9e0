# SPDX-License-Identifier: Apache-2.0
"""Say which columns hold parts of a time that are not put together: a year, a time of day, milliseconds. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from .strptime import Format

_YEAR = re.compile(r"year|jahr|año|ano|anno|année|annee|jaar|yyyy", re.I)
_MONTH = re.compile(r"month|monat|mes|mois|mese|mês|maand|mm", re.I)
_DAY = re.compile(r"day|tag|día|dia|jour|giorno|dag|dd", re.I)
_CLOCK = re.compile(r"time|zeit|uhr|hour|stunde|hora|heure|ora|clock|hms", re.I)
_FRACTION = re.compile(
    r"(?:.*[^a-z])?(?:ms|msec|millis?|milli-?sec\w*|millisek\w*|µs|us|micros?\w*|fraction)(?:[^a-z].*)?", re.I
)
_SMALL = re.compile(r"\d{1,6}")


def doubts(
    names: Sequence[str], columns: Sequence[Sequence[str]], kinds: Sequence[str], time_format: str | None
) -> Iterator[str]:
    """Words about parts of times; time_format: of the column of times, None: there is none."""
    numbers = [i for i, kind in enumerate(kinds) if kind == "number" and all(map(_SMALL.fullmatch, columns[i]))]
    if time_format is None:
        yield from _calendar([(names[i], columns[i]) for i in numbers])
        return
    if _is_date_only(time_format, next((c[0] for c, kind in zip(columns, kinds, strict=True) if kind == "time"), "")):
        for i in (i for i, kind in enumerate(kinds) if kind in ("number", "text")):
            if not columns[i] or not _CLOCK.search(names[i]):
                continue
            yield (
                f"column {names[i]!r} ({columns[i][0][:20]!r}) may be the time of day; it is not read, so all "
                "rows of a day have one time. Have it written as 08:00:00 or 080000"
            )
    for i in numbers:
        if _FRACTION.fullmatch(names[i]) and len(set(columns[i])) > 1:
            yield (
                f"column {names[i]!r} may be the fraction of the time's second; it is not added, so rows of one second "
                "have one time"
            )


def _calendar(numbers: Sequence[tuple[str, Sequence[str]]]) -> Iterator[str]:
    found = []
    for pattern, low, high in ((_YEAR, 0, 2200), (_MONTH, 1, 12), (_DAY, 1, 31)):
        fit = [n for n, c in numbers if pattern.fullmatch(n) and all(low <= int(cell) <= high for cell in c)]
        found += fit[:1]
    if len(found) > 1:
        listed = ", ".join(map(repr, found))
        yield (
            f"columns {listed} are parts of the time, which are not put together: rows are taken to be 1 s apart "
            "(rate_hz). Have it written in one column, or a date and a time"
        )


def _is_date_only(time_format: str, cell: str) -> bool:
    if "%" in time_format:
        return Format(time_format).has_date and not re.search("%[HISc]", time_format)
    return not time_format and bool(cell) and ":" not in cell and "T" not in cell and len(cell) <= 10 and "-" in cell
