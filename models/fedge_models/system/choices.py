"""Help for a name that is not among those there are."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def hint(name: object, names: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest one, or all that there are."""
    known = sorted(names)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5) if isinstance(name, str) else []
    return f"did you mean {near[0]!r}?" if near else f"expected one of: {', '.join(known) or 'none is configured'}"
