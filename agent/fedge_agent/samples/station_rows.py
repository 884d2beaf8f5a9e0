# SPDX-License-Identifier: Apache-2.0
"""Try the first rows of a station's file: whether its verdicts can become labels of the asset at all. Pure."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from fedge_models.system import times

from ..config.schema import Inspection
from ..protocols.csv.lines import Row
from ..types import Label
from .inspection import Columns, Mistake, verdict_of

FEW = 10  # rows of other machines that say nothing yet
SHOWN = 5  # values


class Tried:
    """The rows of one asset's station. known: whether the asset's model knows a verdict; None: nobody can say."""

    def __init__(
        self, asset: str, where: Columns, config: Inspection, known: Callable[[str | float], bool] | None = None
    ) -> None:
        self._asset, self._where, self._config, self._known = asset, where, config, known
        self._latest_ns = time.time_ns() + times.DAY_NS

    def problems(self, rows: Sequence[Row]) -> Iterator[str]:
        """What keeps most of these rows from being used; some malformed rows stop nothing."""
        made = [(row, self._verdict(row)) for row in rows]
        wrong = [f"row {row.number}: {m.text}" for row, m in made if isinstance(m, Mistake)]
        if wrong and 2 * len(wrong) > len(rows):
            yield f"{len(wrong)} of the first {len(rows)} rows cannot be read: {wrong[0]}"
            return
        own = [(row, m) for row, m in made if isinstance(m, Label)]
        if not own and (text := self._others(rows)):
            yield text
        if own and self._known is not None and not any(self._known(label.value) for _, label in own):
            row, label = own[0]
            yield (
                f"the model knows none of the verdicts in the first {len(rows)} rows, e.g. row {row.number}: "
                f"{label.value!r}; asset.{self._asset}.label.map turns them into labels"
            )

    def _verdict(self, row: Row) -> Label | Mistake | None:
        line = self._where.delimiter.join(row.cells)
        made = verdict_of(self._asset, row.cells, line, self._where, self._config)
        if isinstance(made, Label) and self._where.times is not None and made.start_ns > self._latest_ns:
            return Mistake(f"it begins {times.shown(made.start_ns)} UTC, which is more than a day ahead")
        return made

    def _others(self, rows: Sequence[Row]) -> str:
        """Words when no row is of this machine, by the column whose values are others."""
        for (column, wanted), (at, _) in zip(self._config.only.items(), self._where.only, strict=True):
            there = dict.fromkeys(row.cells[at].strip() for row in rows if len(row.cells) > at)
            if wanted not in there and (len(rows) >= FEW or any(_alike(wanted, value) for value in there)):
                shown = ", ".join(map(repr, list(there)[:SHOWN]))
                return f"column {column!r}: none of the first {len(rows)} rows has {wanted!r} (only); there is: {shown}"
        return ""


def _alike(one: str, other: str) -> bool:
    """Whether two values may mean the same machine, as 04 and 4 do."""
    return one.casefold().lstrip("0") == other.casefold().lstrip("0")
