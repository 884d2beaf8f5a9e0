# SPDX-License-Identifier: Apache-2.0
"""What `fedge-agent order` prints. Pure; the clock is passed in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from ..durable.event_desk import Held, Order
from ..durable.event_queue import Outcome
from ..machines.condition_words import duration
from ..outputs.host_status import age_s

WIDEST = 300  # characters of an error in the list
_PARTS = {"waiting": (Outcome.WAITING,), "set aside": (Outcome.SET_ASIDE,), "held": (Outcome.HELD,)}
_DONE = (Outcome.DELIVERED, Outcome.SKIPPED, Outcome.DROPPED, Outcome.WITHHELD)
_EMPTY = {
    "waiting": "nothing waits",
    "set aside": "nothing is set aside",
    "done": "nothing was delivered yet; events come when a machine is in alarm: fedge-agent status",
}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


def parts(orders: Sequence[Order], recent: int) -> dict[str, list[Order]]:
    """Orders by what a person can do about them; of those that are done only the newest."""
    made = {name: [o for o in orders if o.outcome in outcomes] for name, outcomes in _PARTS.items()}
    done = sorted((o for o in orders if o.outcome in _DONE), key=lambda o: (o.ended, o.id))
    return {**made, "done": done[max(0, len(done) - recent) :]}


def listing(
    found: Mapping[str, Sequence[Order]], tried: Mapping[int, Mapping[str, Any]], now: float, config: str
) -> Iterator[str]:
    """The lines of the list: a heading for each part, and a line an order."""
    for name, orders in found.items():
        if orders:
            yield f"{name}:"
            for order in orders:
                yield f"  {_line(order, tried.get(order.id), now)}"
        elif name in _EMPTY:
            yield _EMPTY[name]
    if found["set aside"]:
        tail = f"--config {config}"
        yield f"look at one: fedge-agent order show NUMBER {tail}"
        yield f"then: fedge-agent order retry NUMBER {tail}, or: order drop NUMBER --reason TEXT {tail}"


def details(order: Order, live: Mapping[str, Any] | None, request: Any, now: float) -> Iterator[str]:
    """One order in full."""
    yield f"{named(order)}: {order.name}{_age(order, now)}"
    if order.reference:
        yield f"  at the target: {plain(order.reference)}"
    if order.text:
        yield f"  {'reason' if order.outcome == Outcome.DROPPED else 'because'}: {plain(order.text)}"
    if live:
        yield f"  tried {_times(live['tries'])}; again in {duration(live['next_s'])}"
    answers = live["answers"] if live else order.answers
    if answers:
        yield "  last answers:"
        yield from (f"    {plain(text)}" for text in answers)
    yield "  what is sent (*** hides secrets):"
    text = msgspec.json.format(msgspec.json.encode(request), indent=2).decode()
    yield from (f"    {line}" for line in text.splitlines())


def named(order: Order) -> str:
    """An order's number, output and event."""
    return f"{order.id} {order.output} {plain(order.key)} {order.state}"


def plain(text: str) -> str:
    """Text of a target or machine on one line, without what a terminal would take for a command."""
    return _CONTROL.sub(" ", text)


def _line(order: Order, live: Mapping[str, Any] | None, now: float) -> str:
    error = live["answers"][-1] if live else order.text
    tries = f", tried {_times(live['tries'])}" if live else ""
    outcome = "" if order.outcome in (Outcome.WAITING, Outcome.SET_ASIDE) else f", {order.name}"
    name = f" as {plain(order.reference)}" if order.reference else ""
    text = f": {plain(error)[:WIDEST]}" if error else ""
    return f"{named(order)}{outcome}{name}{_age(order, now)}{tries}{text}"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _age(order: Order, now: float) -> str:
    """How long an order waits, or since when it is as it is."""
    age = age_s(order.noted if order.outcome == Outcome.WAITING else order.ended, now)
    if age is None:
        return ""
    return f", for {duration(age)}" if order.outcome == Outcome.WAITING else f", {duration(age)} ago"


def of_memory(held: Held, program: str) -> str:
    """What to say of a list that the running agent gave because its file cannot be written."""
    missing = "" if held.whole else "; those of the file itself are missing in this list"
    return (
        f"PROBLEM {plain(held.problem)}; {program} holds these orders in memory, and delivers them from there{missing}"
    )
