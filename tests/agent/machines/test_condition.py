# SPDX-License-Identifier: Apache-2.0
"""What an asset says of itself: it decides, or why it does not. An asset that cannot see never counts as normal."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from fedge_agent.machines.condition import Cause, Condition, Reason, Seen, SourceFacts, State
from fedge_agent.machines.condition_judge import judge, stale_after
from fedge_agent.machines.condition_words import clock, duration, likeness, merged, names, words
from fedge_agent.types import Quality, Reading
from fedge_agent.windows.facts import MANY, RECENT, ChannelFacts

MORNING_NS = 1_780_220_520 * 10**9  # 2026-05-31 09:42 UTC
MINUTE_NS = 60 * 10**9
FINE = SourceFacts()


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def channel(name: str, *values: Any, at: float = 0.0, quality: Quality = Quality.GOOD) -> ChannelFacts:
    """A channel that took these values, one a minute of source time, the last `at` so many monotonic seconds."""
    facts = ChannelFacts(name, "plc", name)
    for i, value in enumerate(values):
        usable = isinstance(value, float) and math.isfinite(value)
        facts.take(Reading(name, MORNING_NS + i * MINUTE_NS, value, quality), usable, at)
    return facts


def seen(*channels: ChannelFacts, now: float = 100.0, **more: Any) -> Seen:
    return Seen(channels, more.pop("sources", {"plc": FINE}), now, more.pop("began", 0.0), **more)


def test_an_asset_that_decides_says_nothing_more() -> None:
    found = judge(seen(channel("temp", 20.0, at=99), decided=98.0, limit=1.0))
    assert (found.state, found.problem, found.age_s, words(found)) == (State.DECIDING, False, 2.0, "")


def test_a_bad_tag_makes_an_asset_stale_since_when_it_is_bad() -> None:
    temp = channel("temp", 20.0, at=10)
    temp.take(Reading("temp", MORNING_NS + 60 * MINUTE_NS, math.nan, Quality.BAD), False, 20)
    temp.take(Reading("temp", MORNING_NS + 61 * MINUTE_NS, math.nan, Quality.BAD), False, 299)
    found = judge(seen(temp, now=300.0, decided=20.0, score=0.18, limit=1.0))
    assert found.state is State.STALE and found.problem
    assert words(found) == "no decision for 4 min: tag temp has been Bad since 10:42"


def test_a_good_value_after_a_bad_one_ends_it() -> None:
    temp = channel("temp", 1.0, quality=Quality.BAD)
    temp.take(Reading("temp", MORNING_NS + MINUTE_NS, 1.0), True, 0)
    assert temp.bad_since_ns is None and temp.bad == 1


def test_values_that_are_no_numbers_are_named_with_an_example() -> None:
    found = judge(seen(channel("press", *["12,5"] * 120, at=99)))
    assert found.state is State.WAITING and found.problem
    assert words(found) == "no decision yet: 120 of 120 values of press are not numbers, e.g. '12,5'"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (math.nan, "nan"),
        ("x" * 100, "'xxxxxxxxxxxxxxxxxxxxxxx…'"),
        ("\x1b[31m", "'\\x1b[31m'"),
        ("", "''"),
        (True, "True"),
    ],
)
def test_an_example_is_short_and_safe_to_print(value: Any, shown: str) -> None:
    assert channel("a", value).example == shown or isinstance(value, bool)


def test_times_of_another_century_are_said() -> None:
    source = SourceFacts(refused_times={"temp": (1440, 46_341_000_000 * 10**9)})
    found = judge(seen(channel("temp"), sources={"plc": source}))
    assert "1,440 of 1,440 times of temp are out of range, e.g. 3438-" in words(found) and found.problem


def test_a_source_that_never_connects_is_named_with_its_problem() -> None:
    source = SourceFacts({"connection": "opc.tcp://10.0.0.1:4840: no route to host"})
    found = judge(seen(channel("temp"), channel("press"), sources={"plc": source}))
    assert words(found) == "no decision yet: source plc is not connected: opc.tcp://10.0.0.1:4840: no route to host"
    assert found.problem and not found.learns


def test_the_first_minute_is_no_problem() -> None:
    found = judge(seen(channel("temp", 1.0, at=99), now=100.0, began=35.0, first_s=60.0, filled=(5, 60)))
    assert not found.problem and found.waits and words(found) == "no decision yet: 5 of 60 samples of the first window"


def test_of_two_channels_the_one_that_is_missing_is_named() -> None:
    found = judge(seen(channel("temp", 20.0, at=99), channel("press")))
    assert words(found) == "no decision yet: no reading of press from source plc yet"


def test_a_channel_that_falls_silent_is_named() -> None:
    found = judge(seen(channel("temp", 20.0, at=299), channel("press", 1.0, at=10), now=300.0, decided=20.0))
    assert words(found) == "no decision for 4 min: no reading of press from source plc for 4 min"


def test_windows_with_too_many_gaps_are_counted_and_the_worst_channel_named() -> None:
    missing = {"temp": 0.2, "press": 0.0}
    both = channel("temp", "x", 20.0, at=99), channel("press", 1.0, at=99)
    both[0].take_late(99)
    found = judge(seen(*both, windows=57, refused=57, missing=missing))
    assert words(found) == (
        "no decision yet: 57 of 57 windows have more gaps than max_missing allows: 20 % of temp is missing"
        " (of 3 readings 1 not numbers, e.g. 'x', 1 late)"
    )
    assert found.gaps == 1.0


def test_a_silent_source_that_sent_too_seldom_before_is_said_to() -> None:
    gaps = {"windows": 100, "refused": 100, "newest_refused": True, "missing": {"temp": 0.4}}
    found = judge(seen(channel("temp", 20.0, at=0), now=300.0, **gaps))
    assert found.problem and words(found) == (
        "no decision yet: 100 of 100 windows have more gaps than max_missing allows: 40 % of temp is missing; "
        "no reading of temp from source plc for 5 min"
    )


def test_a_time_that_stands_still_is_said() -> None:
    temp = channel("temp", 20.0, at=99)
    for _ in range(9):
        temp.take_late(149)
    found = judge(seen(temp, decided=50.0, now=150.0))
    assert "9 of 9 times of temp are not newer than 2026-05-31 09:42:00 UTC" in words(found)


def test_times_that_do_not_fit_are_said() -> None:
    temp = channel("temp", 20.0, at=99)
    for i in range(9):
        temp.note_doubt(Reading("temp", MORNING_NS + (86_400 + i) * 10**9, 20.0), 149)
    found = judge(seen(temp, decided=50.0, now=150.0))
    assert "9 of 9 times of temp do not fit those before them, e.g. 2026-06-01 09:42:08" in words(found)
    assert found.problem


def test_a_channel_behind_the_others_is_said_to_be_by_how_much() -> None:
    temp = channel("temp", 20.0, at=50)
    for _ in range(9):
        temp.take_behind(Reading("temp", MORNING_NS, 20.0), 3600 * 10**9, 149)
    found = judge(seen(temp, decided=50.0, now=150.0))
    assert "9 of 9 times of temp are up to 60 min behind those of the other channels" in words(found)


def test_a_first_window_that_is_complete_is_not_waited_for() -> None:
    full: dict[str, Any] = {"filled": (60, 60), "now": 150.0}
    stale = judge(seen(channel("temp", 20.0, at=149), decided=50.0, accepted=50.0, **full))
    assert words(stale) == "no decision for 100 s: no further window for 100 s"
    waits = Cause(Reason.BASELINE, detail="49 of 64 windows")
    assert "samples" not in words(judge(seen(channel("temp", 20.0, at=149), accepted=50.0, waits_for=waits, **full)))


def test_samples_of_many_machines_are_no_sum() -> None:
    some = [judge(seen(channel("t", 1.0, at=99), now=100.0, began=95.0, filled=(n, 60), first_s=60.0)) for n in (60, 7)]
    first = msgspec.structs.replace(some[1], causes=(Cause(Reason.WINDOW, count=59, total=60),))
    assert words(merged([first, some[1]])) == "no decision yet: 7 of 60 samples of the first window"


@pytest.mark.parametrize(
    ("score", "limit", "text"),
    [
        (math.nan, 1.0, "cannot alarm: the model's score is nan, no number"),
        (math.inf, 1.0, "cannot alarm: the model's score is inf, no number"),
        (0.1, math.nan, "cannot alarm: the limit that scores are compared with is nan"),
        (0.0, 0.0, "cannot alarm: the limit that scores are compared with is 0"),
        (0.0, -1.0, "cannot alarm: the limit that scores are compared with is -1"),
    ],
)
def test_what_cannot_alarm_is_blind(score: float, limit: float, text: str) -> None:
    found = judge(seen(channel("temp", 20.0, at=99), decided=99.0, score=score, limit=limit))
    assert (found.state, found.problem, words(found)) == (State.BLIND, True, text)


def test_a_model_that_only_estimates_needs_no_limit() -> None:
    found = judge(seen(channel("temp", 20.0, at=99), decided=99.0, limit=0.0, alarms=False))
    assert found.state is State.DECIDING


def test_a_baseline_is_waited_for_before_and_while_the_model_decides() -> None:
    progress = Cause(Reason.BASELINE, detail="43 of 240 min")
    before = judge(seen(channel("temp", 20.0, at=99), waits_for=progress, accepted=95.0))
    while_deciding = judge(seen(channel("temp", 20.0, at=99), decided=99.0, waits_for=progress))
    assert words(before) == "no decision yet: waiting for the baseline: 43 of 240 min"
    assert words(while_deciding) == "waiting for the baseline: 43 of 240 min"
    blocked = judge(seen(channel("temp", "12,5", at=99), waits_for=progress))
    assert blocked.learns and blocked.problem and "baseline: 43 of 240 min; 1 of 1 values of temp" in words(blocked)
    assert before.learns and while_deciding.learns and not before.problem and not while_deciding.problem


def test_what_does_not_pass_by_waiting_is_said_at_once_and_is_a_problem_soon() -> None:
    def at(now: float) -> Condition:
        return judge(seen(channel("temp", "12,5", at=now), now=now, first_s=3600.0, waits_for=Cause(Reason.MODEL)))

    early = judge(seen(channel("temp", "12,5", at=5), now=5.0, first_s=3600.0))
    later = judge(seen(channel("temp", "12,5", at=11), now=11.0, first_s=3600.0))
    assert "are not numbers" in words(early) and not early.problem and later.problem
    assert words(at(11.0)) == "no decision yet: waiting for a model"
    gappy = judge(seen(channel("temp", 1.0, at=11), now=11.0, first_s=3600.0, windows=5, refused=5))
    assert "5 of 5 windows have more gaps" in words(gappy) and not gappy.problem  # they began before the start
    gappy = judge(seen(channel("temp", 1.0, at=3620), now=3620.0, first_s=3600.0, windows=5, refused=5))
    assert "5 of 5 windows have more gaps" in words(gappy) and gappy.problem


def test_an_unread_channel_says_what_its_source_could_not_use() -> None:
    source = SourceFacts({"rows (time)": "column 'time': no time, row after row"})
    assert words(judge(seen(channel("temp"), sources={"plc": source}))).endswith(
        "yet: column 'time': no time, row after row"
    )
    counted = SourceFacts(counted=("12 malformed, e.g. 'x'",))
    assert words(judge(seen(channel("temp"), sources={"plc": counted}))).endswith("yet: 12 malformed, e.g. 'x'")
    other = SourceFacts({"press": "no such tag"})
    assert words(judge(seen(channel("temp"), sources={"plc": other}))).endswith("from source plc yet")


def test_a_dead_channel_of_many_is_a_problem_though_the_others_decide() -> None:
    dead = channel("temp", 20.0, at=1)
    dead.take(Reading("temp", MORNING_NS, math.nan, Quality.BAD), False, 2)
    found = judge(seen(dead, channel("press", 1.0, at=99), decided=99.0, limit=1.0, missing={"temp": 1.0}))
    assert found.state is State.DECIDING and found.problem
    assert words(found) == "decides without temp: tag temp has been Bad since 09:42"
    both = dead, channel("press", 1.0, at=99)
    passing = judge(seen(*both, decided=99.0, limit=1.0, missing={"temp": 1.0}, newest_refused=True))
    assert words(passing) == ""  # it does not decide without it: it is stale soon


@pytest.mark.parametrize(
    ("hop", "wait", "usual", "expected"),
    [(1.0, 5.0, None, 10.0), (10.0, 5.0, None, 35.0), (0.001, 0.0, None, 10.0), (1.0, 5.0, 60.0, 240.0)],
)
def test_stale_follows_the_pace_of_the_asset(hop: float, wait: float, usual: float | None, expected: float) -> None:
    assert stale_after(hop, wait, usual) == expected


def test_two_hundred_assets_with_bad_tags_make_one_line() -> None:
    those = []
    for i in range(200):
        tags = [ChannelFacts(f"t{k}", "plc", f"Fan{i}.T{k}") for k in range(3)]
        for tag in tags:
            tag.take(Reading(tag.tag, MORNING_NS, math.nan, Quality.BAD), False, 0)
        those.append(judge(seen(*tags, now=300.0, decided=20.0)))
    assert len({likeness(c) for c in those}) == 1
    line = words(merged(those))
    assert line.startswith("no decision for 4 min: tags t0 (Fan0.T0), ") and "and 595 more have been Bad" in line
    assert len(line) < 200


def test_values_outside_of_their_range_are_named() -> None:
    temp = channel("temp", 20.0, at=1)
    for _ in range(3):
        temp.note_outside(1e25)
        temp.take(Reading("temp", MORNING_NS, math.nan, Quality.BAD), False, 99)
    found = judge(seen(temp, decided=1.0))
    assert words(found) == "no decision for 99 s: 3 of 3 values of temp are outside of their range, e.g. 1e+25"


def test_different_problems_stay_apart() -> None:
    a = SourceFacts({"connection": "timed out"})
    b = SourceFacts({"connection": "login refused"})
    those = [judge(seen(channel("t"), sources={"plc": s})) for s in (a, b, FINE)]
    assert len({likeness(c) for c in those}) == 3


def test_a_condition_travels_as_json() -> None:
    temp = channel("temp", 1.0, quality=Quality.BAD)
    found = judge(seen(temp, now=300.0, decided=20.0))
    again = msgspec.json.decode(msgspec.json.encode(found), type=Condition)
    assert again == found and words(again) == words(found)


def test_times_and_names_are_short() -> None:
    assert [duration(s) for s in (0, 43.9, 119, 120, 3600, 7200, 172_800, 1e6)] == [
        "0 s", "43 s", "119 s", "2 min", "60 min", "2 h", "2 days", "11 days",
    ]  # fmt: skip
    assert names("abcdefg") == "a, b, c, d, e and 2 more" and names("abc") == "a, b, c"
    assert clock(MORNING_NS, MORNING_NS + MINUTE_NS) == "09:42"
    assert clock(MORNING_NS, MORNING_NS + 2 * 86_400 * 10**9) == "2026-05-31 09:42:00 UTC"


def far(name: str, step_s: float, at: float) -> ChannelFacts:
    """A channel whose readings are so far apart that each value ends before the next one comes."""
    facts = channel(name, *[20.0] * 5, at=at)
    for _ in range(4):
        facts.note_step(round(step_s * 1e9), 4e9)
    return facts


FAR = (
    "every 60 s, but a value counts for 3 s in a window of 5 s: read more often, or set window.max_hold to 60 s or more"
)


def test_readings_that_are_too_far_apart_are_named_with_their_step_and_what_to_set() -> None:
    tags = far("temp", 60.0, 99.0), far("press", 60.0, 99.0)
    found = judge(seen(*tags, holes=(4, 60.0), hold_s=3.0, first_s=5.0))
    assert (found.state, found.problem) == (State.WAITING, True)
    assert words(found) == f"no decision yet: temp, press come {FAR}"
    # Between two readings it is silent, which is no other fault; but for very long it is.
    assert words(judge(seen(*tags, now=190.0, holes=(4, 60.0), hold_s=3.0, first_s=5.0))) == words(found)
    silent = words(judge(seen(*tags, now=400.0, holes=(4, 60.0), hold_s=3.0, first_s=5.0)))
    assert silent == f"{words(found)}; no reading of temp, press from source plc for 5 min"
    one = words(judge(seen(*tags, holes=(1, 60.0), filled=(1, 5), hold_s=3.0, first_s=5.0)))
    assert one == "no decision yet: 1 of 5 samples of the first window"


def test_one_channel_that_comes_too_seldom_is_named_with_its_step() -> None:
    tags = channel("temp", 20.0, at=99.0), far("press", 60.0, 99.0)
    found = judge(seen(*tags, hold_s=3.0, first_s=5.0, windows=50, refused=46, missing={"press": 1.0}))
    text = words(found)
    assert found.problem and text.startswith("no decision yet: 46 of 50 windows have more gaps than max_missing allows")
    assert text.endswith(f": 100 % of press is missing, which comes {FAR}")
    deciding = seen(*tags, hold_s=3.0, first_s=5.0, decided=99.0, limit=1.0, missing={"press": 1.0})
    assert words(judge(deciding)) == f"decides without press: press comes {FAR}"


def test_a_reading_that_comes_in_time_ends_a_run_of_those_that_do_not() -> None:
    facts = far("temp", 60.0, 0.0)
    assert facts.step_s == 60.0
    facts.note_step(10**9, 4e9)
    assert facts.step_s == 0.0


def test_a_channel_whose_values_count_from_when_they_came_is_a_problem_until_they_come_in_time() -> None:
    temp, press = channel("temp", 20.0, at=99), channel("press", 1.0, at=99)
    for _ in range(MANY - 1):
        temp.note_lag(True, 29 * 10**9)
    assert not judge(seen(temp, press, decided=99.0, limit=1.0)).problem  # it may have been a slow network
    temp.note_lag(True, 29 * 10**9)
    found = judge(seen(temp, press, decided=99.0, limit=1.0))
    assert found.problem and found.well
    assert words(found).startswith("decides: 24 of the last 32 times of temp are up to 29 s behind those of the other")
    for _ in range(RECENT - MANY + 1):
        temp.note_lag(False)
    assert not judge(seen(temp, press, decided=99.0, limit=1.0)).problem
