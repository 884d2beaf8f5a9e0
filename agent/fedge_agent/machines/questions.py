# SPDX-License-Identifier: Apache-2.0
"""A question as an event for the outputs: opened when it is asked, cleared when it needs no answer any more. Pure."""

from __future__ import annotations

import math

from ..samples.question import OPEN, Question
from ..types import QUESTION, Decision, Event


def event_of(asked: Question) -> Event:
    """The event of a question as it is now; its time is the end of the window, `since_ns` the beginning."""
    over = asked.state != OPEN
    decision = Decision(
        asset=asked.asset,
        model=asked.model,
        release=asked.release,
        time_ns=asked.end_ns,
        score=math.nan,
        threshold=math.inf,
        label=asked.label,
        missing=0.0,
        latency_s=0.0,
        context={"part": asked.part} if asked.part else {},
    )
    return Event(
        key=asked.key,
        state="cleared" if over else "opened",
        decision=decision,
        worst=math.nan,
        severity="low",
        since_ns=asked.start_ns,
        kind=QUESTION,
        reason=f"{asked.state} {asked.answer}".strip() if over else asked.text,
    )
