# SPDX-License-Identifier: Apache-2.0
"""One parser of time stamps for whatever comes from outside, on every Python."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone

import pytest
from fedge_models.system import times
from hypothesis import given
from hypothesis import strategies as st

S = 10**9
T0 = 1_700_000_000 * S  # 2023-11-14 22:13:20 UTC
EAST = timezone(timedelta(hours=2))


@pytest.mark.parametrize(
    ("value", "ns"),
    [
        (1.7e9, T0), ("1700000000", T0), (1.7e12, T0), (1.7e15, T0), (1.7e18, T0), ("2023-11-14T22:13:20Z", T0),
        ("1700000000000000001", T0 + 1), (" 2023-11-14 22:13:20 ", T0), ("2023-11-14 22:13:20 UTC", T0),
        ("2023-11-14 22:13:20 +0000 UTC", T0), ("2023-11-14 22:13:20 GMT", T0),
        (0.0, None), (100, None), ("2023-11-14 22:13", T0 - 20 * S),
        ("2023-11-14T22:13:20.250+00:00", T0 + S // 4), ("2023-11-15T00:13:20+02:00", T0),
        ("2023-11-15T00:13:20+02", T0), ("2023-11-15T00:13:20+0200", T0), ("20231115T001320+0200", T0),
        ("2023-11-14 17:13:20,25 -05:00", T0 + S // 4), ("2023-11-15T00:13:50+02:00:30", T0),
        ("2023-11-14T22:13:20z", T0),
        ("2023-11-14T22:13:20.123456789Z", T0 + 123456789), ("20231114T221320Z", T0), ("2023-11-14T22", T0 - 800 * S),
        ("2023-11-14", T0 - 80_000 * S), ("1970-01-01", 0), ("2050-11-24T08:00:00Z", None),
        ("", None), ("14.11.2023", None), (-1.0, None), (float("nan"), None), (float("inf"), None), ("1e400", None),
        (1e30, None), (10**400, None), ("9999-12-31T23:59:59", None), ("0001-01-01T00:00:00", None), ([], None),
        ("0001-01-01T00:00:00+05:00", None), (None, None), (True, None), ("1_700_000_000", None), ("१७००", None),
        ("2023-11-14T22:13:20+24:00", None), ("2023-11-14T22:13:20+02:60", None), ("2023-11-14T2213:20", None),
        ("2023-11-14T22:13:60Z", T0 + 40 * S), ("2023-11-14T24:00:00Z", T0 + 6400 * S), ("2023-11-14T24:00:01Z", None),
            ("2023-02-30T00:00:00Z", None),
        ("2023-11-14T22:13:20Z'; DROP TABLE labels", None),
    ],
)  # fmt: skip
def test_a_time_is_read_or_refused_and_nothing_else(value: object, ns: int | None) -> None:
    if ns is not None:
        assert times.parse(value, None) == ns
        return
    with pytest.raises(ValueError, match=r"neither ISO 8601 nor Unix seconds|out of range"):
        times.parse(value, None)


def test_a_number_of_another_unit_is_out_of_range_and_not_a_time_far_away() -> None:
    assert times.parse(1_700_000_000_000, "ms") == times.parse("1700000000") == T0
    with pytest.raises(times.OutOfRangeError, match="1700000000000 is out of range: expected 1970 to 20"):
        times.parse(1_700_000_000_000)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (46350.5, "would be 1970-01-01 12:52:30; expected 2000 to 20"),
        (46350.5, "its unit may be 'excel'$"),
        (738_000.25, "its unit may be 'matlab'$"),
        ("3782844800", "would be 2089-11-14 .*; its unit may be 'labview'$"),
        (133_444_736_000_000_000, "its unit may be 'filetime'$"),
        (638_355_968_000_000_000, "would be 1990-.*; its unit may be 'ticks'$"),
        (721_692_800, "would be 1992-.*; its unit may be 'since-2000' or 'since-2001'$"),
        (20231114221320, "its digits look like a date: send it as ISO 8601"),
        ("20231114", "its digits look like a date"),
        (4_000_000_000, "would be 2096-10-02"),
    ],
)
def test_a_number_that_is_no_unix_time_of_our_days_is_refused_with_what_it_may_be(value: object, words: str) -> None:
    with pytest.raises(times.OutOfRangeError, match=words):
        times.parse(value, None)


@pytest.mark.parametrize(
    ("value", "unit"),
    [
        (T0 / 86_400e9 + 25_569, "excel"), (T0 / 86_400e9 + 719_529, "matlab"), (T0 // S + 2_082_844_800, "labview"),
        (T0 // S - 946_684_800, "since-2000"), (T0 // S - 978_307_200.0, "since-2001"),
        ((T0 // S + 11_644_473_600) * 10**7, "filetime"), (f"{(T0 // S + 62_135_596_800) * 10**7}", "ticks"),
        (T0, "ns"),
    ],
)  # fmt: skip
def test_a_count_from_another_moment_is_read_where_its_unit_is_said(value: object, unit: times.Unit) -> None:
    assert times.parse(value, unit) == T0


def test_the_latest_year_is_the_next_one_of_a_clock_that_can_be_right(monkeypatch: pytest.MonkeyPatch) -> None:
    for now, latest in ((0.0, "2056-01-01"), (1.0e9, "2056-01-01"), (1_795_507_200.0, "2028-01-01")):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        assert times.shown(times.latest_ns()).startswith(latest)
        assert times.is_sensible(times.latest_ns() - 1) and not times.is_sensible(times.latest_ns())
    with pytest.raises(times.OutOfRangeError, match="would be 2028-01-01 00:00:00 UTC, which is out of range: expected "
                       "1970 to 2027 by this machine's clock, 20"):  # fmt: skip
        times.parse("2028-01-01T00:00:00Z")


def test_a_zone_counts_only_for_text_that_names_none() -> None:
    assert times.parse("2023-11-15 00:13:20", zone=EAST) == times.parse("2023-11-14T22:13:20Z", zone=EAST) == T0
    assert times.parse("2023-11-14T22:13Z", zone=EAST) == T0 - 20 * S
    with pytest.raises(ValueError, match=r"'Mars/Olympus' is not known here, e\.g\. Europe/Berlin"):
        times.find_zone("Mars/Olympus")
    assert times.parse("2023-07-01 12:00", zone=times.find_zone("Europe/Berlin")) == times.parse("2023-07-01 10:00")


@given(st.datetimes(datetime(1970, 1, 1), datetime(2026, 1, 1)))
def test_what_a_program_writes_is_read_to_the_microsecond(moment: datetime) -> None:
    since = moment - datetime(1970, 1, 1)
    expected = ((since.days * 86400 + since.seconds) * 10**6 + since.microseconds) * 1000
    for text in (moment.isoformat(), f"{moment.isoformat(sep=' ')}Z"):
        assert times.parse(text) == times.of(moment) == expected


@given(st.one_of(st.text(), st.floats(), st.integers(), st.none(), st.booleans()))
def test_whatever_comes_is_a_sensible_time_or_an_error_in_words(value: object) -> None:
    try:
        assert 0 <= times.parse(value, None) < times.latest_ns()
    except ValueError as e:
        assert str(e).startswith("time stamp ") and len(str(e)) < 300


def test_any_time_can_be_shown() -> None:
    assert times.shown(T0 + 1) == "2023-11-14 22:13:20" and times.shown((1 << 63) - 1) == "2262-04-11 23:47:16"
    assert times.shown(1 << 80).endswith(" ns")
