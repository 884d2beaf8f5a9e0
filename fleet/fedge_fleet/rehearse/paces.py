# SPDX-License-Identifier: Apache-2.0
"""How fast a rehearsal runs: the replay, and what a gateway does by its own clock. Pure."""

from __future__ import annotations

from collections.abc import Iterable

REPLAY_S = 180.0  # how long the longest recording takes, where nothing else is said
MOST_VALUES = 2000.0  # values a second of all gateways, where nothing else is said: two small cores keep up
POLL_S = 1.0  # at most, between two questions for a release
LEAST_POLL_S = 0.2
LEAST_INTERVAL_S = 1.0  # between two trainings
DEADLINE_S = 20.0  # of a round, at most, but never more than the user's


def speed(spans_s: Iterable[float], values: int, limit_s: float | None) -> float:
    """How many times real time: the longest recording in `REPLAY_S`, or half of the limit; never slower than 1."""
    longest = max(spans_s, default=0.0)
    wanted = longest / min(REPLAY_S, limit_s / 2 if limit_s else REPLAY_S)
    affordable = MOST_VALUES * longest / values if values else wanted
    return float(max(1, round(min(wanted, affordable))))


def interval_s(own_s: float, speed: float, replay_s: float, rounds: int) -> float:
    """Time between two trainings: as much faster as the replay, and so that the rounds fit into it."""
    return max(LEAST_INTERVAL_S, min(own_s, own_s / speed, replay_s / (rounds + 2)))


def poll_s(own_s: float, speed: float) -> float:
    """Time between two questions for a newer release."""
    return max(LEAST_POLL_S, min(own_s, own_s / speed, POLL_S))


def deadline_s(own_s: float) -> float:
    """Time after a round's first update; gateways train as slowly as ever, so the speed does not count."""
    return min(own_s, DEADLINE_S)
