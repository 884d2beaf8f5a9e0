# SPDX-License-Identifier: Apache-2.0
"""The time of a server's answers goes on while their values change, also where their own stands still."""

from __future__ import annotations

import pytest
from fedge_agent.protocols.http.answer_clock import MOVES, STANDS_S, AnswerClock

T, S = 1_780_000_000 * 10**9, 10**9


def ask(clock: AnswerClock, times: list[float], every: float = 0.5, values: int = 1) -> list[float]:
    """The times of answers, s after T; each value comes so often."""
    made = [clock.take(T + round(t * S), [float(i // values)], i * every) for i, t in enumerate(times)]
    return [(m.time_ns - T) / S for m in made]


def test_a_time_that_moves_is_used_as_it_is() -> None:
    clock = AnswerClock()
    times = [0.5 * i + 3600 for i in range(50)]
    assert ask(clock, times) == times and not clock.stands


def test_a_time_that_stands_still_goes_on_with_the_time_that_passes_here() -> None:
    clock = AnswerClock()
    assert ask(clock, [0.0] * 50) == [0.5 * i for i in range(50)] and clock.stands


@pytest.mark.parametrize("step", [1.0, 5.0, 30.0])
def test_a_coarse_time_gives_each_value_one_of_its_own(step: float) -> None:
    clock = AnswerClock()
    found = ask(clock, [0.5 * i // step * step for i in range(200)])
    assert found == [0.5 * i for i in range(200)]
    assert clock.stands == (step > STANDS_S)


def test_a_poll_that_is_late_puts_no_time_back() -> None:
    clock = AnswerClock()
    clock.take(T, [1], 0.0)
    carried = clock.take(T, [2], 30.4)
    assert clock.take(T + 30 * S, [3], 30.9).time_ns == carried.time_ns + 1


def test_an_answer_that_is_the_one_before_is_no_newer() -> None:
    """It may come out of a cache."""
    clock = AnswerClock()
    assert ask(clock, [7.0] * 20, values=20) == [7.0] * 20 and not clock.stands


def test_a_value_that_stays_for_some_answers_has_the_time_of_its_change() -> None:
    clock = AnswerClock()
    assert ask(clock, [0.0] * 8, values=4) == [0.0] * 4 + [2.0] * 4


def test_a_clock_that_was_put_right_is_used_again() -> None:
    clock = AnswerClock()
    ask(clock, [0.0] * 20)
    assert clock.stands
    for i in range(MOVES):
        assert clock.stands
        at = T + 3600 * S + i * S
        assert clock.take(at, [i], 10.0 + i) == (at, False)
    assert not clock.stands


def test_a_clock_that_was_set_back_is_followed() -> None:
    clock = AnswerClock()
    assert ask(clock, [3600.0, 3600.5, 0.0, 0.5]) == [3600.0, 3600.5, 0.0, 0.5]
