# SPDX-License-Identifier: Apache-2.0
"""What `fedge-agent status` and `fedge-agent event list` say of events: what is withheld, shelved, noted. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from fedge_models.system import times
from fedge_models.system.text import counted

from ..machines.condition_words import names
from ..samples.event_table import Note, Row, Shelf

DECIDED = {"": "", "fault": "a fault", "normal": "accepted as normal"}
ALONE = 5  # events that get a line each
SHORT = 40  # characters of an operator's comment in a table


def of_status(book: Mapping[str, Any]) -> list[str]:
    """Lines of the status."""
    withheld = {key: n for key, n in book["withheld"].items() if n}
    made = []
    if withheld:
        of = f"event {next(iter(withheld))}" if len(withheld) == 1 else f"{len(withheld)} events ({names(withheld)})"
        made.append(
            f"{counted(book['withheld_windows'], 'window')} of {of} withheld from training until somebody decides: "
            "fedge-agent event ack KEY (a fault) or event accept KEY (the new normal)"
        )
    if book["read_again"]:
        made.append(f"{counted(book['read_again'], 'event')} of rows that were read before, with the same keys")
    if book["trimmed"]:
        made.append(f"withheld windows deleted, as an alarm lasts very long: {book['trimmed']:,}")
    return [*made, *(_shelf(Shelf(**shelf)) for shelf in book["shelved"])]


def of_list(
    rows: Sequence[Row], notes: Sequence[Note], shelves: Sequence[Shelf], withheld: Mapping[str, int], everything: bool
) -> list[str]:
    """The table of events."""
    shown = [row for row in rows if everything or row.waits]
    if not shown:
        earlier = f"; {len(rows)} earlier ones: fedge-agent event list --all" if rows else ""
        return [*map(_shelf, shelves), f"no event waits for anybody{earlier}"]
    return [*map(_shelf, shelves), *_table(shown, notes, withheld), *_advice(shown)]


def _table(rows: Sequence[Row], notes: Sequence[Note], withheld: Mapping[str, int]) -> Iterator[str]:
    cells: list[tuple[str, ...]] = [("EVENT", "SINCE", "STATE", "SEVERITY", "SCORE", "WITHHELD", "SEEN BY", "COMMENT")]
    cells += [_cells(row, notes, withheld) for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    for row in cells:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _cells(row: Row, notes: Sequence[Note], withheld: Mapping[str, int]) -> tuple[str, ...]:
    state = "open" if row.cleared_ns is None else "cleared"
    score = ("-" if row.worst is None else f"{row.worst:.4g}") + (
        f" of {row.threshold:.4g}" if row.threshold is not None and row.worst is not None else ""
    )
    said = [note.text for note in notes if note.key == row.key and note.text]
    return (
        row.key,
        times.shown(row.opened_ns),
        state + ("" if row.sent else ", shelved") + (", provisional" if row.provisional else ""),
        row.severity,
        score,
        f"{withheld.get(row.key, 0):,}",
        (row.who if row.acknowledged is not None else "-") + (f" ({DECIDED[row.verdict]})" if row.verdict else ""),
        (said[-1] if said else "")[:SHORT],
    )


def _advice(rows: Sequence[Row]) -> Iterator[str]:
    if any(row.acknowledged is None for row in rows):
        yield "acknowledge a fault: fedge-agent event ack EVENT; take it for normal: fedge-agent event accept EVENT"


def _shelf(shelf: Shelf) -> str:
    until = datetime.fromtimestamp(shelf.until).astimezone().isoformat(" ", "minutes")
    why = f": {shelf.text}" if shelf.text else ""
    return f"{shelf.subject}: shelved until {until} by {shelf.who}, {counted(shelf.suppressed, 'event')} not sent{why}"
