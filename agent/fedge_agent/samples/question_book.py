# SPDX-License-Identifier: Apache-2.0
"""The book of questions: what people are asked to label, until they answer or it is too late.

Promises: a question that `ask` returned from survives a power cut; the window that it is about is kept while it is
open; it is asked once. It ends when a label of exactly its window comes (by hand, or from the closing code of its
order), when something else labels the window, when somebody skips it, or when the machine has run on for `expire`. The
outputs hear that it was asked, and that it is over.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from fedge_models.errors import DataError, StorageError
from fedge_models.system.healing import HealingDatabase
from fedge_models.system.worker import Worker

from ..config.schema import Questions
from . import question_table
from .question import OPEN, SKIPPED, Question, why_not_now
from .tables import LAST_S, TableWriter, open_tables

LOOK_S = 1.0  # for answers, which other threads and processes write
DAY_S = 86_400.0


class QuestionBook(TableWriter):
    """All questions of the agent. Thread-safe. Without `start` it only stores: for `fedge-agent question`.

    asks: of each model, how it asks; tables: the file's acknowledged part, opened (and to be closed) by the book of
    events; send: gives the outputs a question that is open, or over; whether they have all that was sent before.
    """

    def __init__(
        self,
        path: Path,
        asks: Mapping[str, Questions] | None = None,
        beside: HealingDatabase | None = None,
        tables: HealingDatabase | None = None,
        send: Callable[[Question], None] = lambda _: None,
        sent_all: Callable[[], bool] = lambda: True,
    ) -> None:
        self._asks, self._send, self._sent_all = asks or {}, send, sent_all
        self._owns = tables is None
        opened = tables or open_tables(path, "questions", "EXTRA", beside, heals=beside is not None)
        super().__init__(opened, Worker("questions", self._round))
        self._questions: list[Question] = []
        self._read_from: object = None  # the connection whose questions these are
        self._asked_at: dict[str, deque[float]] = {}  # model -> when it asked in this run, monotonic s
        self._handed: dict[str, int] = {}  # key -> what was handed to the outputs in this run
        self.notes: dict[str, str] = {}  # model -> why it asks nothing now, in words
        with suppress(StorageError):
            self._load()

    def stop(self) -> None:
        """End the thread, and close what is its own."""
        self._worker.stop(LAST_S)
        if self._owns:
            self.tables.close()

    # who asks

    def note(self, model: str, text: str) -> None:
        """State why a model asks nothing now, in words."""
        self.notes = {**self.notes, model: text}

    def is_about(self, asset: str, start_ns: int, end_ns: int) -> bool:
        """Whether there is a question of exactly this time."""
        return any((q.asset, q.start_ns, q.end_ns) == (asset, start_ns, end_ns) for q in list(self._questions))

    def asks(self, model: str) -> Questions:
        """How a model asks."""
        return self._asks.get(model, Questions(a_day=0.0))

    def of(self, model: str) -> list[Question]:
        """The questions of a model, oldest first."""
        return [q for q in list(self._questions) if q.model == model]

    def why_not_now(self, model: str, newest_ns: int) -> str | None:
        """Why a model asks nothing now, in words; newest_ns: of its windows. A past that is read in minutes, of which
        each day would be asked about, gets the questions of the days that pass here."""
        if self.tables.in_memory:
            return "a question could not be stored: see the storage's problem"
        a_day, now = self.asks(model).a_day, time.monotonic()
        if sum(now - at < DAY_S for at in self._asked_at.get(model, ())) >= max(1.0, a_day):
            return "it has asked for today"
        return why_not_now(self.of(model), a_day, newest_ns)

    def ask(self, asked: Question) -> bool:
        """Store a question, durable on return; whether it is new. Raises StorageError."""
        with self.tables.transaction() as db:
            if self.tables.in_memory:
                raise StorageError(f"questions wait until they can be stored: {self.tables.problem}")
            new = question_table.insert(db, asked)
        self._asked_at.setdefault(asked.model, deque(maxlen=1000)).append(time.monotonic())
        self._load()
        self._worker.wake()
        return new

    # people; durable on return, raises StorageError and DataError

    def find(self, number: int) -> Question:
        """The open question of this number. Raises DataError."""
        self._settle()
        found = next((q for q in self._questions if q.id == number), None)
        if found is None or found.state != OPEN:
            is_ = "not there" if found is None else f"{found.state} {found.answer}".strip()
            waiting = ", ".join(str(q.id) for q in self._questions if q.state == OPEN) or "none"
            raise DataError(f"question {number} is {is_}; open ones: {waiting} (fedge-agent question list)")
        return found

    def skip(self, number: int, text: str) -> None:
        """End a question without an answer."""
        self.find(number)
        with self.tables.transaction() as db:
            question_table.close(db, number, SKIPPED, text)
        self._load()

    def listed(self) -> list[Question]:
        """All questions as they are now, oldest first. Raises StorageError."""
        self._settle()
        return list(self._questions)

    def status(self) -> dict[str, Any]:
        """For the status page."""
        found: dict[str, dict[str, int]] = {}
        with suppress(StorageError), self.tables.reading() as db:
            found = question_table.counts(db)
        waiting = [q for q in list(self._questions) if q.state == OPEN]
        return {
            "open": [{**q._asdict(), "how": how(q), "text": q.text} for q in waiting],
            "counts": found,
            "notes": dict(self.notes),
            "problem": self._worker.problem,
        }

    # the thread

    def _round(self) -> float:
        self._look()
        self._end_over()
        self._hand_over()
        return LOOK_S

    def _settle(self) -> None:
        """Read all questions, and end those that are answered or too late. Raises StorageError."""
        self._load()
        self._end_over()

    def _end_over(self) -> None:
        """End the questions that are answered or too late. Raises StorageError."""
        open_ = [q for q in self._questions if q.state == OPEN]
        if not open_:
            return
        with self.tables.reading() as db:
            now = [(q, question_table.outcome(db, q, round(self.asks(q.model).expire * 1e9))) for q in open_]
        ended = [(q, state, answer) for q, (state, answer) in now if state != OPEN]
        if ended and not self.tables.in_memory:
            with self.tables.transaction() as db:
                for q, state, answer in ended:
                    question_table.close(db, q.id, state, answer)
            self._load()

    def _hand_over(self) -> None:
        """Give the outputs what they lack; noted once they have it, so that a kill before that repeats it."""
        if self._handed and self._sent_all() and not self.tables.in_memory:
            with self.tables.transaction() as db:
                question_table.note_sent(db, self._handed.items())
            self._handed.clear()
            self._load()
        for q in list(self._questions):
            due = 1 if q.state == OPEN else 2 if q.sent or q.key in self._handed else 0
            if due > max(q.sent, self._handed.get(q.key, 0)):
                self._send(q)
                self._handed[q.key] = due

    def _load(self) -> None:
        with self.tables.reading() as db:
            self._questions, self._read_from = question_table.all_of(db), db

    def _look(self) -> None:
        """Read again what another process may have changed: the questions that are open, or not sent to the end."""
        with self.tables.reading() as db:
            if db is not self._read_from:
                self._load()
                return
            changing = [q.id for q in self._questions if q.state == OPEN or q.sent == 1]
            if changing:
                now, looked = {q.id: q for q in question_table.of_numbers(db, changing)}, set(changing)
                self._questions = [now.get(q.id, q) for q in self._questions if q.id in now or q.id not in looked]


def how(asked: Question) -> str:
    """The command that answers a question."""
    return f"fedge-agent question answer {asked.id} LABEL  ({asked.answers})"
