# SPDX-License-Identifier: Apache-2.0
"""What `fedge-agent status` and `fedge-agent question` say of questions. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from fedge_models.system.text import counted

from ..samples.question import ANSWERED, EXPIRED, LABELLED, LOST, OPEN, SKIPPED, Question

SHOWN = 5  # open questions that get a line each in the status
OVER = {
    ANSWERED: "answered",
    SKIPPED: "skipped",
    EXPIRED: "too late",
    LABELLED: "labelled by something else",
    LOST: "of windows that are no longer stored",
}


def of_status(table: Mapping[str, Any]) -> Iterator[str]:
    """Lines of the status: the open questions, then the counts."""
    waiting = table["open"]
    for entry in waiting[:SHOWN]:
        yield f"question {entry['id']}: {entry['text']}; answer: {entry['how']}"
    if len(waiting) > SHOWN:
        yield f"and {counted(len(waiting) - SHOWN, 'question')} more: fedge-agent question list"
    if said := _counts(table["counts"]):
        yield f"questions: {said}"


def _counts(counts: Mapping[str, Mapping[str, int]]) -> str:
    asked = counts.get("asked", {})
    if not asked:
        return ""
    by = ", ".join(f"{reason} {n}" for reason, n in sorted(asked.items()))
    over = [f"{n} {words}" for state, words in OVER.items() if (n := sum(counts.get(state, {}).values()))]
    return ", ".join([f"{sum(asked.values())} asked ({by})", *over])


def of_list(questions: Sequence[Question], everything: bool, notes: Mapping[str, str]) -> Iterator[str]:
    """Lines of `question list`; notes: why each model asks nothing now."""
    shown = [q for q in questions if everything or q.state == OPEN]
    for q in shown:
        yield f"{q.id}  {q.text}"
        yield f"    answer with {q.answers}" if q.state == OPEN else f"    {OVER[q.state]} {q.answer}".rstrip()
    yield from _advice(shown, len(questions) - len(shown))
    yield from (f"model {name} asks nothing now: {why}" for name, why in sorted(notes.items()))


def _advice(shown: Iterable[Question], earlier: int) -> Iterator[str]:
    if any(q.state == OPEN for q in shown):
        yield "answer: fedge-agent question answer NUMBER LABEL; cannot be known: fedge-agent question skip NUMBER"
    else:
        more = f"; {earlier} earlier: fedge-agent question list --all" if earlier else ""
        yield f"no question waits for an answer{more}"
