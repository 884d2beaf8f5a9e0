# SPDX-License-Identifier: Apache-2.0
"""Find names that nothing in a graph has yet."""

from __future__ import annotations

from collections.abc import Iterable


class FreeNames:
    """The names that are taken, and up to which number those of each stem are: thousands may have one stem."""

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = set(taken)
        self._last: dict[str, int] = {}

    def first(self, *names: str) -> str:
        """Take the first of these names that is free, else the last of them with a number."""
        made = next((name for name in names if name not in self._taken), "") or self._numbered(names[-1])
        self._taken.add(made)
        return made

    def _numbered(self, stem: str) -> str:
        number = self._last.get(stem, 2)
        while f"{stem}.{number}" in self._taken:
            number += 1
        self._last[stem] = number
        return f"{stem}.{number}"
