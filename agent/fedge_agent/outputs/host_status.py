# SPDX-License-Identifier: Apache-2.0
"""What `status` shows of an output's queue: how much waits since when, what fails, and what a person has to do. Pure
but for reading the spool."""

from __future__ import annotations

from typing import Any

from ..durable.event_queue import MAX_EVENTS, EventQueue
from ..machines.condition_words import names
from .lanes import Lanes

MOST_SHOWN = 20  # failing assets on the status page
MOST_IN_WORDS = 3
PLAUSIBLE_S = 10 * 365 * 86400.0  # a longer wait is a clock that was put right
COMMAND = "fedge-agent order list"


def queue(spool: EventQueue, output: str, now: float) -> dict[str, Any]:
    """Counts of the spool, and the age of what waits longest, s (None: nothing waits, or a clock was put right)."""
    since = spool.oldest(output)
    return {**spool.counts(output), "held": spool.held(output), "oldest_s": age_s(since, now)}


def age_s(since: float | None, now: float) -> float | None:
    """Seconds since a time of this machine's clock; None when that clock was put right in between."""
    plausible = since is not None and since > 0 and 0 <= now - since < PLAUSIBLE_S
    return round(now - since, 1) if since is not None and plausible else None


def failing(lanes: Lanes, now: float, most: int | None = MOST_SHOWN) -> list[dict[str, Any]]:
    """The events that failed and are tried again, those with the most tries first. `now`: monotonic, s."""
    found = sorted(lanes.lanes.items(), key=lambda item: -item[1].tries)[:most]
    return [
        {
            "asset": asset,
            "id": lane.number,
            "tries": lane.tries,
            "next_s": round(lanes.wait_s(asset, now), 1),
            "answers": list(lane.answers),
        }
        for asset, lane in found
    ]


def in_words(found: list[dict[str, Any]]) -> str | None:
    """What fails, in one text that names together the assets with the same answer; None when nothing does."""
    alike: dict[str, list[dict[str, Any]]] = {}
    for entry in found:
        alike.setdefault(entry["answers"][-1], []).append(entry)
    texts = [f"{names(e['asset'] for e in those)}: {text} ({_tried(those)})" for text, those in alike.items()]
    more = len(texts) - MOST_IN_WORDS
    return "; ".join([*texts[:MOST_IN_WORDS], *([f"and {more} other answers"] if more > 0 else [])]) or None


def _tried(those: list[dict[str, Any]]) -> str:
    most = max(entry["tries"] for entry in those)
    return "tried once" if most == 1 else f"tried {'up to ' * (len(those) > 1)}{most} times"


def problems(found: dict[str, Any], error: str | None) -> list[str]:
    """Everything that needs a person."""
    made = [error] if error else []
    if found.get("problem"):
        made.append(str(found["problem"]))
    if count := found["refused"]:
        held = f" ({found['held']} cleared wait with them)" if found["held"] else ""
        made.append(f"{count} set aside{held}; look at them with: {COMMAND}")
    if count := found["overflowed"]:
        made.append(f"{count} lost: more than {MAX_EVENTS} waited")
    for key, ids in found.get("duplicates", {}).items():
        made.append(f"{key} has several orders: {ids}; close all but one")
    return made
