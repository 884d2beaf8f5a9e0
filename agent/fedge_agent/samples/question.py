# SPDX-License-Identifier: Apache-2.0
"""A question to people: what was this machine in that window? And when the next one may be asked. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from fedge_models.system import times

from ..types import QUESTION

OPEN = "open"
ANSWERED, SKIPPED, EXPIRED = "answered", "skipped", "expired"
LABELLED = "labelled"  # something else gave the window its label
LOST = "lost"  # the window is stored no more, or made otherwise now
STATES = (OPEN, ANSWERED, SKIPPED, EXPIRED, LABELLED, LOST)
MOST_OPEN = 2  # days of questions that wait for an answer: while so many wait, no further one is asked


class Question(NamedTuple):
    """A question about one stored window. Times are source time, both ends included."""

    id: int  # by which it is answered; 0: not stored yet
    key: str  # of its event: the same window gives the same key
    model: str
    asset: str
    start_ns: int
    end_ns: int
    part: str  # what was made at the end of the window, if the asset says so
    label: str  # what the model says
    says: str  # the same with its doubt, in words
    reason: str  # what made it worth most: uncertain, novel, disagreeing
    why: str  # the same with figures, in words
    answers: str  # what may be answered, in words
    release: int
    asked_ns: int  # the model's newest window then, of whichever machine: one that stands still expires, too
    state: str = OPEN
    answer: str = ""
    sent: int = 0  # to outputs: 1 that it was asked, 2 that it is over

    @property
    def span(self) -> str:
        """When, in words."""
        day, end = times.shown(self.start_ns), times.shown(self.end_ns)
        until = end[11:] if end[:10] == day[:10] and len(end) == len(day) else end
        made = f", part {self.part}" if self.part else ""
        return f"{day} to {until} UTC{made}" if self.start_ns < self.end_ns else f"{day} UTC{made}"

    @property
    def text(self) -> str:
        """The question in words."""
        return f"what was {self.asset} from {self.span}? The model says {self.says}; asked because {self.why}"


def key_of(gateway: str, model: str, asset: str, end_ns: int) -> str:
    """The key of a question's event."""
    return f"{gateway}:{model}:{asset}:{QUESTION}-{end_ns}"


def why_not_now(earlier: Iterable[Question], a_day: float, newest_ns: int) -> str | None:
    """Why a model asks nothing now, in words; None: it may ask. earlier: its questions; newest_ns: of its windows.

    Questions are spread over the day: one for each part of it. Where the source clock was set back, the next one is due
    at once.
    """
    if a_day <= 0:
        return "questions.a_day is 0"
    questions = list(earlier)
    waiting = sum(q.state == OPEN for q in questions)
    if waiting >= max(1, round(MOST_OPEN * a_day)):
        return f"{waiting} wait for an answer"
    pause_ns = round(times.DAY_NS / a_day)
    since = min((newest_ns - q.asked_ns for q in questions if q.asked_ns <= newest_ns), default=pause_ns)
    return None if since >= pause_ns else "its next question is not due yet"
