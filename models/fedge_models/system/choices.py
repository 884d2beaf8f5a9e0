# SPDX-License-Identifier: Apache-2.0
"""Help for a name that is not among those there are."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

SHOWN = 20  # names in a message


def hint(name: object, names: Iterable[str], form: str = "{!r}", none: str = "none is configured") -> str:
    """The end of a message about an unknown name: the nearest one, or all that there are.

    form: how to write the nearest, for `str.format`; none: what to say when there are no names.
    """
    known = sorted(set(names))
    if isinstance(name, str) and (near := near_names(name, known, 1, 0.5)):
        return f"did you mean {form.format(near[0])}?"
    more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
    return f"expected one of: {', '.join(known[:SHOWN]) or none}{more}"


def near_names(name: str, names: Iterable[str], most: int, cutoff: float = 0.4) -> list[str]:
    """The names most like this one, the nearest first; cutoff: 0 takes all, 1 only equal ones."""
    return get_close_matches(name, list(names), n=most, cutoff=cutoff)
